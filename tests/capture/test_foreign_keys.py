"""What foreign-key actions do is captured as the author's own writes, and travels so (merge rule 10)."""

from __future__ import annotations

import pytest

from .conftest import MakeShelf
from .shelf import Change

PARENT = "CREATE TABLE parent (id integer PRIMARY KEY, code text UNIQUE)"
FILL = (
    "INSERT INTO parent VALUES (0, 'zero'), (1, 'one'), (2, 'two')",
    "INSERT INTO child VALUES (10, 1, 'a'), (11, 1, 'b'), (12, 2, 'c')",
)


def child(action: str, default: str = "") -> str:
    return (
        "CREATE TABLE child (id integer PRIMARY KEY,"
        f" parent integer {default} REFERENCES parent {action}, name text)"
    )


def change(table: str, operation: str, key: int, *columns: str) -> Change:
    return Change(table, operation, f'{{"id": {key}}}', columns)


ACTIONS = {
    "cascade": (
        child("ON DELETE CASCADE"),
        "DELETE FROM parent WHERE id = 1",
        [
            change("child", "DELETE", 10),
            change("child", "DELETE", 11),
            change("parent", "DELETE", 1),
        ],
    ),
    "set null": (
        child("ON DELETE SET NULL"),
        "DELETE FROM parent WHERE id = 1",
        [
            change("child", "UPDATE", 10, "parent"),
            change("child", "UPDATE", 11, "parent"),
            change("parent", "DELETE", 1),
        ],
    ),
    "set default": (
        child("ON DELETE SET DEFAULT", "DEFAULT 0"),
        "DELETE FROM parent WHERE id = 1",
        [
            change("child", "UPDATE", 10, "parent"),
            change("child", "UPDATE", 11, "parent"),
            change("parent", "DELETE", 1),
        ],
    ),
    "update cascade": (
        child("ON UPDATE CASCADE"),
        "UPDATE parent SET id = 5 WHERE id = 1",
        [
            change("child", "UPDATE", 10, "parent"),
            change("child", "UPDATE", 11, "parent"),
            change("parent", "DELETE", 1),
            change("parent", "INSERT", 5, "code"),
        ],
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_foreign_key_action_travels_as_the_authors_own_write(shelf: MakeShelf, name: str) -> None:
    ddl, statement, expected = ACTIONS[name]
    s = shelf([PARENT, ddl, *FILL], ["parent", "child"])
    s.here.write(statement)
    assert s.changes() == sorted(expected)
    s.exchange()


def test_a_cascade_through_two_keys_of_one_row_is_captured_once(shelf: MakeShelf) -> None:
    s = shelf(
        [
            PARENT,
            "CREATE TABLE child (id integer PRIMARY KEY, a integer REFERENCES parent ON UPDATE CASCADE,"
            " b integer REFERENCES parent ON UPDATE CASCADE, c integer)",
            "INSERT INTO parent VALUES (1), (2)",
            "INSERT INTO child VALUES (10, 1, 1), (11, 1, 2)",
        ],
        ["parent", "child"],
    )
    s.here.write("UPDATE parent SET id = 3 WHERE id = 1")
    assert [c for c in s.changes() if c.table == "child"] == [
        change("child", "UPDATE", 10, "a", "b"),
        change("child", "UPDATE", 11, "a"),
    ]
    s.exchange()


def test_a_cascade_that_moves_a_childs_own_key_is_captured(shelf: MakeShelf) -> None:
    s = shelf(
        [
            PARENT,
            "CREATE TABLE child (a integer REFERENCES parent ON UPDATE CASCADE,"
            " b integer REFERENCES parent ON UPDATE CASCADE, note text, PRIMARY KEY (a, b))",
            "INSERT INTO parent VALUES (1), (2)",
            "INSERT INTO child VALUES (1, 1, 'x'), (1, 2, 'y')",
        ],
        ["parent", "child"],
    )
    s.here.write("UPDATE parent SET id = 3 WHERE id = 1")
    assert [(c.operation, c.key) for c in s.changes() if c.table == "child"] == [
        ("DELETE", '{"a": 1, "b": 1}'),
        ("DELETE", '{"a": 1, "b": 2}'),
        ("INSERT", '{"a": 3, "b": 2}'),
        ("INSERT", '{"a": 3, "b": 3}'),
    ]
    s.exchange()


def test_a_cascade_down_a_tree_in_one_table_is_captured_wholly(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE TABLE node (id integer PRIMARY KEY, up integer REFERENCES node ON DELETE CASCADE)",
            "INSERT INTO node SELECT g, nullif(g / 2, 0) FROM generate_series(1, 63) AS g",
        ],
        "node",
    )
    s.here.write("DELETE FROM node WHERE id IN (2, 7)")
    assert {c.operation for c in s.changes()} == {"DELETE"}
    assert len(s.changes()) == 31 + 15
    s.exchange()
    s.here.write("DELETE FROM node")
    s.exchange()
    assert s.rows(s.there, "node") == []


def test_rows_that_reference_each_other_travel_together(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE TABLE a (id integer PRIMARY KEY, b integer)",
            "CREATE TABLE b (id integer PRIMARY KEY, a integer NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED)",
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED",
        ],
        ["a", "b"],
    )
    s.here.write("INSERT INTO a VALUES (1, 1)", "INSERT INTO b VALUES (1, 1)")
    s.exchange()
    s.here.write("DELETE FROM a", "INSERT INTO a VALUES (2, 2)", "UPDATE b SET a = 2, id = 2")
    s.exchange()
    s.here.write("DELETE FROM b", "DELETE FROM a")
    s.exchange()


def test_a_change_of_a_referenced_unique_value_travels(shelf: MakeShelf) -> None:
    s = shelf(
        [
            PARENT,
            "CREATE TABLE child (id integer PRIMARY KEY, parent text REFERENCES parent (code) ON UPDATE CASCADE)",
            "INSERT INTO parent VALUES (1, 'a'), (2, 'b')",
            "INSERT INTO child VALUES (1, 'a'), (2, 'b')",
        ],
        ["parent", "child"],
    )
    s.here.write("UPDATE parent SET code = code || '!'")
    s.exchange()
    assert s.rows(s.there, "child") == ["1\ta!", "2\tb!"]


def test_the_authors_cascade_reaches_only_the_rows_that_he_had(shelf: MakeShelf) -> None:
    """A row that another peer hung under the parent meanwhile must not vanish: the delete waits with its reason."""
    s = shelf([PARENT, child("ON DELETE CASCADE"), *FILL], ["parent", "child"])
    s.here.write("DELETE FROM parent WHERE id = 1")
    s.there.write("INSERT INTO child VALUES (13, 1, 'late')")
    for replica in s.both:
        replica.commit()
    made, back = s.here.outgoing(s.there.merged()), s.there.outgoing(s.here.merged())
    s.there.deliver(made)
    s.here.deliver(back)
    assert "13\t1\tlate" in s.rows(s.there, "child")
    assert [problem[0] for problem in s.there.problems()] == ["constraint_violation"]
    assert [problem[0] for problem in s.here.problems()] == ["constraint_violation"]


@pytest.mark.parametrize("column", ["name", "c"])
def test_no_orphan_is_made_whatever_the_childs_columns_are_called(shelf: MakeShelf, column: str) -> None:
    s = shelf(
        [
            PARENT,
            f"CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent, {column} text)",
            "INSERT INTO parent VALUES (1), (2)",
        ],
        ["parent", "child"],
    )
    s.here.write("DELETE FROM parent WHERE id = 1")
    removal = s.commit()
    s.there.write("INSERT INTO child VALUES (13, 1, NULL)")
    outcomes = s.there.deliver([removal])
    assert [outcome for _, outcome, _ in outcomes] == ["held"]
    assert s.rows(s.there, "parent") == ["1\t\\N", "2\t\\N"]
    s.there.write("DELETE FROM child")
    s.carry()
    s.there.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")
    s.exchange()


@pytest.mark.parametrize("servers", ["18 18"], indirect=True)
def test_orphans_that_a_foreign_key_without_enforcement_allows_travel(shelf: MakeShelf) -> None:
    s = shelf(
        [
            PARENT,
            "CREATE TABLE child (id integer PRIMARY KEY, parent integer, name text)",
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO child VALUES (10, 77, 'orphan'), (11, 1, 'child')",
            "ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES parent NOT ENFORCED",
        ],
        ["parent", "child"],
    )
    s.here.write("UPDATE child SET name = 'changed'")
    s.exchange()
    assert s.rows(s.there, "child") == ["10\t77\tchanged", "11\t1\tchanged"]


def test_a_table_with_a_constraint_that_its_rows_may_break_is_refused_until_it_is_valid(
    shelf: MakeShelf,
) -> None:
    s = shelf(
        [
            PARENT,
            "CREATE TABLE child (id integer PRIMARY KEY, parent integer, name text)",
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO child VALUES (10, 77, 'orphan'), (11, 1, 'child')",
            "ALTER TABLE child ADD CONSTRAINT later FOREIGN KEY (parent) REFERENCES parent NOT VALID",
        ],
        ["parent"],
    )
    refusal = s.attempt("SELECT peer.track('shelf', 'child')")
    assert refusal is not None
    assert refusal.sqlstate == "PGT16"
    assert refusal.diag.message_hint == "ALTER TABLE public.child VALIDATE CONSTRAINT later;"
    s.here.write("DELETE FROM child WHERE id = 10", "ALTER TABLE child VALIDATE CONSTRAINT later")
    s.track("child")
    assert s.rows(s.there, "child") == ["11\t1\tchild"]
