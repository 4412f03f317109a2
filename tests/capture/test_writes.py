"""What each kind of write becomes: exactly the rows and columns that it changed, and nothing else."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.versions import SECOND

from .conftest import MakeShelf
from .shelf import Change

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, body text, stars integer DEFAULT 0)"
ALL = ("title", "body", "stars")


def inserted(*keys: int) -> list[Change]:
    return [Change("note", "INSERT", f'{{"id": {key}}}', ALL) for key in keys]


def updated(key: int, *columns: str) -> Change:
    return Change("note", "UPDATE", f'{{"id": {key}}}', columns)


def deleted(*keys: int) -> list[Change]:
    return [Change("note", "DELETE", f'{{"id": {key}}}') for key in keys]


FILL = "INSERT INTO note SELECT g, 't' || g, 'b' || g, g FROM generate_series(1, 5) AS g"

STATEMENTS: dict[str, tuple[str, list[Change]]] = {
    "an insert": ("INSERT INTO note VALUES (6, 'a', 'b', 1)", inserted(6)),
    "an insert of several rows": ("INSERT INTO note (id) VALUES (6), (7), (8)", inserted(6, 7, 8)),
    "an insert of no row": ("INSERT INTO note SELECT 9 WHERE false", []),
    "an update of one column": ("UPDATE note SET body = 'x' WHERE id = 2", [updated(2, "body")]),
    "an update of two columns": (
        "UPDATE note SET body = 'x', stars = 9 WHERE id IN (2, 3)",
        [updated(2, "body", "stars"), updated(3, "body", "stars")],
    ),
    "an update that changes other columns in each row": (
        "UPDATE note SET title = 't1', stars = 2",
        [
            updated(1, "stars"),
            updated(2, "title"),
            *(updated(key, "title", "stars") for key in (3, 4, 5)),
        ],
    ),
    "an update to NULL": ("UPDATE note SET title = NULL WHERE id = 1", [updated(1, "title")]),
    "an update that changes nothing": ("UPDATE note SET title = title, stars = stars", []),
    "an update of no row": ("UPDATE note SET title = 'x' WHERE false", []),
    "a delete": ("DELETE FROM note WHERE id IN (1, 4)", deleted(1, 4)),
    "a delete of no row": ("DELETE FROM note WHERE id > 99", []),
    "an insert that updates on conflict": (
        "INSERT INTO note VALUES (1, 'new', 'b1', 1), (6, 'new', 'n', 1)"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title",
        [*inserted(6), updated(1, "title")],
    ),
    "an insert that does nothing on conflict": (
        "INSERT INTO note VALUES (1, 'new'), (6, 'new') ON CONFLICT DO NOTHING",
        inserted(6),
    ),
    "a MERGE": (
        "MERGE INTO note AS n USING (VALUES (1, 'x'), (2, 'x'), (3, 't3'), (7, 'x')) AS v(id, title)"
        " ON n.id = v.id WHEN MATCHED AND n.id = 2 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET title = v.title"
        " WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, v.title)",
        [*deleted(2), *inserted(7), updated(1, "title")],
    ),
    "a TRUNCATE": ("TRUNCATE note", deleted(1, 2, 3, 4, 5)),
    "one statement that inserts, updates and deletes": (
        "WITH a AS (INSERT INTO note VALUES (6), (7)), b AS (DELETE FROM note WHERE id = 5),"
        " c AS (UPDATE note SET title = 'c' WHERE id = 1) UPDATE note SET body = 'd' WHERE id = 2",
        [*deleted(5), *inserted(6, 7), updated(1, "title"), updated(2, "body")],
    ),
    "an update joined with another table": (
        "UPDATE note SET stars = v.stars FROM (VALUES (1, 10), (2, 20)) AS v(id, stars) WHERE note.id = v.id",
        [updated(1, "stars"), updated(2, "stars")],
    ),
    "a change of a key": ("UPDATE note SET id = 50 WHERE id = 5", [*deleted(5), *inserted(50)]),
    "a change of all keys onto each other": (
        "UPDATE note SET id = s.id - 1 FROM (SELECT id FROM note ORDER BY id) AS s WHERE note.id = s.id",
        [*deleted(5), *inserted(0), *(updated(key, "title", "body", "stars") for key in (1, 2, 3, 4))],
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_write_becomes_exactly_what_it_changed(shelf: MakeShelf, name: str) -> None:
    statement, expected = STATEMENTS[name]
    s = shelf([NOTE, FILL], "note")
    if statement.startswith("MERGE"):
        s.require(15, "MERGE")
    s.here.write(statement)
    assert s.changes() == sorted(expected)
    made = s.exchange()
    assert len(made) == (1 if expected else 0)
    assert sum(section.rows for e in made for section in e.decoded().sections) == len(expected)


@pytest.mark.parametrize("servers", [f"{SECOND} {SECOND}"], indirect=True)
def test_older_servers_capture_every_write_alike(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    for name, (statement, expected) in STATEMENTS.items():
        with s.here.connection.transaction(force_rollback=True):
            s.here.execute(statement)
            assert s.changes() == sorted(expected), name
        assert s.changes() == []
    for name in (
        "an insert of several rows",
        "an update of two columns",
        "a MERGE",
        "a change of a key",
        "a delete",
    ):
        if name != "a MERGE" or int(SECOND) >= 15:
            s.here.write(STATEMENTS[name][0])
    s.exchange()
    s.here.write("TRUNCATE note")
    s.exchange()


def test_rows_loaded_by_copy_are_captured(shelf: MakeShelf) -> None:
    s = shelf(NOTE, "note")
    with s.here.connection.cursor().copy("COPY note (id, title, body) FROM STDIN") as copy:
        for number in range(1, 2001):
            copy.write_row((number, f"t{number}", None))
    assert len(s.changes()) == 2000
    (made,) = s.exchange()
    assert s.sections(made) == [("INSERT", 2000)]


def test_a_write_through_a_view_is_captured(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE VIEW few AS SELECT id, title FROM note WHERE stars < 3"], "note")
    s.here.write("UPDATE few SET title = 'v'", "DELETE FROM few WHERE id = 1")
    assert s.changes() == sorted([*deleted(1), updated(2, "title")])
    s.exchange()


def test_what_a_users_triggers_write_is_captured_and_they_do_not_fire_in_a_merge(shelf: MakeShelf) -> None:
    s = shelf([NOTE, "CREATE TABLE log (id uuid PRIMARY KEY, note integer)", FILL], ["note", "log"])
    triggers = (
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN new.title = upper(new.title) || current_database(); RETURN new; END'",
        "CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO log VALUES (gen_random_uuid(), coalesce(new.id, old.id)); RETURN NULL; END'",
        "CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON note FOR EACH ROW EXECUTE FUNCTION shout()",
        "CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON note"
        " FOR EACH ROW EXECUTE FUNCTION remember()",
    )
    s.here.write(*triggers)
    s.there.write(*triggers)
    s.here.write("INSERT INTO note VALUES (6, 'six')", "UPDATE note SET body = 'x' WHERE id = 1")
    s.here.write("DELETE FROM note WHERE id = 2")
    assert [c.operation for c in s.changes() if c.table == "log"] == ["INSERT"] * 3
    assert updated(1, "title", "body") in s.changes()
    s.exchange()
    assert len(s.rows(s.there, "log")) == 3


def test_a_users_rules_do_not_bend_a_merge(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.there.write(
        "CREATE RULE none AS ON INSERT TO note DO INSTEAD NOTHING",
        "CREATE RULE more AS ON DELETE TO note DO ALSO DELETE FROM note",
    )
    s.here.write("INSERT INTO note VALUES (6, 'six')", "DELETE FROM note WHERE id = 1")
    s.exchange()
    assert len(s.rows(s.there, "note")) == 5


def test_truncate_reaches_every_table_that_it_empties(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE TABLE parent (id integer PRIMARY KEY)",
            "CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent)",
            "INSERT INTO parent VALUES (1), (2)",
            "INSERT INTO child VALUES (1, 1), (2, 2), (3, 2)",
        ],
        ["parent", "child"],
    )
    s.here.write("TRUNCATE parent CASCADE", "INSERT INTO parent VALUES (2), (3)")
    assert [(c.table, c.operation, c.key) for c in s.changes()] == [
        *(("child", "DELETE", f'{{"id": {key}}}') for key in (1, 2, 3)),
        ("parent", "DELETE", '{"id": 1}'),
        ("parent", "INSERT", '{"id": 3}'),
        ("parent", "UPDATE", '{"id": 2}'),
    ]
    s.exchange()
    s.here.write("TRUNCATE child, parent")
    s.exchange()
    assert s.rows(s.there, "parent") == []


def test_what_is_rolled_back_leaves_nothing(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    with s.here.connection.transaction(force_rollback=True):
        s.here.execute("UPDATE note SET title = 'x'")
        s.here.execute("TRUNCATE note")
    with pytest.raises(psycopg.errors.UniqueViolation):
        s.here.execute("INSERT INTO note VALUES (6), (7), (1)")
    s.here.execute(
        "DO $$BEGIN BEGIN DELETE FROM note; RAISE division_by_zero;"
        " EXCEPTION WHEN division_by_zero THEN NULL; END; END$$"
    )
    assert s.changes() == []
    assert s.here.commit() is None
    s.exchange()


def test_only_what_a_savepoint_kept_is_captured(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(
        "UPDATE note SET title = 'kept' WHERE id = 1",
        "SAVEPOINT a",
        "UPDATE note SET body = 'lost' WHERE id = 1",
        "DELETE FROM note WHERE id = 2",
        "ROLLBACK TO a",
        "UPDATE note SET stars = 7 WHERE id = 1",
        "SAVEPOINT b",
        "INSERT INTO note VALUES (6)",
        "RELEASE b",
    )
    assert s.changes() == sorted([*inserted(6), updated(1, "title", "stars")])
    s.exchange()


def test_several_statements_on_one_row_fold_into_one_change(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write("INSERT INTO note VALUES (6, 'a')", "UPDATE note SET title = 'b' WHERE id = 6")
    s.here.write("UPDATE note SET title = 'x' WHERE id = 1", "UPDATE note SET body = 'y' WHERE id = 1")
    s.here.write("INSERT INTO note VALUES (7)", "DELETE FROM note WHERE id = 7")
    s.here.write("UPDATE note SET title = 'z' WHERE id = 2", "DELETE FROM note WHERE id = 2")
    s.here.write("DELETE FROM note WHERE id = 3", "INSERT INTO note VALUES (3, 't3', 'b3', 3)")
    s.here.write(
        "DELETE FROM note WHERE id = 4", "INSERT INTO note VALUES (4)", "DELETE FROM note WHERE id = 4"
    )
    assert s.changes() == sorted(
        [*inserted(6), updated(1, "title", "body"), *deleted(2, 4), updated(3, *ALL)]
    )
    s.exchange()


def test_a_swap_of_keys_travels(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    for old, new in ((1, 99), (2, 1), (99, 2)):
        s.here.write(f"UPDATE note SET id = {new} WHERE id = {old}")
    assert s.changes() == [updated(1, *ALL), updated(2, *ALL)]
    s.exchange()
    assert s.rows(s.there, "note")[:2] == ["1\tt2\tb2\t2", "2\tt1\tb1\t1"]


def test_a_swap_of_unique_values_travels(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE TABLE seat (id integer PRIMARY KEY, place text NOT NULL UNIQUE, row_no integer,"
            " label text GENERATED ALWAYS AS (place || '!') STORED)",
            "INSERT INTO seat VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        ],
        "seat",
    )
    s.here.write(
        "UPDATE seat SET place = 'x' WHERE id = 1",
        "UPDATE seat SET place = 'a' WHERE id = 2",
        "UPDATE seat SET place = 'b', row_no = 9 WHERE id = 1",
        "DELETE FROM seat WHERE id = 3",
        "INSERT INTO seat VALUES (4, 'c', 4)",
    )
    s.exchange()
    assert s.rows(s.there, "seat") == ["1\tb\t9\tb!", "2\ta\t2\ta!", "4\tc\t4\tc!"]


def test_many_statements_by_several_sessions_become_one_commit(shelf: MakeShelf) -> None:
    s = shelf(NOTE, "note")
    for number in range(3):
        with psycopg.connect(s.here.dsn) as session:
            session.execute(f"INSERT INTO note SELECT g * 3 + {number}, 'x' FROM generate_series(1, 50) AS g")
            session.execute("UPDATE note SET stars = stars + 1")
    (made,) = s.exchange()
    assert s.sections(made) == [("INSERT", 150)]


def test_writes_work_and_are_kept_while_no_worker_runs(shelf: MakeShelf) -> None:
    s = shelf(NOTE, "note")
    for number in range(30):
        s.here.write(f"INSERT INTO note VALUES ({number}, 'x')")
    assert len(s.changes()) == 30
    s.exchange()
