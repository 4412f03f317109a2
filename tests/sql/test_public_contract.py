"""The names, parameters, defaults and result columns that are promised, read from the installed catalog."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.databases import Database

# function, arguments as pg_get_function_arguments prints them, result
FUNCTIONS = [
    ("create_bundle", "name text, commit_mode text DEFAULT 'auto'::text", "uuid"),
    ("track", "bundle text, relation regclass, row_filter text DEFAULT NULL::text", "void"),
    ("untrack", "relation regclass", "void"),
    ("commit", "bundle text, message text DEFAULT NULL::text", "text"),
    (
        "status",
        "bundle text",
        "TABLE(relation regclass, key jsonb, operation text, columns text[], staged boolean)",
    ),
    (
        "log",
        "bundle text",
        "TABLE(commit_id text, author text, author_label text, seq bigint, committed_at timestamp with time zone,"
        " message text, parents text[], row_count bigint, signed boolean)",
    ),
    (
        "show",
        "bundle text, commit_id text",
        "TABLE(relation regclass, key jsonb, operation text, column_name text, old_value jsonb, new_value jsonb)",
    ),
    (
        "diff",
        "bundle text, from_commit text DEFAULT 'HEAD'::text, to_commit text DEFAULT 'WORKING'::text",
        "TABLE(relation regclass, key jsonb, operation text, column_name text, old_value jsonb, new_value jsonb)",
    ),
    ("state_hash", "bundle text", "text"),
    ("version_vector", "bundle text", "TABLE(author text, epoch bigint, seq bigint)"),
    ("wait_for", "bundle text, commit_id text, timeout interval DEFAULT '00:00:30'::interval", "boolean"),
    ("identity", "", "text"),
    (
        "invite",
        "bundle text, role text DEFAULT 'writer'::text, expires interval DEFAULT '7 days'::interval,"
        " uses integer DEFAULT 1",
        "text",
    ),
    ("join", "link text", "uuid"),
]

COLUMNS = {
    "conflict": (
        "conflict_id bundle relation key column_name kind scope base_value winning_value losing_value winning_commit"
        " losing_commit winning_author losing_author state detected_at"
    ),
    "problem": "since kind bundle relation key detail remedy",
    "connection": "connection_id peer_id label direction path engine state rtt bytes_sent bytes_received since",
    "event": "id at kind peer_id bundle connection_id phase code retryable detail hint",
    "config": "label hub_id stun_server_id accept",
    "hub": "id name url enabled",
    "stun_server": "id name url username credential enabled",
}


@pytest.mark.parametrize(("name", "arguments", "result"), FUNCTIONS)
def test_a_function_has_the_promised_signature(
    database: Database, name: str, arguments: str, result: str
) -> None:
    found = (
        database.connect()
        .execute(
            "SELECT pg_get_function_arguments(p.oid), pg_get_function_result(p.oid) FROM pg_proc AS p"
            " WHERE p.pronamespace = 'peer'::regnamespace AND p.proname = %s",
            [name],
        )
        .fetchall()
    )
    assert [(shown.replace("'30 seconds'", "'00:00:30'"), returned) for shown, returned in found] == [
        (arguments, result)
    ]


@pytest.mark.parametrize(("relation", "columns"), COLUMNS.items())
def test_a_table_or_view_has_the_promised_columns(database: Database, relation: str, columns: str) -> None:
    found = [
        name
        for (name,) in database.connect().execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = ('peer.' || %s)::regclass AND attnum > 0 ORDER BY attnum",
            [relation],
        )
    ]
    wanted = columns.split()
    assert [name for name in found if name in wanted] == wanted


def test_the_configuration_is_one_row_that_works_without_being_touched(database: Database) -> None:
    connection = database.connect()
    row = connection.execute("SELECT accept, hub_id, stun_server_id FROM peer.config").fetchone()
    assert row == ("invited", None, None)
    # a row that is put in takes the place of the one there, as a restored dump does it
    connection.execute("INSERT INTO peer.config (label, accept) VALUES ('mine', 'open')")
    assert connection.execute("SELECT label, accept FROM peer.config").fetchall() == [("mine", "open")]
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE peer.config SET one_row = false")


def test_an_invite_is_a_link_that_only_another_database_can_use(database: Database) -> None:
    connection = database.connect()
    connection.execute("SELECT peer.create_bundle('atlas')")
    with pytest.raises(Exception, match="no hub is set"):
        connection.execute("SELECT peer.invite('atlas')")
    connection.execute("INSERT INTO peer.hub (url) VALUES ('ws://127.0.0.1:1')")
    row = connection.execute("SELECT peer.invite('atlas')").fetchone()
    assert row is not None
    link: str = row[0]
    assert link.startswith("pgpeer://")
    with pytest.raises(Exception, match="made by this very database"):
        connection.execute("SELECT peer.join(%s)", [link])


@pytest.mark.parametrize(
    "link", ["", "pgpeer://", "pgpeer://join/1/", "pgpeer://join/1/e30", "pgpeer://join/1/%%%", "http://x"]
)
def test_a_malformed_invite_is_refused_with_a_remedy(database: Database, link: str) -> None:
    with pytest.raises(Exception, match="not a whole pgpeer invite") as refused:
        database.connect().execute("SELECT peer.join(%s)", [link])
    assert refused.value.sqlstate == "PGI05"  # type: ignore[attr-defined]


def test_wait_for_tells_time_out_from_success_and_refuses_an_old_snapshot(database: Database) -> None:
    connection = database.connect()
    connection.execute("SELECT peer.create_bundle('atlas')")
    connection.execute("CREATE TABLE city (id int PRIMARY KEY)")
    connection.execute("SELECT peer.track('atlas', 'city')")
    made = connection.execute("SELECT commit_id FROM peer.log('atlas')").fetchone()
    assert made is not None
    assert connection.execute("SELECT peer.wait_for('atlas', %s)", made).fetchone() == (True,)
    other = "bafyrei" + "a" * 52
    assert connection.execute("SELECT peer.wait_for('atlas', %s, '20 ms')", [other]).fetchone() == (False,)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(Exception, match="snapshot cannot see"):
        connection.execute("SELECT peer.wait_for('atlas', %s)", made)
    connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("peer.create_bundle('')", "PGB03"),
        ("peer.create_bundle('x', 'sometimes')", "PGB04"),
        ("peer.track('nowhere', 'pg_class')", "PGB01"),
        ("peer.untrack('pg_class')", "PGT14"),
        ("peer.commit('nowhere')", "PGB01"),
        ("peer.wait_for('atlas', 'bafy')", "PGC06"),
        ("peer.invite('atlas', 'owner')", "PGI02"),
        ("peer.invite('atlas', expires => '-1 s')", "PGI03"),
    ],
)
def test_bad_input_gets_an_own_sqlstate_and_a_remedy(database: Database, call: str, sqlstate: str) -> None:
    connection = database.connect()
    connection.execute("SELECT peer.create_bundle('atlas')")
    with pytest.raises(Exception) as refused:  # noqa: PT011  (the SQLSTATE below is the assertion)
        connection.execute(f"SELECT {call}".encode())
    assert refused.value.sqlstate == sqlstate  # type: ignore[attr-defined]
    assert refused.value.diag.message_hint  # type: ignore[attr-defined]
