"""Installing, upgrading and removing pgpeer, and what is said when it cannot be done."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Database, Databases
from fixtures.versions import BOTH

from pgpeer.embedded import Cluster
from pgpeer.errors import ConfigError, StoreError
from pgpeer.identity.key import PrivateKey
from pgpeer.store.install import InstallReport, install, uninstall
from pgpeer.store.sources import SqlSources

KEY = PrivateKey.from_seed(b"k" * 32)
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'peer%' ORDER BY 1"
CATALOG = """
    WITH room AS (SELECT oid FROM pg_namespace WHERE nspname IN ('peer', 'peer_internal')),
         class AS (SELECT c.* FROM pg_class AS c JOIN room AS r ON r.oid = c.relnamespace)
    SELECT 'function', p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)), p.proacl::text
      FROM pg_proc AS p JOIN room AS r ON r.oid = p.pronamespace
     WHERE p.prokind = 'f'
    UNION ALL
    SELECT 'column', c.oid::regclass || '.' || a.attname,
           concat(format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)),
           a.attacl::text
      FROM pg_attribute AS a JOIN class AS c ON c.oid = a.attrelid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(s.oid), NULL
      FROM pg_constraint AS s JOIN room AS r ON r.oid = s.connamespace
    UNION ALL
    SELECT 'relation', c.oid::regclass::text, md5(obj_description(c.oid, 'pg_class')), c.relacl::text
      FROM class AS c
     ORDER BY 1, 2, 3
"""


@pytest.fixture
def bare(databases: Databases) -> Iterator[str]:
    cluster, name = databases.bare()
    yield cluster.dsn(name)
    databases.drop_named(cluster, name)


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.parametrize("version", BOTH)
def test_installing_says_what_it_did_and_again_changes_nothing(databases: Databases, version: str) -> None:
    cluster, name = databases.bare(databases.cluster(version))
    dsn = cluster.dsn(name)
    first = install(dsn, hub="ws://127.0.0.1:9", public_key=KEY.public_key, label="lab")
    assert (first.state, first.database, first.hub, first.peer_id) == (
        "installed",
        name,
        "ws://127.0.0.1:9",
        KEY.peer_id,
    )
    assert any("Installed pgpeer" in action for action in first.actions)
    assert any(KEY.peer_id in action for action in first.actions)
    assert rows(dsn, "SELECT peer.identity()") == [(KEY.peer_id,)]
    before = rows(dsn, CATALOG)
    again = install(dsn, hub="ws://127.0.0.1:9", public_key=KEY.public_key, label="lab")
    assert (again.state, again.peer_id, again.hub) == ("unchanged", first.peer_id, first.hub)
    assert len(again.actions) == 1
    assert "already installed" in again.actions[0]
    assert rows(dsn, CATALOG) == before
    assert rows(dsn, "SELECT label FROM peer.config") == [("lab",)]
    databases.drop_named(cluster, name)


def test_two_installations_at_once_both_succeed_and_one_did_it(bare: str) -> None:
    reports: list[InstallReport] = []
    threads = [threading.Thread(target=lambda: reports.append(install(bare))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.state for report in reports) == ["installed", "unchanged"]


def test_init_without_arguments_leaves_identity_label_and_hub_alone(bare: str) -> None:
    install(bare, hub="ws://one.example", public_key=KEY.public_key, label="lab")
    report = install(bare)
    assert (report.peer_id, report.hub) == (KEY.peer_id, "ws://one.example")
    assert rows(bare, "SELECT label FROM peer.config") == [("lab",)]


def test_another_hub_replaces_the_chosen_one_and_keeps_the_list(bare: str) -> None:
    install(bare, hub="ws://one.example")
    assert install(bare, hub="wss://two.example:444/x").hub == "wss://two.example:444/x"
    assert rows(bare, "SELECT url FROM peer.hub ORDER BY id") == [
        ("ws://one.example",),
        ("wss://two.example:444/x",),
    ]


@pytest.mark.parametrize("address", ["http://hub.example", "hub.example:8765", "ws://", ""])
def test_an_address_that_is_no_hub_is_refused_before_anything_happens(bare: str, address: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a hub") as caught:
        install(bare, hub=address)
    assert "ws://" in caught.value.remedy
    assert rows(bare, SCHEMAS) == []


@pytest.mark.parametrize(
    "dsn", ["postgresql://x@/x?host=/nowhere", "host=127.0.0.1 port=1", "this is no address"]
)
def test_a_database_that_cannot_be_reached_is_one_sentence_with_a_remedy(dsn: str) -> None:
    for act in (install, uninstall):
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            act(dsn)
        assert "\n" not in str(caught.value)
        assert "--dsn" in caught.value.remedy


def test_a_missing_right_is_named_as_the_grant_that_gives_it(databases: Databases, bare: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(bare)["dbname"]
    run(bare, 'DROP ROLE IF EXISTS "small Role"', 'CREATE ROLE "small Role" LOGIN')
    try:
        dsn = bare.replace("postgres@", "small%20Role@")
        with pytest.raises(StoreError, match="small Role lacks rights") as caught:
            install(dsn)
        assert caught.value.sqlstate == "42501"
        grants = re.findall(r"GRANT [^;]+;", caught.value.remedy)
        assert grants == [
            f'GRANT CREATE ON DATABASE "{name}" TO "small Role";',
            'GRANT SET ON PARAMETER session_replication_role TO "small Role";',
        ]
        assert rows(bare, SCHEMAS) == []
        run(bare, *grants)
        assert install(dsn).state == "installed"
    finally:
        run(bare, 'DROP OWNED BY "small Role" CASCADE', 'DROP ROLE "small Role"')


def test_an_installation_of_another_role_is_refused_by_name(database: Database) -> None:
    run(database.dsn, "DROP ROLE IF EXISTS stranger", "CREATE ROLE stranger LOGIN")
    run(database.dsn, f'GRANT CREATE ON DATABASE "{database.name}" TO stranger')
    try:
        with pytest.raises(StoreError, match="belongs to the role postgres, not to stranger"):
            install(database.dsn.replace("postgres@", "stranger@"))
    finally:
        run(database.dsn, "DROP OWNED BY stranger", "DROP ROLE stranger")


def test_a_database_that_is_not_utf8_is_refused(pg18: Cluster) -> None:
    run(
        pg18.dsn(),
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0",
    )
    try:
        with pytest.raises(StoreError, match="encoded in LATIN1; pgpeer needs UTF8"):
            install(pg18.dsn("latin"))
    finally:
        run(pg18.dsn(), "DROP DATABASE latin")


def test_a_schema_of_the_user_named_peer_is_not_touched(bare: str) -> None:
    run(bare, "CREATE SCHEMA peer", "CREATE TABLE peer.mine (a int)")
    with pytest.raises(StoreError, match="has a schema peer that is not pgpeer's"):
        install(bare)
    assert not uninstall(bare).removed
    assert rows(bare, "SELECT count(*) FROM peer.mine") == [(0,)]


def test_a_failure_half_way_leaves_nothing_and_names_file_and_line(bare: str, tmp_path: Path) -> None:
    real = SqlSources.read()
    tree = tmp_path / "sql"
    shutil.copytree(real.directory, tree)
    (tree / "broken.sql").write_text("SELECT 1;\n\nSELECT nonsense;\n")
    with (tree / "order.txt").open("a") as order:
        order.write("broken.sql\n")
    with pytest.raises(StoreError, match=r'broken\.sql:3: column "nonsense" does not exist') as caught:
        install(bare, sources=SqlSources.read(tree))
    assert caught.value.sqlstate == "42703"
    assert rows(bare, SCHEMAS) == []
    assert install(bare).state == "installed"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tree: (tree / "order.txt").unlink(), "order.txt is missing"),
        (lambda tree: (tree / "b.sql").unlink(), "missing: b.sql"),
        (lambda tree: (tree / "order.txt").write_text("a.sql\nb.sql\n"), "no line '-- functions'"),
        (
            lambda tree: (tree / "order.txt").write_text("a.sql\n-- functions\nb.sql\na.sql\n"),
            "twice in order.txt: a.sql",
        ),
    ],
)
def test_a_broken_set_of_sql_files_is_refused(
    tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    (tmp_path / "a.sql").write_text("")
    (tmp_path / "b.sql").write_text("")
    (tmp_path / "order.txt").write_text("-- a comment\na.sql\n\n-- functions\nb.sql\n")
    read = SqlSources.read(tmp_path)
    assert (read.tables, read.functions) == ((tmp_path / "a.sql",), (tmp_path / "b.sql",))
    change(tmp_path)
    with pytest.raises(StoreError, match=sentence):
        SqlSources.read(tmp_path)


def dump(database: Database) -> str:
    command = [str(database.cluster.bindir / "pg_dump"), "--schema=public", "--inserts", database.dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "\n".join(
        line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )


def test_uninstalling_leaves_tables_rows_and_own_triggers_as_they_were(database: Database) -> None:
    run(
        database.dsn,
        "CREATE TABLE public.city (id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'x', area numeric)",
        "CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER own BEFORE INSERT ON public.city FOR EACH ROW EXECUTE FUNCTION public.own()",
        "INSERT INTO public.city SELECT n, 'c' || n, n / 7.0 FROM generate_series(1, 50) AS n",
    )
    before = dump(database)
    run(database.dsn, "SELECT peer.create_bundle('atlas')", "SELECT peer.track('atlas', 'public.city')")
    assert dump(database) != before
    report = uninstall(database.dsn)
    assert report.removed
    assert report.relations == ("public.city",)
    assert rows(database.dsn, SCHEMAS) == []
    assert dump(database) == before
    assert not uninstall(database.dsn).removed
    assert install(database.dsn).state == "installed"


def test_uninstalling_refuses_to_take_objects_of_the_user_along(database: Database) -> None:
    run(
        database.dsn,
        "CREATE VIEW public.settings AS SELECT label FROM peer.config",
        "CREATE TABLE public.log (hub int REFERENCES peer.hub)",
        "CREATE FUNCTION public.f(peer.config) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    with pytest.raises(StoreError, match="would be lost") as caught:
        uninstall(database.dsn)
    for name in ("view public.settings", "table public.log", "function public.f(peer.config)"):
        assert name in str(caught.value)
    assert rows(database.dsn, SCHEMAS) == [("peer",), ("peer_internal",)]


def test_uninstalling_while_pgpeer_is_in_use_says_so_and_does_nothing(database: Database) -> None:
    with psycopg.connect(database.dsn) as busy:
        busy.execute("SELECT * FROM peer.config FOR UPDATE")
        with pytest.raises(StoreError) as caught:
            uninstall(database.dsn, lock_seconds=0.2)
    assert caught.value.sqlstate == "55P03"
    assert "Stop the worker" in caught.value.remedy
    assert rows(database.dsn, SCHEMAS) == [("peer",), ("peer_internal",)]


SETTINGS = {
    "statement_timeout": "20ms",
    "transaction_timeout": "50ms",
    "idle_in_transaction_session_timeout": "5ms",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "row_security": "off",
    "client_encoding": "LATIN1",
    "plpgsql.extra_errors": "all",
}


def test_settings_of_an_administrator_disturb_neither_installation_nor_removal(databases: Databases) -> None:
    cluster, name = databases.bare()
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        for setting, value in SETTINGS.items():
            if setting != "transaction_timeout" or cluster.version >= 17:
                connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
    assert install(cluster.dsn(name), public_key=KEY.public_key).state == "installed"
    assert install(cluster.dsn(name)).state == "unchanged"
    assert uninstall(cluster.dsn(name)).removed
