"""ALTER TABLE on tracked tables: writes never fail, nothing is captured wrongly, and what cannot go on is told."""

from __future__ import annotations

import psycopg
import pytest

from .conftest import MakeShelf
from .shelf import Change, Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, stars numeric(6,2) DEFAULT 0, body text)"
FILL = "INSERT INTO note SELECT g, 't' || g, g, 'b' || g FROM generate_series(1, 5) AS g"
OTHER = "CREATE TABLE other (id integer PRIMARY KEY)"

SAME_ROWS = {
    "a column renamed": ("note", ["ALTER TABLE note RENAME COLUMN body TO text"]),
    "the key renamed": ("note", ["ALTER TABLE note RENAME COLUMN id TO number"]),
    "names swapped": (
        "note",
        [
            "ALTER TABLE note RENAME COLUMN title TO x",
            "ALTER TABLE note RENAME COLUMN body TO title",
            "ALTER TABLE note RENAME COLUMN x TO body",
        ],
    ),
    "the table renamed": ("remark", ["ALTER TABLE note RENAME TO remark"]),
    "another schema": ("aside.note", ["CREATE SCHEMA aside", "ALTER TABLE note SET SCHEMA aside"]),
    "the key's constraint renamed": ("note", ["ALTER TABLE note RENAME CONSTRAINT note_pkey TO k"]),
    "a replica identity": ("note", ["ALTER TABLE note REPLICA IDENTITY FULL"]),
    "a check": ("note", ["ALTER TABLE note ADD CHECK (stars < 1000)"]),
    "a column more, and dropped": (
        "note",
        ["ALTER TABLE note ADD COLUMN more int DEFAULT 7", "ALTER TABLE note DROP COLUMN more"],
    ),
    "the key made anew": (
        "note",
        ["ALTER TABLE note DROP CONSTRAINT note_pkey", "ALTER TABLE note ADD PRIMARY KEY (id)"],
    ),
}

OTHER_ROWS = {
    "a column dropped": (
        "ALTER TABLE note DROP COLUMN body",
        "column body has been dropped",
        ["ALTER TABLE note ADD COLUMN body text"],
    ),
    "a column made again": (
        "ALTER TABLE note DROP COLUMN body, ADD COLUMN body text",
        "column body has been dropped and made again",
        [],
    ),
    "another type": (
        "ALTER TABLE note ALTER COLUMN stars TYPE text",
        "column stars is of type text now, and was of type numeric(6,2)",
        ["ALTER TABLE note ALTER COLUMN stars TYPE numeric(6,2) USING stars::numeric"],
    ),
    "another scale": (
        "ALTER TABLE note ALTER COLUMN stars TYPE numeric(6,1)",
        "column stars is of type numeric(6,1) now",
        ["ALTER TABLE note ALTER COLUMN stars TYPE numeric(6,2)"],
    ),
    "another type of the key": (
        "ALTER TABLE note ALTER COLUMN id TYPE text",
        "column id is of type text now",
        ["ALTER TABLE note ALTER COLUMN id TYPE integer USING id::integer"],
    ),
    "a wider type of the key": (
        "ALTER TABLE note ALTER COLUMN id TYPE bigint",
        "column id is of type bigint now",
        ["ALTER TABLE note ALTER COLUMN id TYPE integer"],
    ),
    "another key": (
        "ALTER TABLE note DROP CONSTRAINT note_pkey, ADD PRIMARY KEY (id, title)",
        "its primary key is another one",
        ["ALTER TABLE note DROP CONSTRAINT note_pkey, ADD PRIMARY KEY (id)"],
    ),
    "no key": (
        "ALTER TABLE note DROP CONSTRAINT note_pkey",
        "it has no primary key any more",
        ["ALTER TABLE note ADD PRIMARY KEY (id)"],
    ),
    "a generated column": (
        "ALTER TABLE note DROP COLUMN body, ADD COLUMN body text GENERATED ALWAYS AS (title) STORED",
        "column body has been dropped and made again",
        ["ALTER TABLE note ALTER COLUMN body DROP EXPRESSION"],
    ),
    "a type of that name": (
        "CREATE DOMAIN words AS text; ALTER TABLE note ALTER COLUMN body TYPE words",
        "column body is of type public.words now",
        ["ALTER TABLE note ALTER COLUMN body TYPE text"],
    ),
}


def problems(s: Shelf) -> list[tuple[str, str, str]]:
    """Kind, detail and remedy of what peer.problem lists here."""
    return [(row[0], row[4], row[5]) for row in s.here.problems()]


def write(s: Shelf, table: str) -> None:
    """An insert, an update of every column and a delete by the numbers of the columns, whatever their names."""
    names = [
        name
        for (name,) in s.here.execute(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum BETWEEN 1 AND 4"
            " AND NOT attisdropped ORDER BY attnum",
            table,
        )
    ]
    values = {0: "'9'", 1: "'new'", 2: "'9'", 3: "'words'"}
    s.here.write(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values[n] for n in range(len(names)))})",
        f"UPDATE {table} SET {names[1]} = 'x' WHERE {names[0]}::text = '1'",
        f"DELETE FROM {table} WHERE {names[0]}::text = '2'",
    )


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize("name", SAME_ROWS)
def test_a_change_that_leaves_the_rows_what_they_were_is_followed(
    shelf: MakeShelf, name: str, mode: str
) -> None:
    table, statements = SAME_ROWS[name]
    s = shelf([NOTE, FILL], "note", mode=mode)
    s.here.write("UPDATE note SET body = 'before' WHERE id = 3")
    s.here.write(*statements)
    write(s, table)
    s.carry()
    assert s.there.execute("SELECT id, title, stars::text, body FROM note ORDER BY id") == [
        (1, "x", "1.00", "b1"),
        (3, "t3", "3.00", "before"),
        (4, "t4", "4.00", "b4"),
        (5, "t5", "5.00", "b5"),
        (9, "new", "9.00", "words"),
    ]
    assert s.changes() == []
    assert problems(s) == []
    s.there.write(
        "UPDATE note SET title = 'from there', body = 'too' WHERE id = 4", "DELETE FROM note WHERE id = 9"
    )
    s.carry()
    columns = s.here.execute(f"SELECT * FROM {table} WHERE stars = 4.00")
    assert columns[0][:4] == s.there.execute("SELECT * FROM note WHERE id = 4")[0]
    assert problems(s) == []


@pytest.mark.parametrize("name", OTHER_ROWS)
def test_a_change_that_makes_other_rows_stops_that_table_only_until_it_is_undone_or_accepted(
    shelf: MakeShelf, name: str
) -> None:
    statement, words, undoing = OTHER_ROWS[name]
    s = shelf([NOTE, FILL, OTHER], ["note", "other"])
    s.here.write("UPDATE note SET title = 'before' WHERE id = 3", statement)
    write(s, "note")
    s.there.write("UPDATE note SET title = 'theirs' WHERE id = 5")
    s.here.write("INSERT INTO other VALUES (1)")
    before = s.rows(s.there, "note")
    s.here.commit()
    s.there.deliver(s.here.outgoing(s.there.merged()))
    assert s.rows(s.there, "note") == before, "what is captured wrongly goes nowhere"
    assert s.there.value("SELECT count(*) FROM other") == 1, "other tables go on"
    s.there.commit()
    ((_, outcome, detail),) = s.here.deliver(s.there.outgoing(s.here.merged()))
    assert outcome == "held"
    assert "no longer the one of the bundle" in str(detail)
    assert words in str(detail)
    assert s.here.value("SELECT title FROM note WHERE id::text = '1'") == "x"
    told = [(text, remedy) for kind, text, remedy in problems(s) if kind == "capture_gap"]
    assert [text for text, _ in told if words in text] != []
    write_more = "UPDATE note SET title = 'more' WHERE id::text = '4'"
    s.here.write(write_more)
    for one in undoing:
        s.here.write(one)
    if s.here.value("SELECT suspended IS NULL FROM peer_internal.relation WHERE table_name = 'note'"):
        pytest.fail("nothing was suspended")
    s.here.commit()
    gaps = [remedy for kind, _, remedy in problems(s) if kind == "capture_gap"]
    for remedy in gaps:
        assert remedy.startswith("SELECT peer.recapture('public.note');") or "public.note" in remedy
        s.here.execute(remedy[: remedy.index(";")])
    s.here.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    s.here.merge()
    s.carry()
    s.carry()
    assert problems(s) == []
    titles = dict(s.there.execute("SELECT id, title FROM note"))  # type: ignore[arg-type]
    assert titles == {1: "x", 3: "before", 4: "more", 5: "theirs", 9: "new"}
    assert dict(s.here.execute("SELECT id, title FROM note")) == titles  # type: ignore[arg-type]
    assert s.here.state_hash() == s.there.state_hash()


def test_a_column_that_the_bundle_does_not_have_stays_here_and_is_told(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(
        "ALTER TABLE note ADD COLUMN more integer DEFAULT 7, ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "UPDATE note SET more = id, title = 'x' WHERE id = 1",
        "UPDATE note SET more = 0 WHERE id = 2",
        "INSERT INTO note (id) VALUES (9)",
    )
    assert s.changes() == [
        Change("note", "INSERT", '{"id": 9}', ("title", "stars", "body")),
        Change("note", "UPDATE", '{"id": 1}', ("title",)),
    ]
    s.carry()
    assert s.there.value("SELECT title FROM note WHERE id = 1") == "x"
    s.there.write(
        "INSERT INTO note VALUES (10, 'there', 1, '')", "UPDATE note SET body = 'there' WHERE id = 1"
    )
    s.carry()
    assert s.here.execute("SELECT title, body, more FROM note WHERE id IN (1, 10) ORDER BY id") == [
        ("x", "there", 1),
        ("there", "", 7),
    ]
    assert s.here.state_hash() == s.there.state_hash()
    ((kind, detail, _),) = problems(s)
    assert kind == "capture_gap"
    assert "columns more, at of public.note" in detail


def test_a_table_that_was_dropped_and_made_again_is_another_table(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL, OTHER], ["note", "other"])
    s.here.write("UPDATE note SET title = 'x'", "DROP TABLE note", NOTE, "INSERT INTO note VALUES (1)")
    s.here.write("INSERT INTO other VALUES (1)")
    s.carry()
    assert s.there.value("SELECT count(*) FROM note") == 5
    s.there.write("UPDATE note SET title = 'theirs'")
    s.there.commit()
    ((_, outcome, detail),) = s.here.deliver(s.there.outgoing(s.here.merged()))
    assert (outcome, "has been dropped" in str(detail)) == ("held", True)
    told = [remedy for kind, _, remedy in problems(s) if kind == "capture_gap"]
    s.here.execute(told[0][told[0].index("SELECT") : told[0].index(";")])
    s.here.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    assert [one for _, one, _ in s.here.merge()] == ["merged"]
    assert problems(s) == []
    assert s.here.value("SELECT count(*) FROM note") == 1


def test_both_sides_may_change_the_table_alike(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    for replica in s.both:
        replica.write(
            "ALTER TABLE note RENAME COLUMN body TO words",
            "ALTER TABLE note ALTER COLUMN stars TYPE numeric(8,3)",
        )
    for replica in s.both:
        replica.commit()
        ((_, _, remedy),) = [
            (row[0], row[4], row[5]) for row in replica.problems() if row[0] == "capture_gap"
        ]
        replica.execute(remedy[: remedy.index(";")])
    s.carry()
    s.here.write("UPDATE note SET title = 'x', stars = 1.125 WHERE id = 1")
    s.there.write("UPDATE note SET words = 'y' WHERE id = 2")
    s.carry()
    s.carry()
    assert problems(s) == []
    assert s.rows(s.here, "note") == s.rows(s.there, "note")
    assert s.there.execute("SELECT title, stars::text FROM note WHERE id = 1") == [("x", "1.125")]
    assert s.here.value("SELECT words FROM note WHERE id = 2") == "y"


def test_recapture_refuses_what_cannot_travel(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write("ALTER TABLE note DROP COLUMN body")
    with pytest.raises(psycopg.Error) as caught:
        s.here.execute("SELECT peer.recapture('note')")
    assert caught.value.sqlstate == "PGT17"
    assert caught.value.diag.message_detail == "Column body has been dropped."


def test_a_writer_whose_transaction_spans_the_change_loses_nothing(shelf: MakeShelf) -> None:
    """The change is seen by an open session, whose plans are those of the old table."""
    s = shelf([NOTE, FILL], "note")
    with psycopg.connect(s.here.dsn, autocommit=True) as writer:
        writer.execute("UPDATE note SET title = 'one' WHERE id = 1")
        s.here.write("ALTER TABLE note RENAME COLUMN body TO words")
        with writer.transaction():
            writer.execute("UPDATE note SET title = 'two' WHERE id = 2")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                s.here.commit() or s.here.execute("LOCK TABLE note IN SHARE MODE NOWAIT")
            writer.execute("UPDATE note SET words = 'three' WHERE id = 3")
    s.carry()
    s.carry()
    assert s.there.execute("SELECT title, body FROM note WHERE id IN (1, 2, 3) ORDER BY id") == [
        ("one", "b1"),
        ("two", "b2"),
        ("t3", "three"),
    ]
    assert problems(s) == []


def test_truncate_of_a_changed_table_passes(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write("ALTER TABLE note RENAME COLUMN id TO number", "TRUNCATE note")
    s.carry()
    assert s.there.value("SELECT count(*) FROM note") == 0


def test_status_says_so_while_names_are_not_followed_yet(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note", mode="manual")
    status = "SELECT relation::text, operation FROM peer.status('shelf')"
    s.here.write("ALTER TABLE note ADD COLUMN more int", "UPDATE note SET body = 'x' WHERE id = 1")
    assert s.here.execute(status) == [("note", "UPDATE")]
    s.here.write("ALTER TABLE note RENAME COLUMN body TO words")
    with pytest.raises(psycopg.Error) as caught:
        s.here.execute(status)
    assert caught.value.sqlstate == "PGT18"
    s.commit()
    s.here.write("UPDATE note SET words = 'y' WHERE id = 2")
    assert s.here.execute(status) == [("note", "UPDATE")]
