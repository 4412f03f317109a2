"""Writers with few rights, odd settings and hostile names: their writes work and are captured (and no other way)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from fixtures.databases import Databases
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .conftest import MakeShelf
from .shelf import Change, Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, body text)"
FILL = "INSERT INTO note VALUES (1, 'a', 'A'), (2, 'b', 'B')"
NUMBERS = itertools.count(1)
ODD_SETTINGS = {
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "-15",
    "xmloption": "document",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "client_encoding": "LATIN1",
    "plpgsql.extra_errors": "all",
    "check_function_bodies": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "work_mem": "64kB",
    "search_path": "pg_temp",
}


@pytest.fixture
def writer(databases: Databases) -> Iterator[str]:
    """A role without any right. It must come before `shelf`, so that it goes after its tables."""
    name = f"writer_{next(NUMBERS)}"
    with psycopg.connect(databases.cluster().dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def session(s: Shelf, user: str, *statements: str) -> None:
    """Run statements as a user, one transaction each."""
    with psycopg.connect(make_conninfo(s.here.dsn, user=user), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def test_a_writer_without_any_right_on_pgpeer_is_captured(writer: str, shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE TABLE pair (a integer, b integer, PRIMARY KEY (a, b))"], ["note", "pair"])
    s.here.write(f"GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON note, pair TO {writer}")
    session(
        s,
        writer,
        "INSERT INTO note VALUES (3, 'c', 'C')",
        "UPDATE note SET title = 'x' WHERE id = 1",
        "DELETE FROM note WHERE id = 2",
        "INSERT INTO pair VALUES (1, 1), (2, 2)",
        "UPDATE pair SET b = 5 WHERE a = 1",
    )
    assert [(c.table, c.operation) for c in s.changes()] == [
        ("note", "DELETE"),
        ("note", "INSERT"),
        ("note", "UPDATE"),
        ("pair", "INSERT"),
        ("pair", "INSERT"),
    ]
    s.exchange()
    session(s, writer, "TRUNCATE note")
    s.exchange()
    for statement in ("SELECT * FROM peer.log('shelf')", "SELECT peer.commit('shelf')", "TABLE peer.config"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session(s, writer, statement)


def test_a_writer_who_may_only_insert_is_captured(writer: str, shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(f"GRANT INSERT (id, title) ON note TO {writer}")
    session(s, writer, "INSERT INTO note (id, title) VALUES (3, 'c')")
    assert [c.key for c in s.changes()] == ['{"id": 3}']
    s.exchange()


def test_a_writer_may_do_no_more_than_before(writer: str, shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(f"GRANT INSERT, SELECT ON note TO {writer}")
    for statement in ("UPDATE note SET title = 'x'", "DELETE FROM note", "TRUNCATE note"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session(s, writer, statement)
    functions = s.here.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.pronamespace = 'peer_internal'::regnamespace"
        " AND p.proname LIKE 'capture%%' AND has_function_privilege(%s, p.oid, 'EXECUTE')",
        writer,
    )
    assert functions == []
    s.exchange()


@pytest.mark.parametrize("force", ["NO FORCE", "FORCE"])
def test_rows_behind_row_level_security_are_captured_wholly(
    writer: str, shelf: MakeShelf, force: str
) -> None:
    s = shelf(
        [
            NOTE,
            f"ALTER TABLE note OWNER TO {writer}",
            "ALTER TABLE note ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE note {force} ROW LEVEL SECURITY",
            "CREATE POLICY few ON note FOR SELECT USING (id < 3)",
            "CREATE POLICY any_insert ON note FOR INSERT WITH CHECK (true)",
            "CREATE POLICY few_update ON note FOR UPDATE USING (id < 3) WITH CHECK (true)",
            "CREATE POLICY few_delete ON note FOR DELETE USING (id < 3)",
            "INSERT INTO note VALUES (1, 'a', 'A'), (2, 'b', 'B'), (7, 'g', 'G')",
        ],
        "note",
    )
    session(s, writer, "SET row_security = on", "INSERT INTO note VALUES (5, 'hidden', ''), (0, 'seen', '')")
    session(s, writer, "UPDATE note SET body = 'x' WHERE id < 3", "DELETE FROM note WHERE id = 2")
    assert {c.key for c in s.changes()} == {f'{{"id": {key}}}' for key in (0, 1, 2, 5)}
    s.exchange()
    session(s, writer, "TRUNCATE note")
    s.exchange()
    assert s.rows(s.there, "note") == []


def test_a_writer_with_odd_settings_is_captured_and_commits_the_same_bytes(shelf: MakeShelf) -> None:
    s = shelf(
        "CREATE TABLE thing (id date PRIMARY KEY, t timestamptz, f double precision, b bytea, i interval, v text, a text[])",
        "thing",
    )
    read = (
        "SELECT s.op, s.column_ids, s.data, c.message, octet_length(c.header) FROM peer_internal.section AS s"
        " JOIN peer_internal.commit AS c USING (commit_no) WHERE c.commit_id = %s ORDER BY s.section_no"
    )
    plain = psycopg.connect(s.here.dsn, autocommit=True)
    odd = psycopg.connect(s.here.dsn, autocommit=True)
    found = []
    with plain, odd:
        for name, value in ODD_SETTINGS.items():
            odd.execute("SELECT set_config(%s, %s, false)", [name, value])
        with odd.transaction():
            odd.execute(
                "INSERT INTO public.thing VALUES (DATE 'epoch' + 18000, TIMESTAMPTZ 'epoch' + INTERVAL '8 years',"
                " 0.1::double precision + 0.2, decode('00ff5c', 'hex'), INTERVAL '1 year', chr(92) || chr(233) || chr(9),"
                " ARRAY['a', NULL, 'NULL'])"
            )
            odd.execute("UPDATE public.thing SET i = i - INTERVAL '3 days 4:05:06'")
        for connection in (plain, odd):
            with connection.transaction(force_rollback=True):
                ((commit_id,),) = connection.execute(
                    "SELECT peer.commit('shelf', 'says ' || chr(233))"
                ).fetchall()
                found.append(connection.execute(read, [commit_id]).fetchall())
        assert found[0] == found[1]
        assert odd.execute("SELECT peer.state_hash('shelf')").fetchall() == [(s.here.state_hash(),)]
        ((commit_id,),) = odd.execute(
            "SELECT peer.commit('shelf', 'says ' || chr(92) || chr(233))"
        ).fetchall()
    s.exchange()
    assert s.here.value("SELECT message FROM peer.log('shelf') WHERE commit_id = %s", commit_id) == "says \\é"


@pytest.mark.parametrize(
    "settings",
    [("standard_conforming_strings",), ("array_nulls",), tuple(ODD_SETTINGS)[:6], tuple(ODD_SETTINGS)[8:]],
    ids=["standard_conforming_strings", "array_nulls", "output formats", "others"],
)
def test_no_setting_of_a_session_disturbs_write_commit_and_merge(
    shelf: MakeShelf, settings: tuple[str, ...]
) -> None:
    s = shelf("CREATE TABLE thing (id date PRIMARY KEY, v text, a text[], n integer)", "thing")
    for replica in s.both:
        for setting in settings:
            replica.execute("SELECT set_config(%s, %s, false)", setting, ODD_SETTINGS[setting])
    backslash = "chr(92)"
    s.here.write(
        f"INSERT INTO public.thing VALUES (DATE 'epoch', {backslash} || 'N' || chr(9), ARRAY['', NULL, 'NULL'], 1),"
        " (DATE 'epoch' + 1, NULL, NULL, 2)"
    )
    s.carry()
    s.here.write(
        f"UPDATE public.thing SET v = {backslash} WHERE n = 1", "DELETE FROM public.thing WHERE n = 2"
    )
    s.there.write(
        "UPDATE public.thing SET v = chr(9) WHERE n = 1", "INSERT INTO public.thing VALUES (DATE 'epoch' + 2)"
    )
    s.carry()
    for replica in s.both:
        replica.execute("RESET ALL")
    s.exchange()
    assert s.here.value("SELECT count(*) FROM peer.conflict WHERE bundle = 'shelf'") == 1
    assert s.there.value("SELECT a FROM thing WHERE n = 1") == ["", None, "NULL"]


def test_a_schema_is_described_alike_in_every_session(shelf: MakeShelf) -> None:
    ddl = (
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE thing (id date DEFAULT '2020-02-03' PRIMARY KEY, t timestamptz DEFAULT '2020-02-03 04:05+06',"
        " i interval DEFAULT '1 year -3 days', f double precision DEFAULT 0.1, b bytea DEFAULT '\\x00ff', m mood DEFAULT 'ok',"
        " fs double precision[] DEFAULT '{0.1,NULL}', v text DEFAULT E'\\\\ \\t', \"select\" integer,"
        " CHECK (id > '1999-12-31'), CHECK (t <> '2000-01-01 00:00+00'), CHECK (f < 0.3), CHECK (v <> E'\\\\'))",
        "CREATE INDEX part ON thing (v) WHERE id > '2001-02-03' AND b <> '\\x5c'",
    )
    s = shelf(ddl, [])
    read = "SELECT s.data FROM peer_internal.section AS s WHERE s.op = 'SCHEMA'"
    found = []
    for settings in ({}, ODD_SETTINGS):
        for name, value in settings.items():
            s.here.execute("SELECT set_config(%s, %s, false)", name, value)
        with s.here.connection.transaction(force_rollback=True):
            s.here.execute("SELECT peer.track('shelf', 'public.thing')")
            found.append(s.here.execute(read))
    s.here.execute("RESET ALL")
    assert found[0] == found[1]
    s.here.execute("SELECT peer.track('shelf', 'thing')")
    s.tables.append("thing")
    s.here.execute("INSERT INTO thing DEFAULT VALUES")
    for name, value in ODD_SETTINGS.items():
        s.there.execute("SELECT set_config(%s, %s, false)", name, value)
    s.carry()
    s.there.execute("RESET ALL")
    s.there.execute("INSERT INTO thing (id) VALUES ('2020-02-04')")
    s.exchange()
    assert len({row.split("\t", 1)[1] for row in s.rows(s.here, "thing")}) == 1


HOSTILE = (
    "CREATE SCHEMA evil",
    "CREATE FUNCTION evil.lie(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.lie(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.lie(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.lie(record, record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END'",
    *(
        f"CREATE OPERATOR evil.{operator} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.lie)"
        for operator in ("=", "<>", "<", ">", "*<>")
        for kind in ("integer", "text", "bytea", "record")
        if operator != "*<>" or kind == "record"
    ),
    *(
        f"CREATE FUNCTION evil.{name} RETURNS {result} LANGUAGE sql AS 'SELECT NULL::{result}'"
        for name, result in (
            ("sha256(bytea)", "bytea"),
            ("convert_to(text, text)", "bytea"),
            ("replace(text, text, text)", "text"),
            ("array_agg(integer)", "integer[]"),
            ("pg_notify(text, text)", "text"),
            ("clock_timestamp()", "timestamptz"),
            ("format(text)", "text"),
            ("current_setting(text)", "text"),
            ("quote_ident(text)", "text"),
            ("repeat(text, integer)", "text"),
        )
    ),
    "CREATE DOMAIN evil.uuid AS text CHECK (false)",
    "CREATE DOMAIN evil.text AS integer",
    "CREATE DOMAIN evil.regclass AS text CHECK (false)",
    *(
        f"CREATE TABLE evil.{name} (x integer)"
        for name in ("commit", "section", "relation", "worker", "n", "o", "bundle")
    ),
)


def test_a_hostile_search_path_and_temporary_objects_change_nothing(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, *HOSTILE], "note")
    with psycopg.connect(s.here.dsn, autocommit=True) as user:
        for name in (
            "placed",
            "parked_1",
            "relation",
            "section",
            "commit",
            "bundle",
            "worker",
            "n",
            "o",
            "note",
            "config",
        ):
            user.execute(f"CREATE TEMP TABLE {name} (id integer, x pg_catalog.text)")  # type: ignore[arg-type]
        user.execute("CREATE TYPE pg_temp.uuid AS ENUM ('x')")
        user.execute("SET search_path = evil, pg_temp, pg_catalog, public")
        user.execute("INSERT INTO public.note VALUES (3, 'c', 'C')")
        user.execute("UPDATE public.note SET title = 'x'::pg_catalog.text WHERE id OPERATOR(pg_catalog.=) 1")
        user.execute("UPDATE public.note SET id = 22 WHERE id OPERATOR(pg_catalog.=) 2")
        ((count,),) = user.execute("SELECT count(*) FROM peer.status('shelf'::pg_catalog.text)").fetchall()
        assert count == 4
        ((commit_id,),) = user.execute("SELECT peer.commit('shelf'::pg_catalog.text)").fetchall()
        assert commit_id
        user.execute("DELETE FROM public.note WHERE id OPERATOR(pg_catalog.=) 3")
    assert s.changes() == [Change("note", "DELETE", '{"id": 3}')]
    s.exchange()


def test_a_commit_in_a_session_with_temporary_tables_settles_what_it_had_not_seen(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note", mode="manual")
    s.there.write("UPDATE note SET title = 'there' WHERE id = 1")
    s.there.commit()
    s.here.write("UPDATE note SET title = 'here' WHERE id = 1")
    s.here.deliver(s.there.outgoing(s.here.merged()))
    with psycopg.connect(s.here.dsn, autocommit=True) as user:
        user.execute("CREATE TEMP TABLE placed (x integer)")
        user.execute("CREATE TEMP TABLE parked_1 (x integer)")
        user.execute("SELECT peer.commit('shelf')")
        assert user.execute("SELECT x FROM pg_temp.placed").fetchall() == []
    s.exchange()
    assert s.rows(s.there, "note")[0] == "1\there\tA"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_writes_of_every_isolation_level_are_captured_but_commits_need_read_committed(
    shelf: MakeShelf, level: str
) -> None:
    s = shelf([NOTE, FILL], "note")
    with psycopg.connect(s.here.dsn, autocommit=True) as user:
        user.execute(f"BEGIN ISOLATION LEVEL {level}")  # type: ignore[arg-type]
        user.execute("UPDATE note SET title = 'x' WHERE id = 1")
        user.execute("SAVEPOINT before")
        for statement in ("SELECT peer.commit('shelf')", "SELECT peer.track('shelf', 'peer.hub')"):
            with pytest.raises(psycopg.DatabaseError) as refusal:
                user.execute(statement)
            assert (refusal.value.sqlstate or "")[:2] == "PG"
            user.execute("ROLLBACK TO before")
        with pytest.raises(psycopg.DatabaseError) as refusal:
            user.execute("SELECT peer.commit('shelf')")
        assert refusal.value.sqlstate == "PGC01"
        assert refusal.value.diag.message_hint
        user.execute("ROLLBACK TO before")
        user.execute("COMMIT")
    assert s.changes() == [Change("note", "UPDATE", '{"id": 1}', ("title",))]
    s.exchange()


def test_a_commit_inside_a_transaction_that_rolls_back_leaves_the_changes_uncommitted(
    shelf: MakeShelf,
) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write("UPDATE note SET title = 'kept' WHERE id = 1")
    before = s.changes()
    with s.here.connection.transaction(force_rollback=True):
        s.here.write("UPDATE note SET body = 'gone'")
        assert s.here.commit()
    assert s.changes() == before
    s.exchange()
