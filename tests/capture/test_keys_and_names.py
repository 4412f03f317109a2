"""Keys of every fit type, tables of every width, and names that a careless statement would trip over."""

from __future__ import annotations

import pytest
from psycopg import sql

from .conftest import MakeShelf
from .shelf import Shelf

KEYS = {
    "smallint": "(-32768), (0), (32767)",
    "integer": "(-5), (0), (2147483647)",
    "bigint": "(-9223372036854775808), (0), (9223372036854775807)",
    "uuid": "('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff')",
    "text": r"(''), (' '), (E'a\tb'), (E'a\nb'), (E'\\'), (E'\\N'), (E'\\.'), ('\t'), ('Ünï ☃ 🐘'), ('A'), ('a')",
    "char(4)": "(''), ('a'), ('ab')",
    "boolean": "(true), (false)",
    "date": "('2020-02-29'), ('0044-03-15 BC'), ('infinity'), ('-infinity')",
    "timestamptz": "('2020-02-29 10:00:00.123456+05'), ('0044-03-15 BC'), ('infinity')",
    "numeric(10,2)": "(1), (1.5), (-0.01)",
    "bytea": r"('\x'), ('\x00'), ('\x5c4e'), ('\xff09')",
    "inet": "('10.0.0.1'), ('10.0.0.0/8'), ('::1')",
    "mood": "('sad'), ('so so'), (E'tab\there')",
    "short": "(''), ('abc')",
    "int4range": "('[1,5)'), ('empty'), ('(,)')",
    "text[]": "('{}'), ('{a}'), ('{a,b}'), ('{NULL,\"x y\"}')",
    "pair": "(ROW(1, 'a')), (ROW(1, NULL)), (ROW(NULL, NULL))",
    "bit(3)": "(B'000'), (B'101')",
    "money": "(1), (-2.5)",
}
TYPES = [
    r"CREATE TYPE mood AS ENUM ('sad', 'so so', E'tab\there')",
    "CREATE DOMAIN short AS text CHECK (length(VALUE) < 5)",
    "CREATE TYPE pair AS (a integer, b text)",
]


@pytest.mark.parametrize("type_name", KEYS)
def test_a_key_of_this_type_travels_or_is_refused(shelf: MakeShelf, type_name: str) -> None:
    """A key type is either refused when the table is tracked, or every write to such a table works."""
    values = KEYS[type_name]
    needed = [t for t in TYPES if f" {type_name} AS" in t]
    s = shelf([*needed, f"CREATE TABLE thing (k {type_name} PRIMARY KEY, v integer)"], [])
    s.there.write(*needed)
    error = s.attempt("SELECT peer.track('shelf', 'thing')")
    if error is not None:
        assert (error.sqlstate or "").startswith("PGT"), error
        assert error.diag.message_hint
        return
    s.tables.append("thing")
    s.here.write(f"INSERT INTO thing (k) VALUES {values}")
    count = s.here.value("SELECT count(*) FROM thing")
    assert [c.operation for c in s.changes()] == ["INSERT"] * count
    s.exchange()
    s.here.write("UPDATE thing SET v = 1")
    assert {(c.operation, c.columns) for c in s.changes()} == {("UPDATE", ("v",))}
    assert len(s.changes()) == count
    s.here.commit()
    first = f"SELECT v.k::{type_name} FROM (VALUES {values}) AS v(k) LIMIT 1"
    s.here.write(f"DELETE FROM thing WHERE k = ({first})")
    assert [c.operation for c in s.changes()] == ["DELETE"]
    s.exchange()
    s.there.write("TRUNCATE thing")
    s.exchange()


def test_composite_keys_are_told_apart_field_by_field(shelf: MakeShelf) -> None:
    s = shelf(
        'CREATE TABLE thing (v text, b text, a text, "n" integer, PRIMARY KEY (a, n, b))',
        "thing",
    )
    s.here.write(
        r"INSERT INTO thing (a, n, b, v) VALUES ('', 1, '', ''), (E'\t', 1, '', ''), ('', 1, E'\t', ''),"
        r" (E'\\N', 1, E'\\', NULL), ('x', 1, 'y', 'z'), ('x', 2, 'y', 'z')"
    )
    s.exchange()
    s.here.write("UPDATE thing SET v = 'one' WHERE a = 'x' AND n = 1", "DELETE FROM thing WHERE n = 2")
    s.here.write("UPDATE thing SET b = 'moved' WHERE a = '' AND b = ''")
    assert len(s.changes()) == 4
    s.exchange()


def test_a_table_of_nothing_but_its_key_travels(shelf: MakeShelf) -> None:
    s = shelf("CREATE TABLE pair (a integer, b text, PRIMARY KEY (b, a))", "pair")
    s.here.write("INSERT INTO pair VALUES (1, 'a'), (2, 'b'), (3, '')")
    s.exchange()
    s.here.write("DELETE FROM pair WHERE a = 1", "UPDATE pair SET a = 9 WHERE a = 2")
    s.here.write("DELETE FROM pair WHERE a = 3", "INSERT INTO pair VALUES (3, '')")
    s.exchange()
    s.there.write("INSERT INTO pair VALUES (1, 'a')")
    s.here.write("INSERT INTO pair VALUES (1, 'a'), (5, 'e')")
    s.exchange()


@pytest.mark.parametrize("columns", [63, 64, 65, 128, 129, 300])
def test_a_wide_table_captures_exactly_the_changed_columns(shelf: MakeShelf, columns: int) -> None:
    """`columns` beside the key; the masks are words of 64 bits."""
    names = [f"c{number}" for number in range(columns)]
    s = shelf(
        [
            f"CREATE TABLE wide (id integer PRIMARY KEY, {', '.join(f'{name} integer' for name in names)})",
            "INSERT INTO wide VALUES (1), (2)",
        ],
        "wide",
    )
    picked = [name for name in (names[0], "c62", "c63", "c64", "c127", "c128", names[-1]) if name in names]
    for name in dict.fromkeys(picked):
        s.here.write(f"UPDATE wide SET {name} = 1 WHERE id = 1")
        assert [c.columns for c in s.changes()] == [(name,)]
        assert s.here.commit()
    s.here.write(f"UPDATE wide SET {', '.join(f'{name} = 2' for name in names)} WHERE id = 2")
    assert [c.columns for c in s.changes()] == [tuple(names)]
    s.exchange()


def test_generated_and_dropped_columns_do_not_disturb_the_masks_of_a_wide_table(shelf: MakeShelf) -> None:
    plain = ", ".join(f"c{n} integer" for n in range(60))
    generated = ", ".join(f"g{n} integer GENERATED ALWAYS AS (c{n} + 1) STORED" for n in range(6, 60))
    s = shelf(
        [
            f"CREATE TABLE wide (gone integer, {generated}, id integer PRIMARY KEY, {plain})",
            "ALTER TABLE wide DROP COLUMN gone, DROP COLUMN c5",
            "INSERT INTO wide (id) VALUES (1)",
        ],
        "wide",
    )
    s.here.write("UPDATE wide SET c59 = 1, c0 = 2")
    assert [c.columns for c in s.changes()] == [("c0", "c59")]
    s.exchange()


NAMES = [
    'Sélect "x" %s $1 {0}',
    "Übergröße; DROP TABLE",
    "日本語",
    "back\\slash'quote",
    "%I %1$s %%",
    " leading and trailing ",
    "select",
    "a$capture$b$$c$sql$d",
    "x" * 63,
]


def everything(s: Shelf, table: str, key: str, column: str) -> None:
    """Insert, update, delete, truncate and conflict on a table of two columns with these names."""
    names = {"t": sql.SQL(table), "k": sql.Identifier(key), "c": sql.Identifier(column)}

    def write(where: str, statement: str) -> None:
        replica = {"here": s.here, "there": s.there}[where]
        replica.write(sql.SQL(statement).format(**names).as_string(None))

    write("here", "INSERT INTO {t} ({k}, {c}) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    s.exchange()
    write("here", "UPDATE {t} SET {c} = 'x' WHERE {k} = 1")
    assert [c.columns for c in s.changes()] == [(column,)]
    write("here", "DELETE FROM {t} WHERE {k} = 2")
    write("here", "UPDATE {t} SET {k} = 33 WHERE {k} = 3")
    s.exchange()
    write("here", "UPDATE {t} SET {c} = 'here' WHERE {k} = 1")
    write("there", "UPDATE {t} SET {c} = 'there' WHERE {k} = 1")
    write("there", "DELETE FROM {t} WHERE {k} = 4")
    write("here", "UPDATE {t} SET {c} = 'kept' WHERE {k} = 4")
    s.exchange()
    listed = s.here.execute("SELECT column_name, key FROM peer.conflict WHERE bundle = 'shelf' ORDER BY 1")
    assert listed == [(column, {key: 1}), (None, {key: 4})]
    write("there", "TRUNCATE {t}")
    s.exchange()


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_work_everywhere(shelf: MakeShelf, name: str) -> None:
    schema, table = sql.Identifier(name), sql.Identifier(name, name)
    key, column = f"k{name}"[:40], name
    ddl = sql.SQL("CREATE TABLE {} ({} integer PRIMARY KEY, {} text DEFAULT '%s' UNIQUE)").format(
        table, sql.Identifier(key), sql.Identifier(column)
    )
    s = shelf([sql.SQL("CREATE SCHEMA {}").format(schema).as_string(None), ddl.as_string(None)], [])
    s.there.write(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema).as_string(None))
    s.track(table.as_string(None))
    everything(s, table.as_string(None), key, column)


INTERNAL = (
    "op mask keys key line f n o t s k k1 k2 c d w p r net is_whole key_text exists_now existed unseen rival part"
    " happened data rows_chunk bytes_chunk commit_no relation_id lines locked target gone parked placed split l"
    " new old tg_op tg_name found row_count sqlstate"
)


def test_columns_may_be_called_as_the_internal_ones_are(shelf: MakeShelf) -> None:
    names = INTERNAL.split()
    plain = ", ".join(f'"{name}" text' for name in names if name not in ("key", "t", "k1"))
    s = shelf(
        [
            f'CREATE TABLE "n" ({plain}, "k1" integer, "t" integer, "key" text, PRIMARY KEY ("t", "key", "k1"))',
            f'CREATE TABLE "o" ({plain}, "key" integer, "t" text, "k1" text UNIQUE, PRIMARY KEY ("key"))',
        ],
        ["n", "o"],
    )
    s.here.write("INSERT INTO n (t, key, k1, op) VALUES (1, 'a', 1, 'x'), (2, '', 2, 'y')")
    s.here.write("INSERT INTO o (key, k1, t) VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z')")
    s.exchange()
    s.here.write(
        "UPDATE n SET op = 'z', mask = 'm', line = 'l', new = 'n' WHERE t = 1", "DELETE FROM n WHERE t = 2"
    )
    s.here.write("UPDATE o SET k1 = 'tmp' WHERE key = 1", "UPDATE o SET k1 = 'a' WHERE key = 2")
    s.here.write("UPDATE o SET k1 = 'b' WHERE key = 1", "DELETE FROM o WHERE key = 3")
    s.there.write("UPDATE o SET t = 'there', s = 's'")
    s.exchange()
    s.there.write("TRUNCATE n, o")
    s.exchange()


@pytest.mark.parametrize("name", ["pgpeer.line", "line"])
def test_a_column_named_like_a_generated_one_is_no_trouble(shelf: MakeShelf, name: str) -> None:
    s = shelf(f'CREATE TABLE thing (id integer PRIMARY KEY, "{name}" text)', "thing")
    s.here.write("INSERT INTO thing VALUES (1, 'a'), (2, 'b')")
    s.exchange()
    s.here.write(f"UPDATE thing SET \"{name}\" = 'x' WHERE id = 1", "DELETE FROM thing WHERE id = 2")
    s.exchange()
