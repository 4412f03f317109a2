"""What track refuses, and what it and untrack leave behind."""

from __future__ import annotations

from .conftest import MakeShelf
from .shelf import Change, Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text)"
FILL = "INSERT INTO note VALUES (1, 'a'), (2, 'b')"
REFUSED = {
    "no primary key": ("CREATE TABLE x (a integer)", "PGT01", "ADD PRIMARY KEY"),
    "no primary key, but a unique one": (
        "CREATE TABLE x (a integer UNIQUE NOT NULL)",
        "PGT01",
        "ADD PRIMARY KEY (a)",
    ),
    "a view": ("CREATE VIEW x AS SELECT 1 AS a", "PGT02", "table"),
    "a materialized view": ("CREATE MATERIALIZED VIEW x AS SELECT 1 AS a", "PGT02", "table"),
    "a parent of an inheritance tree": (
        "CREATE TABLE x (a integer PRIMARY KEY); CREATE TABLE heir () INHERITS (x)",
        "PGT04",
        "NO INHERIT",
    ),
    "a foreign table": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        " CREATE FOREIGN TABLE x (a integer) SERVER s",
        "PGT02",
        "table",
    ),
    "a partition": (
        "CREATE TABLE whole (a integer PRIMARY KEY) PARTITION BY RANGE (a);"
        " CREATE TABLE x PARTITION OF whole FOR VALUES FROM (1) TO (9)",
        "PGT04",
        "DETACH",
    ),
    "a child": (
        "CREATE TABLE base (a integer); CREATE TABLE x (b integer PRIMARY KEY) INHERITS (base)",
        "PGT04",
        "NO INHERIT",
    ),
    "a temporary table": ("CREATE TEMP TABLE x (a integer PRIMARY KEY)", "PGT03", "ordinary"),
    "an unlogged table": ("CREATE UNLOGGED TABLE x (a integer PRIMARY KEY)", "PGT03", "SET LOGGED"),
    "a sequence": ("CREATE SEQUENCE x", "PGT02", ""),
    "a key that can be deferred": (
        "CREATE TABLE x (a integer PRIMARY KEY DEFERRABLE)",
        "PGT06",
        "PRIMARY KEY",
    ),
    "a key of floats": ("CREATE TABLE x (a double precision PRIMARY KEY)", "PGT08", ""),
    "a key of numerics without scale": ("CREATE TABLE x (a numeric PRIMARY KEY)", "PGT08", ""),
    "a column of object ids": ("CREATE TABLE x (a integer PRIMARY KEY, b regclass)", "PGT05", ""),
}


def test_what_cannot_be_tracked_is_refused_with_a_remedy(shelf: MakeShelf) -> None:
    s = shelf([], [])
    for name, (ddl, sqlstate, remedy) in REFUSED.items():
        with s.here.connection.transaction(force_rollback=True):
            s.here.execute(ddl)
            s.here.execute("SAVEPOINT before")
            error = s.attempt("SELECT peer.track('shelf', 'x')")
            assert error is not None, name
            assert error.sqlstate == sqlstate, f"{name}: {error}"
            assert error.diag.message_primary, name
            assert remedy in (error.diag.message_hint or ""), f"{name}: {error.diag.message_hint}"
            s.here.execute("ROLLBACK TO before")
            assert s.here.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_pgpeer%'") == 0, name
    s.exchange()


WRONG = {
    "SELECT peer.track('shelf', 'note')": "PGT10",
    "SELECT peer.track('other', 'note')": "PGT10",
    "SELECT peer.track('nothing', 'free')": "PGB01",
    "SELECT peer.track('shelf', 'pg_class')": "PGT07",
    "SELECT peer.track('shelf', 'peer.hub')": "PGT07",
    "SELECT peer.track('shelf', NULL)": "PGT11",
    "SELECT peer.track('shelf', 'free', 'id > 3')": "PGT12",
    "SELECT peer.untrack('free')": "PGT14",
    "SELECT peer.untrack(NULL)": "PGT14",
    "SELECT peer.commit('nothing')": "PGB01",
    "SELECT peer.commit(NULL)": "PGB01",
    "SELECT * FROM peer.status('nothing')": "PGB01",
    "SELECT * FROM peer.log('nothing')": "PGB01",
    "SELECT peer.state_hash('nothing')": "PGB01",
    "SELECT peer.create_bundle('shelf')": "PGB02",
    "SELECT peer.create_bundle('')": "PGB03",
    "SELECT peer.create_bundle('x', 'never')": "PGB04",
    "SELECT peer.commit('shelf', repeat('x', 65537))": "PGC02",
}


def test_wrong_requests_are_refused_each_with_its_sqlstate_and_change_nothing(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE TABLE free (id integer PRIMARY KEY)"], "note")
    s.here.execute("SELECT peer.create_bundle('other')")
    s.here.write("UPDATE note SET title = 'x'")
    before = traces(s), s.changes()
    for statement, sqlstate in WRONG.items():
        error = s.attempt(statement)
        assert error is not None, statement
        assert error.sqlstate == sqlstate, f"{statement}: {error}"
        assert error.diag.message_hint, statement
        assert (traces(s), s.changes()) == before, statement
    s.exchange()


def test_track_that_is_rolled_back_leaves_nothing(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE TABLE pair (a integer, b text, PRIMARY KEY (a, b))"], "note")
    before = traces(s)
    with s.here.connection.transaction(force_rollback=True):
        s.here.execute("SELECT peer.track('shelf', 'pair')")
        s.here.execute("INSERT INTO pair VALUES (1, 'a')")
        assert traces(s) != before
    assert traces(s) == before
    s.exchange()
    s.track("pair")


def traces(s: Shelf) -> list[tuple[object, ...]]:
    """What stands in the catalogs and in pgpeer's tables."""
    return s.here.execute(
        "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_proc),"
        " (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM peer_internal.relation),"
        " (SELECT count(*) FROM peer_internal.relation_column), (SELECT count(*) FROM peer_internal.commit),"
        " (SELECT count(*) FROM peer_internal.section), (SELECT count(*) FROM peer_internal.pending_schema)"
    )


def test_bundle_tables_and_rows_in_one_transaction_with_the_first_writes(shelf: MakeShelf) -> None:
    s = shelf([], [])
    s.here.write(
        "CREATE TABLE parent (id integer PRIMARY KEY)",
        "CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent)",
        "INSERT INTO parent VALUES (1)",
        "SELECT peer.track('shelf', 'child')",
        "INSERT INTO child VALUES (1, 1)",
        "SELECT peer.track('shelf', 'parent')",
        "INSERT INTO parent VALUES (2)",
    )
    s.tables += ["child", "parent"]
    assert sorted(c.table for c in s.changes()) == ["child", "parent"]
    s.exchange()


def test_untrack_leaves_the_table_and_its_rows_as_they_were(shelf: MakeShelf) -> None:
    s = shelf([], [])
    before = traces(s)[0][:4]
    s.here.write(
        "CREATE TABLE pair (a integer, b text, PRIMARY KEY (a, b))",
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER zz_own AFTER INSERT ON pair EXECUTE FUNCTION own()",
    )
    bare = traces(s)[0][:4]
    assert bare != before
    s.track("pair")
    s.here.write("INSERT INTO pair VALUES (1, 'a'), (2, 'b')")
    s.here.execute("SELECT peer.untrack('pair')")
    s.tables.remove("pair")
    assert traces(s)[0][:4] == bare
    s.here.write("INSERT INTO pair VALUES (3, 'c')", "DELETE FROM pair WHERE a = 1", "TRUNCATE pair")
    s.here.write("INSERT INTO pair VALUES (9, 'i')")
    assert s.changes() == []
    assert s.here.commit() is None
    s.there.deliver(s.here.outgoing(s.there.merged()))
    assert s.rows(s.there, "pair") == ["1\ta", "2\tb"]
    s.there.write("INSERT INTO pair VALUES (4, 'd')")
    s.carry()
    assert s.rows(s.here, "pair") == ["9\ti"]
    assert [p for r in s.both for p in r.problems()] == []
    error = s.attempt("SELECT peer.track('shelf', 'pair')")
    assert error is not None
    assert error.sqlstate == "PGT13"


def test_an_untracked_table_can_be_tracked_in_another_bundle(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.execute("SELECT peer.untrack('note')")
    s.here.execute("SELECT peer.create_bundle('other')")
    s.here.execute("SELECT peer.track('other', 'note')")
    s.here.write("UPDATE note SET title = 'x' WHERE id = 1")
    rows = s.here.execute("SELECT relation::text, operation, key::text, columns FROM peer.status('other')")
    assert [Change(table, operation, key, tuple(names)) for table, operation, key, names in rows] == [
        Change("note", "UPDATE", '{"id": 1}', ("title",))
    ]
    assert s.here.value("SELECT peer.commit('other')")
    assert s.here.value("SELECT peer.commit('shelf')") is None


def test_existing_rows_become_a_commit_of_their_own(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE TABLE many (id integer PRIMARY KEY, v text)"], "note")
    s.here.write(
        "INSERT INTO many SELECT g, 'v' FROM generate_series(1, 20000) AS g", "UPDATE note SET title = 'x'"
    )
    s.here.execute("SELECT peer.track('shelf', 'many')")
    s.tables.append("many")
    (first,) = s.here.outgoing(s.there.merged())
    assert s.sections(first) == [("INSERT", 3616), ("INSERT", 8192), ("INSERT", 8192), ("SCHEMA", 1)]
    assert [c.table for c in s.changes()] == ["note", "note"]
    s.exchange()


def test_two_members_that_track_their_own_equal_tables_come_together(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], [])
    s.there.write(NOTE, "INSERT INTO note VALUES (2, 'b'), (3, 'c')")
    s.there.execute("SELECT peer.track('shelf', 'note')")
    s.track("note")
    assert s.rows(s.here, "note") == ["1\ta", "2\tb", "3\tc"]
    assert s.here.value("SELECT count(*) FROM peer.conflict WHERE bundle = 'shelf'") == 0
