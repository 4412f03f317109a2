"""Ways to write that leave PostgreSQL's beaten track: rules, INSTEAD OF views, deferred work, two-phase commit, very large statements."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from fixtures.databases import Databases, server_root
from fixtures.versions import BOTH
from merge.replica import Replica

from pgpeer.embedded import Cluster

from .conftest import MakeShelf
from .shelf import Change, Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, stars integer DEFAULT 0)"
LOG = "CREATE TABLE log (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note integer, said text)"
FILL = "INSERT INTO note SELECT g, 't' || g, g FROM generate_series(1, 5) AS g"
ALL = ("title", "stars")


def told(s: Shelf) -> list[tuple[str, str, str]]:
    return [(change.table, change.operation, change.key) for change in s.changes()]


def key(number: int) -> str:
    return f'{{"id": {number}}}'


def test_a_view_with_instead_of_triggers_is_captured_where_they_write(shelf: MakeShelf) -> None:
    view = (
        "CREATE VIEW pretty AS SELECT id, upper(title) AS title FROM note",
        "CREATE FUNCTION write_note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " IF tg_op = 'DELETE' THEN DELETE FROM note WHERE id = old.id; RETURN old; END IF;"
        " INSERT INTO note VALUES (new.id, lower(new.title)) ON CONFLICT (id) DO UPDATE SET title = lower(new.title);"
        " INSERT INTO log (note, said) VALUES (new.id, tg_op); RETURN new; END$$",
        "CREATE TRIGGER write_note INSTEAD OF INSERT OR UPDATE OR DELETE ON pretty"
        " FOR EACH ROW EXECUTE FUNCTION write_note()",
    )
    s = shelf([NOTE, LOG, FILL], ["note", "log"])
    for replica in s.both:
        replica.write(*view)
    s.here.write("INSERT INTO pretty VALUES (6, 'SIX')", "UPDATE pretty SET title = 'ONE' WHERE id = 1")
    s.here.write("DELETE FROM pretty WHERE id = 2")
    assert told(s) == [
        ("log", "INSERT", key(1)),
        ("log", "INSERT", key(2)),
        ("note", "DELETE", key(2)),
        ("note", "INSERT", key(6)),
        ("note", "UPDATE", key(1)),
    ]
    s.exchange()
    assert len(s.rows(s.there, "log")) == 2


def test_a_view_that_checks_is_captured_and_refuses_as_ever(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE VIEW low AS SELECT * FROM note WHERE stars < 3 WITH CHECK OPTION"], "note")
    s.here.write("INSERT INTO low VALUES (6, 'six', 1)", "UPDATE low SET title = 'x' WHERE id = 5")
    error = s.attempt("UPDATE low SET stars = 9")
    assert error is not None
    assert error.sqlstate == "44000"
    assert told(s) == [("note", "INSERT", key(6))]
    s.exchange()


def test_what_an_authors_rules_do_is_captured_once_and_not_done_again_by_a_peer(shelf: MakeShelf) -> None:
    rules = (
        "CREATE RULE also AS ON INSERT TO note DO ALSO INSERT INTO log (note, said) VALUES (new.id, 'new')",
        "CREATE RULE keep AS ON DELETE TO note DO INSTEAD UPDATE note SET title = 'gone' WHERE id = old.id",
    )
    s = shelf([NOTE, LOG, FILL], ["note", "log"])
    for replica in s.both:
        replica.write(*rules)
    s.here.write("INSERT INTO note VALUES (6, 'six')", "DELETE FROM note WHERE id IN (1, 2)")
    assert told(s) == [
        ("log", "INSERT", key(1)),
        ("note", "INSERT", key(6)),
        ("note", "UPDATE", key(1)),
        ("note", "UPDATE", key(2)),
    ]
    s.exchange()
    assert len(s.rows(s.there, "log")) == 1


def test_triggers_that_write_the_same_table_are_captured_once(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    for replica in s.both:
        replica.write(
            "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN UPDATE note SET stars = stars + 1 WHERE id = new.id - 1; RETURN NULL; END'",
            "CREATE TRIGGER count_up AFTER INSERT OR UPDATE OF title ON note FOR EACH ROW EXECUTE FUNCTION count_up()",
            "CREATE FUNCTION filter() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN IF new.title = ''no'' THEN RETURN NULL; END IF; RETURN new; END'",
            "CREATE TRIGGER filter BEFORE INSERT OR UPDATE ON note FOR EACH ROW EXECUTE FUNCTION filter()",
        )
    s.here.write("INSERT INTO note VALUES (6, 'six'), (7, 'no')", "UPDATE note SET title = 'no' WHERE id = 1")
    s.here.write("UPDATE note SET title = 'yes' WHERE id = 3")
    assert s.changes() == [
        Change("note", "INSERT", key(6), ALL),
        Change("note", "UPDATE", key(2), ("stars",)),
        Change("note", "UPDATE", key(3), ("title",)),
        Change("note", "UPDATE", key(5), ("stars",)),
    ]
    s.exchange()
    with s.here.connection.cursor().copy("COPY note (id, title) FROM STDIN") as copy:
        for row in ((8, "eight"), (9, "no"), (10, "ten")):
            copy.write_row(row)
    assert told(s) == [("note", "INSERT", key(10)), ("note", "INSERT", key(8))]
    s.exchange()


def test_deferred_constraints_and_what_deferred_triggers_write_lie_in_one_commit(shelf: MakeShelf) -> None:
    s = shelf(
        [
            NOTE,
            LOG,
            "CREATE TABLE parent (id integer PRIMARY KEY)",
            "CREATE TABLE child (id integer PRIMARY KEY, parent integer NOT NULL REFERENCES parent"
            " DEFERRABLE INITIALLY DEFERRED, place integer UNIQUE DEFERRABLE INITIALLY DEFERRED)",
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO log (note, said) VALUES (new.id, ''child''); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON child DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION tell()",
        ],
        ["log", "parent", "child"],
    )
    s.here.write("INSERT INTO child VALUES (1, 10, 1), (2, 10, 2)", "INSERT INTO parent VALUES (10)")
    (made,) = s.exchange()
    assert s.sections(made) == [("INSERT", 1), ("INSERT", 2), ("INSERT", 2)]
    s.here.write("UPDATE child SET place = 2 WHERE id = 1", "UPDATE child SET place = 1 WHERE id = 2")
    s.exchange()
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        s.here.write("INSERT INTO child VALUES (3, 99, 3)")
    assert s.changes() == []
    s.here.write("DELETE FROM parent", "INSERT INTO parent VALUES (11)", "UPDATE child SET parent = 11")
    s.exchange()


@pytest.fixture(params=BOTH)
def two_phase(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Replica]:
    """A database on a server that allows prepared transactions."""
    bindir = databases.cluster(request.param).bindir
    data = server_root()[0] / f"pgpeer-test-{os.getpid()}-prepared-{request.param}"
    settings = {"max_prepared_transactions": "4"}
    with (
        Cluster(data, persistent=False, bindir=bindir, settings=settings).start() as cluster,
        databases.temporary("prepared", cluster) as database,
    ):
        replica = Replica("prepared", database.dsn, database.key)
        yield replica
        replica.close()


def test_a_prepared_transaction_is_captured_when_it_is_committed(two_phase: Replica) -> None:
    two_phase.write(NOTE, FILL)
    two_phase.create("shelf", "auto", [])
    two_phase.execute("SELECT peer.track('shelf', 'note')")
    for outcome in ("COMMIT", "ROLLBACK"):
        two_phase.execute("BEGIN")
        two_phase.execute(f"UPDATE note SET title = '{outcome}' WHERE id = 1")
        two_phase.execute(f"INSERT INTO note VALUES ({len(outcome)})")
        two_phase.execute("PREPARE TRANSACTION 'later'")
        two_phase.execute("UPDATE note SET stars = stars + 1 WHERE id = 2")
        assert [row[2] for row in two_phase.status()] == ["UPDATE"]
        assert two_phase.commit() is not None, "a prepared transaction holds up the commits of others"
        two_phase.execute(f"{outcome} PREPARED 'later'")
        assert len(two_phase.status()) == (2 if outcome == "COMMIT" else 0)
        assert (two_phase.commit() is not None) == (outcome == "COMMIT")


def journal(s: Shelf) -> list[tuple[str, int]]:
    """Operation and number of keys of each row of the only journal."""
    number = s.here.value("SELECT relation_number FROM peer_internal.relation")
    return s.here.execute(
        f"SELECT op::text, cardinality(keys) FROM peer_internal.journal_{number} ORDER BY 1, 2"
    )  # type: ignore[return-value]


@pytest.mark.slow
def test_a_very_large_statement_is_journaled_in_parts(shelf: MakeShelf) -> None:
    s = shelf("CREATE TABLE big (a integer, b integer, c integer, PRIMARY KEY (a, b))", "big")
    most = s.here.value("SELECT peer_internal.journal_keys_max()")
    rest = 1000
    rows = most + rest
    s.here.write(f"INSERT INTO big SELECT 1, g, g FROM generate_series(1, {rows}) AS g")
    assert journal(s) == [("I", rest), ("I", most)]
    (made,) = s.exchange()
    assert sum(count for _, count in s.sections(made)) == rows
    for statement, expected in {
        "UPDATE big SET c = c + 1": [("U", rest), ("U", most)],
        f"UPDATE big SET c = c + 1 WHERE b <= {most}": [("U", most)],
        f"UPDATE big SET c = c + 1 WHERE b <= {rest}": [("U", rest)],
        "UPDATE big SET c = c": [],
        "DELETE FROM big": [("D", rest), ("D", most)],
        "TRUNCATE big": [("D", rest), ("D", most)],
    }.items():
        with s.here.connection.transaction(force_rollback=True):
            s.here.execute(statement)
            assert journal(s) == expected, statement
    with s.here.connection.transaction(force_rollback=True):
        s.here.execute(f"UPDATE big SET a = 2, c = 0 WHERE b > {rest}")
        assert sum(count for _, count in journal(s)) == 2 * most
        assert max(count for _, count in journal(s)) <= most
