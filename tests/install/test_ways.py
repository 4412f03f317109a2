"""Three ways in, one text: migrations, extension and plain file make the same database, new or upgraded."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from install.catalog import catalog, rows_of_tables
from install.conftest import ExtensionServer

import pgpeer
from alembic import command
from pgpeer.errors import StoreError
from pgpeer.identity.key import PrivateKey
from pgpeer.store import install as installation
from pgpeer.store.extension import extension_files, extension_version
from pgpeer.store.install import install, uninstall
from pgpeer.store.revisions import read_revisions
from pgpeer.store.script import plain_script
from pgpeer.store.sources import SqlSources

Run = Callable[..., list[tuple[object, ...]]]
KEY = PrivateKey.from_seed(b"w" * 32)
FIRST = read_revisions(SqlSources.read())[:1]
HAS_EXTENSION = "SELECT extversion FROM pg_extension WHERE extname = 'pgpeer'"
WORK = (
    "CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE public.street (city int REFERENCES public.city, name text, PRIMARY KEY (city, name))",
    "INSERT INTO public.city VALUES (1, 'Bern'), (2, 'Zürich')",
    "SELECT peer.create_bundle('atlas', 'manual')",
    "SELECT peer.track('atlas', 'public.city')",
    "SELECT peer.track('atlas', 'public.street')",
    "INSERT INTO public.street VALUES (1, 'Marktgasse')",
    "SELECT peer.commit('atlas', 'a street')",
    "UPDATE public.city SET name = 'Zurich' WHERE id = 2",
    "UPDATE peer.config SET label = 'lab'",
    "INSERT INTO peer.hub (url) VALUES ('ws://hub.example')",
)


def program(server: ExtensionServer, name: str) -> str:
    """A client program of the server's installation; skips the test where it came without."""
    path = server.cluster.bindir / name
    if not path.exists():
        pytest.skip(f"this installation of PostgreSQL {server.cluster.version} has no {name}")
    return str(path)


def by_psql(server: ExtensionServer, dsn: str, text: str, folder: Path) -> None:
    file = folder / "pgpeer.sql"
    file.write_text(text)
    words = [program(server, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), dsn]
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_three_ways_make_equal_catalogs_and_rows(
    extension_server: ExtensionServer, run: Run, tmp_path: Path
) -> None:
    migrated, extended, by_file, by_driver = (extension_server.bare() for _ in range(4))
    install(migrated)
    run(extended, "CREATE EXTENSION pgpeer")
    by_psql(extension_server, by_file, plain_script(), tmp_path)
    run(by_driver, plain_script())
    wanted = catalog(migrated)
    kinds = {row[0] for row in wanted}
    assert {"schema", "relation", "column", "index", "constraint", "function", "trigger", "view"} <= kinds
    names = {name for kind, name, _ in wanted if kind in {"relation", "function"}}
    assert {"peer_internal.section", "peer.conflict", "peer.commit(text,text)"} <= names
    for dsn in (extended, by_file, by_driver):
        assert catalog(dsn) == wanted
        assert {name: len(rows) for name, rows in rows_of_tables(dsn).items()} == {
            name: len(rows) for name, rows in rows_of_tables(migrated).items()
        }
        assert (
            rows_of_tables(dsn)["peer_internal.schema_version"]
            == rows_of_tables(migrated)["peer_internal.schema_version"]
        )


def test_every_object_belongs_to_the_extension(extension_server: ExtensionServer, run: Run) -> None:
    dsn = extension_server.bare()
    run(dsn, "CREATE EXTENSION pgpeer")
    query = """
        SELECT o.what FROM (
            SELECT c.tableoid AS class, c.oid, c.oid::regclass::text AS what FROM pg_class AS c
             WHERE c.relnamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace) AND c.relkind IN ('r', 'v', 'S')
            UNION ALL
            SELECT p.tableoid, p.oid, p.oid::regprocedure::text FROM pg_proc AS p
             WHERE p.pronamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace)
            UNION ALL
            SELECT n.tableoid, n.oid, n.nspname::text FROM pg_namespace AS n WHERE n.nspname IN ('peer', 'peer_internal')) AS o
         WHERE NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
    """
    assert run(dsn, query) == []


def test_every_table_and_sequence_is_in_dumps_but_those_whose_rows_are_made_again(
    extension_server: ExtensionServer, run: Run
) -> None:
    dsn = extension_server.bare()
    run(dsn, "CREATE EXTENSION pgpeer")
    query = """
        SELECT c.oid::regclass::text FROM pg_class AS c
         WHERE c.relnamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace) AND c.relkind IN ('r', 'S')
           AND c.oid <> ALL ((SELECT extconfig FROM pg_extension WHERE extname = 'pgpeer')::oid[])
         ORDER BY 1
    """
    left_out = [row[0] for row in run(dsn, query)]
    unlogged = [row[0] for row in run(dsn, query.replace("ORDER BY", "AND c.relpersistence = 'u' ORDER BY"))]
    assert left_out == sorted([*unlogged, "peer_internal.schema_version", "peer_internal.worker"])


def first_by_migrations(server: ExtensionServer, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(installation.command, "upgrade", lambda config, _head: real(config, FIRST[-1].number))
        install(dsn)


@pytest.mark.parametrize("way", ["migrations", "plain", "extension"])
def test_an_upgrade_from_the_first_revision_loses_nothing(
    extension_server: ExtensionServer, run: Run, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = extension_server
    dsn, fresh = server.bare(), server.bare()
    match way:
        case "migrations":
            first_by_migrations(server, dsn, monkeypatch)
        case "plain":
            run(dsn, plain_script(revisions=FIRST))
        case _:
            server.offer(extension_files("0.0.1", revisions=FIRST))
            run(dsn, "CREATE EXTENSION pgpeer")
    assert run(dsn, "SELECT version_num FROM peer_internal.schema_version") == [("0001",)]
    run(dsn, f"SELECT peer_internal.set_identity('\\x{KEY.public_key.hex()}', 'lab')", *WORK)
    before = rows_of_tables(dsn)
    log = run(dsn, "SELECT l::text FROM peer.log('atlas') AS l")
    state = run(dsn, "SELECT peer.state_hash('atlas')")
    assert len(log) == 3
    match way:
        case "migrations":
            assert install(dsn).state == "upgraded"
        case "plain":
            run(dsn, plain_script())
        case _:
            server.offer(extension_files(earlier=("0.0.1",)))
            run(dsn, "ALTER EXTENSION pgpeer UPDATE")
            assert run(dsn, HAS_EXTENSION) != [("0.0.1",)]
    newest = read_revisions(SqlSources.read())[-1].number
    assert newest > "0001"
    after = rows_of_tables(dsn)
    assert after.pop("peer_internal.schema_version") == [f"({newest})"]
    before.pop("peer_internal.schema_version")
    assert after == before
    assert run(dsn, "SELECT l::text FROM peer.log('atlas') AS l") == log
    assert run(dsn, "SELECT peer.state_hash('atlas')") == state
    assert run(dsn, "SELECT peer.commit('atlas', 'after')") != [(None,)]
    install(fresh)
    ours = [row for row in catalog(dsn) if not made_by_tracking(row[1])]
    assert ours == catalog(fresh)


def made_by_tracking(name: str) -> bool:
    """Whether an object belongs to a tracked table: it is named after the table's number."""
    return any(
        f"{kind}_{number}" in name
        for kind in (
            "journal",
            "key",
            "capture_insert",
            "capture_update",
            "capture_delete",
            "capture_truncate",
        )
        for number in (1, 2)
    )


def test_a_dump_of_a_database_with_the_extension_keeps_everything(
    extension_server: ExtensionServer, run: Run, tmp_path: Path
) -> None:
    dsn, target = extension_server.bare(), extension_server.bare()
    install(dsn, public_key=KEY.public_key, as_extension=True)
    run(dsn, *WORK)
    file = tmp_path / "dump"
    subprocess.run(
        [program(extension_server, "pg_dump"), "-Fc", "-f", str(file), dsn], check=True, capture_output=True
    )
    words = [
        program(extension_server, "pg_restore"),
        "--exit-on-error",
        "--single-transaction",
        "-d",
        target,
        str(file),
    ]
    restored = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert rows_of_tables(target) == rows_of_tables(dsn)
    assert catalog(target) == catalog(dsn)
    questions = (
        "SELECT l::text FROM peer.log('atlas') AS l",
        "SELECT s::text FROM peer.status('atlas') AS s",
        "SELECT peer.state_hash('atlas')",
    )
    for question in questions:
        assert run(target, question) == run(dsn, question)
    assert run(target, "SELECT label FROM peer.config") == [("lab",)]
    # numbers go on where they stood: nothing new takes the place of something old
    assert run(target, "SELECT peer.commit('atlas', 'after the restore')") != [(None,)]
    run(target, "SELECT peer.create_bundle('second')")
    assert run(target, "SELECT count(*) FROM peer_internal.bundle") == [(2,)]


def test_init_recognises_the_extension_and_sets_identity_and_hub(extension_server: ExtensionServer) -> None:
    dsn = extension_server.bare()
    first = install(dsn, hub="ws://hub.example", public_key=KEY.public_key, as_extension=True)
    assert (first.state, first.peer_id, first.hub) == ("installed", KEY.peer_id, "ws://hub.example")
    again = install(dsn)
    assert (again.state, again.peer_id) == ("unchanged", KEY.peer_id)
    assert "already installed as an extension" in again.actions[0]


def test_init_updates_the_extension(extension_server: ExtensionServer, run: Run) -> None:
    dsn = extension_server.bare()
    extension_server.offer(extension_files("0.0.1", revisions=FIRST))
    run(dsn, "CREATE EXTENSION pgpeer")
    extension_server.offer(extension_files(earlier=("0.0.1",)))
    report = install(dsn)
    assert report.state == "upgraded"
    assert "from version 0.0.1" in report.actions[0]


def test_an_extension_whose_files_the_server_lacks_is_refused_with_the_command_that_brings_them(
    extension_server: ExtensionServer, run: Run
) -> None:
    dsn = extension_server.bare()
    extension_server.offer({})
    with pytest.raises(StoreError, match="has no files of the extension pgpeer") as caught:
        install(dsn, as_extension=True)
    assert "pgpeer init --write-extension" in caught.value.remedy
    assert ("extension_control_path" in caught.value.remedy) == (extension_server.control_path is not None)
    assert run(dsn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'peer%'") == [(0,)]


@pytest.mark.parametrize("first", ["migrations", "plain"])
def test_the_extension_is_refused_where_another_way_was_taken(
    extension_server: ExtensionServer, run: Run, first: str
) -> None:
    dsn = extension_server.bare()
    install(dsn) if first == "migrations" else run(dsn, plain_script())
    before = catalog(dsn)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not as an extension") as raised:
        run(dsn, "CREATE EXTENSION pgpeer")
    assert "pgpeer init upgrades it" in (raised.value.diag.message_hint or "")
    with pytest.raises(StoreError, match="there already, and not as an extension") as caught:
        install(dsn, as_extension=True)
    assert "pgpeer uninstall" in caught.value.remedy
    assert catalog(dsn) == before


def test_the_plain_file_is_refused_where_pgpeer_is_an_extension(
    extension_server: ExtensionServer, run: Run
) -> None:
    dsn = extension_server.bare()
    run(dsn, "CREATE EXTENSION pgpeer")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="as an extension") as raised:
        run(dsn, plain_script())
    assert "ALTER EXTENSION pgpeer UPDATE" in (raised.value.diag.message_hint or "")


def test_migrations_and_the_plain_file_take_turns(extension_server: ExtensionServer, run: Run) -> None:
    one, other = extension_server.bare(), extension_server.bare()
    run(one, plain_script(revisions=FIRST))
    assert install(one).state == "upgraded"
    run(one, plain_script())
    assert install(one).state == "unchanged"
    install(other)
    assert catalog(one) == catalog(other)


@pytest.mark.parametrize("way", ["extension", "plain"])
def test_a_schema_of_the_user_is_not_touched(extension_server: ExtensionServer, run: Run, way: str) -> None:
    dsn = extension_server.bare()
    run(dsn, "CREATE SCHEMA peer", "CREATE TABLE peer.mine (a int)")
    text = "CREATE EXTENSION pgpeer" if way == "extension" else plain_script()
    with pytest.raises(psycopg.errors.DuplicateSchema, match="has a schema peer that is not pgpeer's"):
        run(dsn, text)
    assert run(dsn, "SELECT count(*) FROM peer.mine") == [(0,)]


@pytest.mark.parametrize("way", ["migrations", "extension", "plain"])
def test_each_way_names_the_missing_grants_and_is_open_to_a_role_that_has_them(
    extension_server: ExtensionServer, run: Run, way: str
) -> None:
    dsn = extension_server.bare()
    run(dsn, "DROP ROLE IF EXISTS keeper", "CREATE ROLE keeper LOGIN")
    keeper = dsn.replace("postgres@", "keeper@")
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    grants = (
        f"GRANT CREATE ON DATABASE {name} TO keeper;",
        "GRANT SET ON PARAMETER session_replication_role TO keeper;"
        if extension_server.cluster.version >= 15
        else "ALTER ROLE keeper SUPERUSER;",
    )

    def enter() -> None:
        if way == "migrations":
            install(keeper)
        else:
            run(keeper, "CREATE EXTENSION pgpeer" if way == "extension" else plain_script())

    try:
        with pytest.raises(
            (StoreError, psycopg.errors.InsufficientPrivilege), match="lacks rights"
        ) as raised:
            enter()
        error = raised.value
        hint = error.remedy if isinstance(error, StoreError) else error.diag.message_hint or ""
        assert [grant for grant in grants if grant not in hint.replace('"', "")] == []
        run(dsn, *grants)
        enter()
        run(
            keeper,
            f"SELECT peer_internal.set_identity('\\x{KEY.public_key.hex()}', 'lab')",
            "CREATE SCHEMA own",
            "CREATE TABLE own.city (id int PRIMARY KEY)",
            "SELECT peer.create_bundle('atlas', 'manual')",
            "SELECT peer.track('atlas', 'own.city')",
            "INSERT INTO own.city VALUES (1)",
        )
        assert run(keeper, "SELECT peer.commit('atlas') IS NOT NULL") == [(True,)]
        owners = run(
            dsn,
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'peer'::regnamespace",
        )
        assert owners == [("keeper",)]
    finally:
        run(dsn, "DROP OWNED BY keeper CASCADE", "DROP ROLE keeper")


@pytest.mark.parametrize("way", ["migrations", "plain"])
def test_a_database_of_a_newer_pgpeer_is_refused(
    extension_server: ExtensionServer, run: Run, way: str
) -> None:
    dsn = extension_server.bare()
    install(dsn)
    run(dsn, "UPDATE peer_internal.schema_version SET version_num = '9999'")
    with pytest.raises((StoreError, psycopg.Error), match="stands at schema version 9999"):
        install(dsn) if way == "migrations" else run(dsn, plain_script())


def test_uninstalling_takes_the_extension_away_and_leaves_tables(
    extension_server: ExtensionServer, run: Run
) -> None:
    dsn = extension_server.bare()
    install(dsn, public_key=KEY.public_key, as_extension=True)
    run(dsn, *WORK)
    report = uninstall(dsn)
    assert report.removed
    assert report.relations == ("public.city", "public.street")
    assert run(dsn, HAS_EXTENSION) == []
    assert run(dsn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'peer%'") == [(0,)]
    assert run(dsn, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    assert run(dsn, "SELECT count(*) FROM public.city") == [(2,)]
    assert install(dsn, as_extension=True).state == "installed"


def test_a_plain_file_that_fails_leaves_nothing(extension_server: ExtensionServer, run: Run) -> None:
    dsn = extension_server.bare()
    broken = plain_script().replace("\nCOMMIT;\n", "\nSELECT nonsense;\nCOMMIT;\n")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        run(dsn, broken)
    assert run(dsn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'peer%'") == [(0,)]


def test_the_version_of_the_extension_is_told(extension_server: ExtensionServer, run: Run) -> None:
    dsn = extension_server.bare()
    with psycopg.connect(dsn) as connection:
        assert extension_version(connection) is None
    run(dsn, "CREATE EXTENSION pgpeer")
    with psycopg.connect(dsn) as connection:
        assert extension_version(connection) == pgpeer.__version__
