"""Types that users and extensions make: composites of domains, domains of domains, ranges, enums that grow."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.versions import EMBEDDED, SECOND

from .conftest import MakeShelf
from .shelf import Ground, Shelf

MADE = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN short AS varchar(5) NOT NULL DEFAULT '' CHECK (length(VALUE) < 5)",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE DOMAIN even AS positive CHECK (VALUE % 2 = 0)",
    "CREATE TYPE tagged AS (tag short, size even, at timestamptz, feel mood)",
    "CREATE DOMAIN big AS tagged CHECK ((VALUE).size > 10)",
    "CREATE DOMAIN moods AS mood[] CHECK (cardinality(VALUE) < 9)",
    "CREATE TYPE positiverange AS RANGE (subtype = positive)",
    "CREATE TYPE moodrange AS RANGE (subtype = mood)",
    "CREATE TYPE holder AS (one tagged, many tagged[], r positiverange, rs positiverange[])",
)
VALUES = {
    "tagged": [r"ROW(E'a\t\\', 2, '2020-01-01 00:00Z', 'sad')", "ROW('', NULL, NULL, NULL)"],
    "tagged[]": ["ARRAY[ROW('a,b', 4, 'infinity', 'ok'), NULL]::tagged[]", "'{}'"],
    "big": ["ROW('x', 12, '2020-06-01 12:00+05:30', NULL)::tagged"],
    "big[]": ["ARRAY[ROW('\"', 14, NULL, 'ok')::tagged::big]"],
    "even": ["2"],
    "even[]": ["'{2,NULL,4}'", "'[0:1]={2,4}'"],
    "moods": ["'{sad,ok,NULL}'"],
    "positiverange": ["'[1,5)'", "'empty'"],
    "positiverange[]": ["ARRAY['[1,5)', NULL]::positiverange[]"],
    "positivemultirange": ["'{[1,3),[7,9)}'", "'{}'"],
    "moodrange": ["'[sad,ok)'"],
    "holder": [
        "ROW(ROW('a', 2, NULL, 'ok'), ARRAY[ROW('b', 4, '2020-01-01Z', NULL)]::tagged[], '[1,2)', '{\"[1,2)\"}')"
    ],
}
OF_EXTENSIONS = {
    "isn": {"ean13": ["'9780393040029'"], "isbn": ["'0-393-04002-X'"]},
    "seg": {"seg": ["'1.50 .. 2.00'", "'<5.0'"]},
    "hstore": {"hstore[]": ["ARRAY['a=>1, b=>NULL'::hstore, NULL]"]},
    "cube": {"cube[]": ["ARRAY['(1,2),(3,4)'::cube]"]},
    "ltree": {"ltree[]": ["'{a.b,c}'"], "lquery": ["'*.a{1,2}'"]},
    "intarray": {"query_int": ["'1&(2|!3)'"]},
}


def extensions(ground: Ground) -> list[str]:
    """Those that both servers have."""
    known = [
        {row[0] for row in database.connect().execute("SELECT name FROM pg_available_extensions")}
        for database in ground.pair()
    ]
    return [name for name in OF_EXTENSIONS if all(name in one for one in known)]


@pytest.mark.parametrize(
    "servers", [f"{EMBEDDED} {EMBEDDED}", f"{EMBEDDED} {SECOND}", f"{SECOND} {EMBEDDED}"], indirect=True
)
def test_values_of_made_types_arrive_byte_for_byte(ground: Ground, shelf: MakeShelf) -> None:
    found = extensions(ground)
    values = dict(VALUES)
    for name in found:
        values |= OF_EXTENSIONS[name]
    ddl = [*MADE, *(f"CREATE EXTENSION {name}" for name in found)]
    columns = ", ".join(f"c{n} {name}" for n, name in enumerate(values))
    s = shelf([*ddl, f"CREATE TABLE thing (id integer PRIMARY KEY, {columns})"], [])
    s.there.write(*ddl)
    s.track("thing")
    s.here.write("INSERT INTO thing (id) VALUES (0)")
    for row in range(max(map(len, values.values()))):
        picked = ", ".join(one[row % len(one)] for one in values.values())
        s.here.write(f"INSERT INTO thing VALUES ({row + 1}, {picked})")
    s.exchange()
    everything = ", ".join(f"c{n}" for n in range(len(values)))
    s.there.write(
        f"UPDATE thing AS t SET ({everything}) = (SELECT {everything} FROM thing AS o WHERE o.id = 1) WHERE id = 0"
    )
    s.exchange()
    same = f"SELECT count(DISTINCT ROW({everything})::text) FROM thing WHERE id IN (0, 1)"
    assert s.here.value(same) == 1
    s.here.write(
        f"UPDATE thing SET ({everything}) = (SELECT {everything} FROM thing AS o WHERE o.id = thing.id)"
    )
    assert s.changes() == [], "writing a value over itself changes nothing"


def test_a_label_added_later_is_held_where_it_is_missing_and_merged_once_it_is_there(
    shelf: MakeShelf,
) -> None:
    s = shelf(
        ["CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE thing (id integer PRIMARY KEY, m mood)"],
        "thing",
    )
    s.here.write("INSERT INTO thing VALUES (1, 'sad')")
    s.exchange()
    s.here.write("ALTER TYPE mood ADD VALUE 'happy' AFTER 'sad'")
    s.here.write("INSERT INTO thing VALUES (2, 'ok')", "UPDATE thing SET m = 'happy' WHERE id = 1")
    made = s.commit()
    ((_, outcome, detail),) = s.there.deliver([made])
    assert outcome == "held"
    assert "happy" in str(detail)
    assert "mood" in str(detail)
    ((_, _, _, _, told, remedy),) = s.there.problems()
    assert "happy" in str(told)
    assert remedy
    s.there.write("INSERT INTO thing VALUES (3, 'sad')", "ALTER TYPE mood ADD VALUE 'happy'")
    s.there.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    assert [one for _, one, _ in s.there.merge()] == ["merged"]
    s.exchange()


def test_a_label_that_is_renamed_keeps_its_rows_apart_from_others(shelf: MakeShelf) -> None:
    """Values travel by their text: whoever has not renamed the label holds what is written with the new one."""
    s = shelf(
        ["CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE thing (id integer PRIMARY KEY, m mood)"],
        "thing",
    )
    s.here.write("INSERT INTO thing VALUES (1, 'sad')")
    s.exchange()
    for replica in s.both:
        replica.write("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    s.here.write("INSERT INTO thing VALUES (2, 'blue')")
    s.exchange()


def test_a_domain_that_forbids_a_value_here_holds_the_commit(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE DOMAIN positive AS integer NOT NULL CHECK (VALUE > 0)",
            "CREATE TABLE thing (id integer PRIMARY KEY, n positive)",
        ],
        "thing",
    )
    s.there.write("ALTER DOMAIN positive ADD CHECK (VALUE < 10)")
    s.here.write("INSERT INTO thing VALUES (1, 5), (2, 50)")
    made = s.commit()
    ((_, outcome, detail),) = s.there.deliver([made])
    assert (outcome, "positive" in str(detail)) == ("held", True)
    assert s.there.value("SELECT count(*) FROM thing") == 0
    with pytest.raises(psycopg.errors.CheckViolation):
        s.here.write("UPDATE thing SET n = -1")
    s.there.write("ALTER DOMAIN positive DROP CONSTRAINT positive_check1")
    s.there.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    s.there.merge()
    s.exchange()


def test_identity_always_and_generated_columns_over_made_types(shelf: MakeShelf) -> None:
    s = shelf(
        [
            "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
            "CREATE TABLE thing (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n positive,"
            " double positive GENERATED ALWAYS AS (n * 2) STORED, tags text[] DEFAULT '{}' NOT NULL)",
        ],
        "thing",
    )
    s.here.write("INSERT INTO thing (n) VALUES (1), (2)")
    s.exchange()
    s.there.write("UPDATE thing SET n = 7 WHERE id = 1", "DELETE FROM thing WHERE id = 2")
    s.exchange()
    assert rows(s) == [(1, 7, 14)]


def rows(s: Shelf) -> list[tuple[object, ...]]:
    return s.here.execute("SELECT id, n, double FROM thing ORDER BY id")
