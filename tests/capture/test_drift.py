"""Tables that are changed under pgpeer: what is no longer captured is told, and can be taken up again."""

from __future__ import annotations

import pytest

from .conftest import MakeShelf
from .shelf import Change, Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, stars integer DEFAULT 0)"
FILL = "INSERT INTO note SELECT g, 't' || g, g FROM generate_series(1, 5) AS g"


def gaps(s: Shelf) -> list[tuple[str, str, str]]:
    return s.here.execute("SELECT kind, detail, remedy FROM peer_internal.capture_gaps()")  # type: ignore[return-value]


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize(
    "off",
    [
        ("ALTER TABLE note DISABLE TRIGGER ALL", "ALTER TABLE note ENABLE TRIGGER ALL"),
        (
            "DROP TRIGGER zz_pgpeer_insert ON note; DROP TRIGGER zz_pgpeer_update ON note; DROP TRIGGER zz_pgpeer_delete ON note",
            "",
        ),
        ("SET session_replication_role = replica", "RESET session_replication_role"),
    ],
)
def test_what_was_changed_with_triggers_off_can_be_taken_up(
    shelf: MakeShelf, off: tuple[str, str], mode: str
) -> None:
    s = shelf([NOTE, FILL], "note", mode=mode)
    s.here.execute("UPDATE note SET stars = 7 WHERE id = 4")
    s.here.execute(off[0])
    s.here.write(
        "INSERT INTO note VALUES (6, 'six'), (7, 'seven')",
        "UPDATE note SET title = 'x' WHERE id IN (1, 4)",
        "DELETE FROM note WHERE id = 2",
    )
    s.here.execute(off[1] or "SELECT")
    s.here.write("DELETE FROM note WHERE id = 7")
    s.here.execute("SELECT peer.recapture('note')")
    assert s.changes() == [
        Change("note", "DELETE", '{"id": 2}'),
        Change("note", "INSERT", '{"id": 6}', ("title", "stars")),
        Change("note", "UPDATE", '{"id": 1}', ("title",)),
        Change("note", "UPDATE", '{"id": 4}', ("title", "stars")),
    ]
    assert gaps(s) == []
    s.exchange()
    s.here.write("UPDATE note SET title = 'y' WHERE id = 1")
    assert s.changes() == [Change("note", "UPDATE", '{"id": 1}', ("title",))]
    s.exchange()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE note DISABLE TRIGGER zz_pgpeer_update", ("note", "UPDATE", "is disabled")),
        ("ALTER TABLE note ENABLE REPLICA TRIGGER zz_pgpeer_insert", ("note", "INSERT", "is disabled")),
        ("DROP TRIGGER zz_pgpeer_delete ON note", ("note", "DELETE", "is missing")),
    ],
)
def test_a_trigger_that_does_not_fire_is_told_with_a_remedy_that_works(
    shelf: MakeShelf, statement: str, words: tuple[str, ...]
) -> None:
    s = shelf([NOTE, FILL], "note")
    assert gaps(s) == []
    s.here.write(statement)
    ((kind, detail, remedy),) = gaps(s)
    assert kind == "capture_gap"
    assert [word for word in words if word not in detail] == []
    s.here.execute(remedy[: remedy.index(";")])
    assert gaps(s) == []


def test_a_table_that_joins_a_tree_of_tables_is_told_with_a_remedy_that_works(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    for statements, word in (
        (("CREATE TABLE heir () INHERITS (note)",), "heir inherits from"),
        (
            ("CREATE TABLE base (id integer NOT NULL)", "ALTER TABLE note INHERIT base"),
            "has become a part of",
        ),
        (
            (
                "CREATE TABLE whole (LIKE note INCLUDING ALL) PARTITION BY RANGE (id)",
                "ALTER TABLE whole ATTACH PARTITION note DEFAULT",
            ),
            "has become a part of",
        ),
    ):
        s.here.write(*statements)
        ((_, detail, remedy),) = gaps(s)
        assert word in detail
        s.here.execute(remedy[: remedy.index(";")])
        assert gaps(s) == []
    s.exchange()


def test_a_table_that_was_dropped_is_told_and_holds_nothing_else_up(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, "CREATE TABLE other (id integer PRIMARY KEY)"], ["note", "other"])
    s.here.write("DROP TABLE note", "INSERT INTO other VALUES (1)")
    ((_, detail, _),) = gaps(s)
    assert "note" in detail
    assert s.here.seal() is not None, "other tables of the bundle go on"


def test_a_dropped_table_can_be_untracked_as_the_remedy_says(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write("DROP TABLE note")
    ((_, _, remedy),) = gaps(s)
    s.here.execute(remedy[remedy.index("SELECT") : remedy.index(";")])
    assert gaps(s) == []


def test_partitions_without_triggers_are_told(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE TABLE event (id integer PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE low PARTITION OF event FOR VALUES FROM (0) TO (100)",
        ],
        "event",
    )
    s.here.write(
        "ALTER TABLE low DISABLE TRIGGER ALL",
        "INSERT INTO low VALUES (1)",
        "CREATE TABLE rest PARTITION OF event DEFAULT",
    )
    ((_, detail, remedy),) = gaps(s)
    assert "public.low" in detail
    s.here.execute(remedy[: remedy.index(";")])
    assert gaps(s) == []
    s.exchange()
    assert s.rows(s.there, "event") == ["1"]


def test_capture_triggers_that_fire_always_do_not_take_a_merge_for_a_write(shelf: MakeShelf) -> None:
    """As when somebody enables all triggers of a table for logical replication."""
    s = shelf([NOTE, FILL], "note")
    for replica in s.both:
        for event in ("insert", "update", "delete", "truncate"):
            replica.write(f"ALTER TABLE note ENABLE ALWAYS TRIGGER zz_pgpeer_{event}")
    s.here.write("UPDATE note SET title = 'y' WHERE id = 1", "DELETE FROM note WHERE id = 2")
    s.here.write("INSERT INTO note VALUES (6, 'six')")
    assert len(s.changes()) == 3
    made = s.exchange()
    assert len(made) == 1
    assert s.exchange() == []
    assert gaps(s) == []


@pytest.mark.parametrize("how", ["ALWAYS", "REPLICA"])
@pytest.mark.parametrize("table", ["note", "event"])
def test_what_bends_the_rows_of_merges_is_told_with_a_remedy_that_works(
    shelf: MakeShelf, table: str, how: str
) -> None:
    event = (
        "CREATE TABLE event (id integer PRIMARY KEY, title text) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF event FOR VALUES FROM (0) TO (100)",
    )
    s = shelf([NOTE, FILL, *event, "INSERT INTO event VALUES (1, 't1')"], ["note", "event"])
    s.here.write(
        "CREATE TABLE seen (id integer)",
        "CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.title = upper(new.title); RETURN new; END'",
        f"CREATE TRIGGER bend BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION bend()",
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (new.id); RETURN NULL; END'",
        f"CREATE TRIGGER look AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION look()",
        f"ALTER TABLE {table} ENABLE {how} TRIGGER look",
    )
    assert gaps(s) == [], "a trigger that only looks on may be meant"
    s.here.write(f"ALTER TABLE {table} ENABLE {how} TRIGGER bend")
    ((kind, detail, remedy),) = gaps(s)
    assert (kind, "the trigger bend fires also when" in detail) == ("capture_gap", True)
    s.here.execute(remedy)
    assert gaps(s) == []
    s.there.write(f"UPDATE {table} SET title = 'there' WHERE id = 1")
    s.exchange()
    assert s.here.value(f"SELECT title FROM {table} WHERE id = 1") == "there"
    assert s.here.value("SELECT count(*) FROM seen") == 1


def test_a_rule_that_acts_in_merges_is_told_with_a_remedy_that_works(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(
        "CREATE RULE keep AS ON UPDATE TO note DO INSTEAD NOTHING",
        "ALTER TABLE note ENABLE ALWAYS RULE keep",
    )
    ((kind, detail, remedy),) = gaps(s)
    assert (kind, "the rule keep acts also when" in detail) == ("capture_gap", True)
    s.here.execute(remedy)
    assert gaps(s) == []
    s.there.write("UPDATE note SET title = 'there' WHERE id = 1")
    s.exchange()
