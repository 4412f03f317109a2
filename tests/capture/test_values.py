"""Values of every common type arrive byte for byte, also between servers of different versions."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.versions import EMBEDDED, SECOND

from .conftest import MakeShelf
from .shelf import Ground, Shelf
from .values import DDL, VALUES

ODD = (
    "SET DateStyle = 'German'; SET TimeZone = 'Asia/Kathmandu'; SET bytea_output = 'escape';"
    " SET IntervalStyle = 'sql_standard'; SET extra_float_digits = -15; SET xmloption = 'document'"
)


def supported(ground: Ground) -> list[str]:
    """The types that both servers know."""
    unknown = set()
    for database in ground.pair():
        connection = database.connect()
        known = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
        for extension in {"hstore", "citext", "ltree", "cube"} - known:
            unknown |= {extension, f"{extension}[]"}
        try:
            connection.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            unknown.add("xml")
    return [name for name in VALUES if name not in unknown]


def all_types(ground: Ground, make: MakeShelf) -> tuple[Shelf, list[str]]:
    """A shelf with one table of a column per type."""
    types = supported(ground)
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(types))
    ddl = [statement for statement in DDL if "EXTENSION" not in statement or statement.split()[-1] in types]
    s = make([*ddl, f"CREATE TABLE thing (id integer PRIMARY KEY, {columns})"], [])
    s.there.write(*ddl)
    s.track("thing")
    return s, types


def fill(s: Shelf, types: list[str]) -> None:
    """A row of NULLs (but in the domain that forbids it), and one row after another with every value."""
    domain = f"c{types.index('short')}"
    s.here.write(f"INSERT INTO thing (id, {domain}) VALUES (0, '')")
    for row in range(max(map(len, VALUES.values()))):
        picked = [VALUES[name][row % len(VALUES[name])] for name in types]
        s.here.write(f"INSERT INTO thing VALUES ({row + 1}, {', '.join(picked)})")


@pytest.mark.parametrize(
    "servers", [f"{EMBEDDED} {EMBEDDED}", f"{EMBEDDED} {SECOND}", f"{SECOND} {EMBEDDED}"], indirect=True
)
def test_every_value_of_every_type_arrives_byte_for_byte(ground: Ground, shelf: MakeShelf) -> None:
    s, types = all_types(ground, shelf)
    fill(s, types)
    s.exchange()
    for number, name in enumerate(types):
        assert s.there.value(f"SELECT count(DISTINCT c{number}::text) FROM thing") > 0, name
    s.here.write(f"UPDATE thing SET c{types.index('text')} = 'x'")
    s.exchange()
    everything = ", ".join(f"c{number}" for number in range(len(types)))
    s.there.write(
        f"UPDATE thing AS t SET ({everything}) = (SELECT {everything} FROM thing AS o WHERE o.id = (t.id + 1) % 14)"
    )
    s.exchange()
    s.there.write(f"UPDATE thing SET c0 = c0, c{types.index('json')} = c{types.index('json')}")
    assert s.changes(s.there) == []


def test_a_change_that_only_bytes_show_is_captured(ground: Ground, shelf: MakeShelf) -> None:
    """numeric 1.0 and 1.00, floats 0 and -0, a json's blanks, intervals of one length: other values to a reader."""
    s, types = all_types(ground, shelf)
    names = [
        f"c{types.index(name)}" for name in ("numeric", "double precision", "json", "interval", "citext")
    ]
    domain = f"c{types.index('short')}"
    s.here.write(
        f"INSERT INTO thing (id, {domain}, {', '.join(names)}) VALUES (1, '', 1.0, 0, '[1]', '1 day', 'a')"
    )
    s.exchange()
    s.here.write(
        f"UPDATE thing SET ({', '.join(names)}) = (SELECT 1.00, '-0'::float8, '[ 1 ]'::json, '24:00'::interval, 'A'::citext)"
    )
    assert [set(change.columns) for change in s.changes()] == [set(names)]
    s.exchange()


def test_the_bytes_of_a_commit_do_not_depend_on_the_session(ground: Ground, shelf: MakeShelf) -> None:
    s, types = all_types(ground, shelf)
    fill(s, types)
    read = (
        "SELECT s.op, s.relation_id, s.column_ids, s.data FROM peer_internal.section AS s JOIN peer_internal.commit AS c"
        " USING (commit_no) WHERE c.commit_id = %s ORDER BY s.section_no"
    )

    def committed() -> tuple[object, object]:
        with s.here.connection.transaction(force_rollback=True):
            return s.here.execute(read, s.here.commit()), s.here.state_hash()

    plain = committed()
    s.here.execute(ODD)
    s.here.execute("SET search_path = ''")
    assert committed() == plain
    s.here.execute("RESET ALL")
    s.exchange()


def test_a_merge_in_an_odd_session_writes_the_same_rows(ground: Ground, shelf: MakeShelf) -> None:
    s, types = all_types(ground, shelf)
    fill(s, types)
    s.there.execute(ODD)
    s.carry()
    s.there.execute("RESET ALL")
    s.exchange()


def test_conflicts_read_alike_on_every_member(ground: Ground, shelf: MakeShelf) -> None:
    """Values of conflicts are the same on each member, however the sessions are set in which they were found."""
    s, types = all_types(ground, shelf)
    picked = {
        name: f"c{types.index(name)}"
        for name in (
            "timestamptz",
            "bytea",
            "interval",
            "double precision",
            "tstzrange",
            "date[]",
            "double precision[]",
        )
        if name in types
    }
    domain = f"c{types.index('short')}"
    s.here.write(f"INSERT INTO thing (id, {domain}) VALUES (1, '')")
    s.exchange()
    for replica, row in ((s.here, 0), (s.there, 1)):
        values = ", ".join(
            f"{column} = {VALUES[name][row % len(VALUES[name])] if row == 0 else VALUES[name][-1]}"
            for name, column in picked.items()
        )
        replica.write(f"UPDATE thing SET {values}")
    s.there.execute(ODD)
    s.carry()
    s.there.execute("RESET ALL")
    read = (
        "SELECT conflict_id, column_name, base_value::text, winning_value::text, losing_value::text"
        " FROM peer.conflict WHERE bundle = 'shelf' ORDER BY 1"
    )
    assert s.here.execute(read) == s.there.execute(read)
    assert len(s.here.execute(read)) >= 4
    s.exchange()


def test_a_type_with_its_own_casts_from_and_to_text_travels_as_it_is_printed(shelf: MakeShelf) -> None:
    casts = (
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE FUNCTION shown(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'feeling ' || enum_out($1)::text$$",
        "CREATE FUNCTION meant(text) RETURNS mood LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN 'ok'; END$$",
        "CREATE CAST (mood AS text) WITH FUNCTION shown(mood)",
        "CREATE CAST (text AS mood) WITH FUNCTION meant(text)",
    )
    s = shelf([*casts, "CREATE TABLE thing (id integer PRIMARY KEY, m mood, ms mood[])"], [])
    s.there.write(*casts)
    s.track("thing")
    s.here.write("INSERT INTO thing VALUES (1, 'sad', '{ok,sad}'), (2, NULL, NULL)")
    s.exchange()
    s.here.write("UPDATE thing SET m = 'sad' WHERE id = 2")
    s.exchange()


def test_state_hashes_differ_when_rows_differ_by_trailing_blanks(shelf: MakeShelf) -> None:
    s = shelf("CREATE TABLE thing (id integer PRIMARY KEY, v bpchar)", "thing")
    s.here.write("INSERT INTO thing VALUES (1, 'a')")
    s.exchange()
    before = s.here.state_hash()
    s.here.write("UPDATE thing SET v = 'a  '")
    assert s.here.state_hash() != before
    s.exchange()


def test_a_value_of_several_megabytes_travels(shelf: MakeShelf) -> None:
    s = shelf("CREATE TABLE thing (id integer PRIMARY KEY, v text, b bytea, n integer)", "thing")
    s.here.write(
        r"INSERT INTO thing SELECT g, repeat(E'\t\\x' || g, 100000), convert_to(repeat('é', 1000000), 'UTF8')"
        " FROM generate_series(1, 1) AS g"
    )
    s.exchange()
    s.here.write("UPDATE thing SET n = 1")
    (made,) = s.exchange()
    assert sum(section.bytes for section in made.decoded().sections) < 100


def test_generated_columns_are_computed_on_each_side(shelf: MakeShelf) -> None:
    s = shelf(
        "CREATE TABLE thing (id integer PRIMARY KEY, a integer, twice integer GENERATED ALWAYS AS (a * 2) STORED,"
        " b text, both_of text GENERATED ALWAYS AS (b || (a)::text) STORED)",
        "thing",
    )
    s.here.write("INSERT INTO thing (id, a, b) VALUES (1, 1, 'x'), (2, 2, 'y')")
    s.exchange()
    s.here.write("UPDATE thing SET a = 10 WHERE id = 1")
    assert [change.columns for change in s.changes()] == [("a",)]
    s.there.write("UPDATE thing SET b = 'z' WHERE id = 1")
    s.exchange()
    assert s.rows(s.there, "thing")[0] == "1\t10\t20\tz\tz10"


@pytest.mark.parametrize("servers", [f"{EMBEDDED} {EMBEDDED}"], indirect=True)
def test_virtual_generated_columns_do_not_travel(shelf: MakeShelf) -> None:
    s = shelf(
        "CREATE TABLE thing (id integer PRIMARY KEY, a integer, twice integer GENERATED ALWAYS AS (a * 2))",
        "thing",
    )
    s.here.write("INSERT INTO thing (id, a) VALUES (1, 1)", "UPDATE thing SET a = 5")
    s.exchange()
    assert s.rows(s.there, "thing") == ["1\t5\t10"]


@pytest.mark.parametrize("kind", ["ALWAYS", "BY DEFAULT"])
def test_identity_columns_keep_their_values(shelf: MakeShelf, kind: str) -> None:
    s = shelf(
        [
            f"CREATE TABLE by_key (id bigint GENERATED {kind} AS IDENTITY PRIMARY KEY, v text)",
            f"CREATE TABLE beside (k text PRIMARY KEY, number integer GENERATED {kind} AS IDENTITY, v text)",
        ],
        ["by_key", "beside"],
    )
    s.here.write("INSERT INTO by_key (v) SELECT 'x' FROM generate_series(1, 5)")
    s.here.write("INSERT INTO beside (k, v) VALUES ('a', 'x'), ('b', 'y'), ('c', 'z')")
    s.exchange()
    s.here.write("UPDATE by_key SET v = 'y'", "DELETE FROM by_key WHERE id = 2", "UPDATE beside SET v = 'w'")
    s.exchange()
    s.here.write("DELETE FROM beside WHERE k = 'a'", "INSERT INTO beside (k, v) VALUES ('a', 'again')")
    s.exchange()
    s.here.write("DELETE FROM beside WHERE k = 'b'")
    s.there.write("UPDATE beside SET v = 'kept' WHERE k = 'b'", "UPDATE beside SET v = 'there' WHERE k = 'c'")
    s.here.write("UPDATE beside SET v = 'here' WHERE k = 'c'")
    s.exchange()


def test_members_that_count_keys_need_numbers_of_their_own(shelf: MakeShelf) -> None:
    """What the page of types says about sequences: where they meet, and how they do not."""
    s = shelf(
        "CREATE TABLE thing (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text)",
        "thing",
    )
    s.here.write("INSERT INTO thing (v) VALUES ('one')")
    s.exchange()
    with pytest.raises(psycopg.errors.UniqueViolation):
        s.there.write("INSERT INTO thing (v) VALUES ('refused')")
    # both count on: one number, one row, and the other value is kept as a conflict
    s.here.write("INSERT INTO thing (v) VALUES ('here')")
    s.there.write("INSERT INTO thing (v) VALUES ('there')")
    s.exchange()
    assert s.here.execute("SELECT id, count(*) FROM thing GROUP BY id ORDER BY id") == [(1, 1), (2, 1)]
    assert s.here.value("SELECT count(*) FROM peer.conflict") > 0
    for replica, first in ((s.here, 1_000_001), (s.there, 1_000_002)):
        replica.write(f"ALTER TABLE thing ALTER COLUMN id SET INCREMENT BY 100 RESTART WITH {first}")
    before = s.here.value("SELECT count(*) FROM peer.conflict")
    for replica in s.both:
        replica.write("INSERT INTO thing (v) SELECT 'counted' FROM generate_series(1, 3)")
    s.exchange()
    assert s.here.value("SELECT count(*) FROM thing") == 8
    assert s.here.value("SELECT count(*) FROM peer.conflict") == before


def test_columns_whose_default_differs_in_each_session_keep_the_authors_value(shelf: MakeShelf) -> None:
    s = shelf(
        "CREATE TABLE thing (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(),"
        " who text DEFAULT current_user, n serial)",
        "thing",
    )
    s.here.write("INSERT INTO thing DEFAULT VALUES", "INSERT INTO thing DEFAULT VALUES")
    s.exchange()


def test_not_null_columns_and_checks_do_not_disturb_an_update_of_other_columns(shelf: MakeShelf) -> None:
    s = shelf(
        "CREATE TABLE thing (id integer PRIMARY KEY, a text NOT NULL, b integer NOT NULL CHECK (b > 0),"
        " c text DEFAULT 'd' NOT NULL, CHECK (b < 100 OR a <> ''))",
        "thing",
    )
    s.here.write("INSERT INTO thing VALUES (1, '', 1), (2, 'x', 100)")
    s.exchange()
    s.here.write("UPDATE thing SET b = 2 WHERE id = 1")
    s.there.write("UPDATE thing SET a = 'y' WHERE id = 1")
    s.exchange()


@pytest.mark.parametrize("servers", [f"{EMBEDDED} {SECOND}"], indirect=True)
@pytest.mark.parametrize(
    ("type_name", "value"), [("interval", "infinity"), ("jsonpath", '$."a".bigint()')], ids=["17", "17 too"]
)
def test_a_value_that_an_older_server_does_not_know_waits_there_and_is_named(
    shelf: MakeShelf, type_name: str, value: str
) -> None:
    s = shelf(
        [
            f"CREATE TABLE thing (id integer PRIMARY KEY, value {type_name})",
            "CREATE TABLE other (id integer PRIMARY KEY)",
        ],
        ["thing", "other"],
    )
    if s.there.connection.info.server_version >= 170000:
        pytest.skip("the second server knows it")
    s.here.write("INSERT INTO thing VALUES (1, NULL)")
    s.exchange()
    s.here.connection.execute("UPDATE thing SET value = %s", [value])
    ((_, outcome, detail),) = s.there.deliver([s.commit()])
    assert (outcome, value[:7] in str(detail) or type_name in str(detail)) == ("held", True)
    assert s.there.value("SELECT value FROM thing") is None
    ((kind, _, _, _, told, _),) = s.there.problems()
    assert (kind, str(detail) in str(told)) == ("held_commit", True)
    # it is not in the way of what is written there
    s.there.write("INSERT INTO other VALUES (1)")
    assert s.there.commit() is not None
    (back,) = [one for one in s.there.outgoing(s.here.merged())]
    assert [outcome for _, outcome, _ in s.here.deliver([back])] == ["merged"]
    assert s.here.value("SELECT count(*) FROM other") == 1
