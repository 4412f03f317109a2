"""Rules of the SQL that show in the catalog of a database with pgpeer installed."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.store.sources import SqlSources

CHANGES = (
    "TABLE(relation regclass, key jsonb, operation text, column_name text, old_value jsonb, new_value jsonb)"
)
CHANGES_ARGUMENTS = (
    "bundle text, from_commit text DEFAULT 'HEAD'::text, to_commit text DEFAULT 'WORKING'::text"
)

# name -> (arguments, result): what CONTRACT promises and this version has
FUNCTIONS = {
    "create_bundle": ("name text, commit_mode text DEFAULT 'auto'::text", "uuid"),
    "track": ("bundle text, relation regclass, row_filter text DEFAULT NULL::text", "void"),
    "untrack": ("relation regclass", "void"),
    "commit": ("bundle text, message text DEFAULT NULL::text", "text"),
    "status": (
        "bundle text",
        "TABLE(relation regclass, key jsonb, operation text, columns text[], staged boolean)",
    ),
    "log": (
        "bundle text",
        "TABLE(commit_id text, author text, author_label text, seq bigint, "
        "committed_at timestamp with time zone, message text, parents text[], "
        "row_count bigint, signed boolean)",
    ),
    "show": ("bundle text, commit_id text", CHANGES),
    "diff": (CHANGES_ARGUMENTS, CHANGES),
    "state_hash": ("bundle text", "text"),
    "version_vector": ("bundle text", "TABLE(author text, epoch bigint, seq bigint)"),
    "wait_for": (
        "bundle text, commit_id text, timeout interval DEFAULT '00:00:30'::interval",
        "boolean",
    ),
    "identity": ("", "text"),
    "invite": (
        "bundle text, role text DEFAULT 'writer'::text, expires interval DEFAULT '7 days'::interval, "
        "uses integer DEFAULT 1",
        "text",
    ),
    "join": ("link text", "uuid"),
}
RELATIONS = {
    "conflict": "conflict_id bundle relation key column_name kind scope base_value winning_value "
    "losing_value winning_commit losing_commit winning_author losing_author state detected_at",
    "connection": "connection_id peer_id label direction path engine state rtt bytes_sent "
    "bytes_received since",
    "event": "id at kind peer_id bundle connection_id phase code retryable detail hint",
    "problem": "since kind bundle relation key detail remedy",
    "hub": "id name url enabled",
    "stun_server": "id name url username credential enabled",
    "config": "label hub_id stun_server_id accept",
}
ROOM = "(SELECT oid FROM pg_namespace WHERE nspname IN ('peer', 'peer_internal'))"


@pytest.fixture
def catalog(database: Database) -> psycopg.Connection:
    return database.connect()


def column(connection: psycopg.Connection, query: str) -> list[str]:
    return [row[0] for row in connection.execute(query.encode())]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_promised_function_has_its_names_types_defaults_and_columns(
    catalog: psycopg.Connection, name: str
) -> None:
    query = (
        "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc"
        " WHERE pronamespace = 'peer'::regnamespace AND proname = %s"
    )
    assert catalog.execute(query, [name]).fetchall() == [FUNCTIONS[name]]


@pytest.mark.parametrize("name", sorted(RELATIONS))
def test_a_promised_table_or_view_begins_with_its_columns(catalog: psycopg.Connection, name: str) -> None:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    found = [row[0] for row in catalog.execute(query, [f"peer.{name}"])]
    wanted = RELATIONS[name].split()
    assert [word for word in wanted if word not in found] == []
    if name != "config":
        assert found[: len(wanted)] == wanted


def test_everything_has_a_comment(catalog: psycopg.Connection) -> None:
    silent = column(
        catalog,
        f"""
        SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace IN {ROOM} AND obj_description(oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT oid::regclass::text FROM pg_class
         WHERE relnamespace IN {ROOM} AND relkind IN ('r', 'p', 'v', 'm')
           AND obj_description(oid, 'pg_class') IS NULL
        UNION ALL
        SELECT nspname FROM pg_namespace WHERE oid IN {ROOM} AND obj_description(oid, 'pg_namespace') IS NULL
        ORDER BY 1""",
    )
    assert silent == []


def test_nothing_is_open_to_everybody(catalog: psycopg.Connection) -> None:
    open_ = column(
        catalog,
        f"""
        SELECT oid::regprocedure::text FROM pg_proc AS p
         WHERE pronamespace IN {ROOM}
           AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)
        UNION ALL
        SELECT oid::regclass::text FROM pg_class
         WHERE relnamespace IN {ROOM} AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0)
        UNION ALL
        SELECT nspname FROM pg_namespace
         WHERE oid IN {ROOM} AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)""",
    )
    assert open_ == []


def test_every_table_has_a_key(catalog: psycopg.Connection) -> None:
    without = column(
        catalog,
        f"""
        SELECT c.oid::regclass::text FROM pg_class AS c
         WHERE c.relnamespace IN {ROOM} AND c.relkind = 'r' AND c.relpersistence = 'p'
           AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique)""",
    )
    assert without == []


def test_function_bodies_name_only_what_exists(catalog: psycopg.Connection) -> None:
    catalog.execute("SET check_function_bodies = on")
    catalog.execute("SET search_path = pg_catalog, pg_temp")
    for path in SqlSources.read().functions:
        catalog.execute(path.read_text().encode())
