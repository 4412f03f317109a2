"""Further ways to write: procedures that commit, cursors, binary COPY, newer forms of MERGE and RETURNING, functions with other rights."""

from __future__ import annotations

from .conftest import MakeShelf
from .shelf import Shelf

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text, stars integer DEFAULT 0)"
FILL = "INSERT INTO note SELECT g, 't' || g, g FROM generate_series(1, 5) AS g"


def told(s: Shelf) -> list[tuple[str, str]]:
    return [(change.operation, change.key) for change in s.changes()]


def key(number: int) -> str:
    return f'{{"id": {number}}}'


def test_a_procedure_that_commits_and_rolls_back_between_its_writes(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(
        "CREATE PROCEDURE work() LANGUAGE plpgsql AS $$BEGIN"
        " INSERT INTO note VALUES (6, 'kept'); COMMIT;"
        " INSERT INTO note VALUES (7, 'not kept'); ROLLBACK;"
        " UPDATE note SET title = 'kept' WHERE id = 1; COMMIT;"
        " BEGIN DELETE FROM note WHERE id = 2; RAISE 'undone'; EXCEPTION WHEN raise_exception THEN"
        " DELETE FROM note WHERE id = 3; END;"
        " FOR n IN 20..22 LOOP INSERT INTO note VALUES (n); COMMIT; END LOOP; END$$"
    )
    s.here.execute("CALL work()")
    assert told(s) == sorted(
        [
            ("DELETE", key(3)),
            *(("INSERT", key(n)) for n in (6, 20, 21, 22)),
            ("UPDATE", key(1)),
        ]
    )
    s.exchange()


def test_writes_at_a_cursor(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.execute(
        "DO $$DECLARE c CURSOR FOR SELECT * FROM note ORDER BY id FOR UPDATE; r record; BEGIN"
        " FOR r IN c LOOP"
        " IF r.id % 2 = 0 THEN DELETE FROM note WHERE CURRENT OF c;"
        " ELSE UPDATE note SET stars = r.id * 10 WHERE CURRENT OF c; END IF; END LOOP; END$$"
    )
    assert told(s) == [
        ("DELETE", key(2)),
        ("DELETE", key(4)),
        ("UPDATE", key(1)),
        ("UPDATE", key(3)),
        ("UPDATE", key(5)),
    ]
    s.exchange()


def test_binary_copy_copy_of_chosen_rows_and_copy_into_a_fresh_table(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    with s.here.connection.cursor().copy("COPY note (id, title) FROM STDIN WITH (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        for number in range(6, 9):
            copy.write_row((number, f"binary\t\\N {number}"))
    with s.here.connection.cursor().copy("COPY note (id, title) FROM STDIN WHERE id % 2 = 0") as copy:
        for number in range(9, 13):
            copy.write_row((number, "chosen"))
    assert told(s) == sorted(("INSERT", key(number)) for number in (6, 7, 8, 10, 12))
    s.exchange()
    # COPY with FREEZE needs a table that was emptied in the same transaction
    with s.here.connection.transaction():
        s.here.connection.execute("TRUNCATE note")
        with s.here.connection.cursor().copy("COPY note (id, title) FROM STDIN WITH (FREEZE)") as copy:
            for number in range(1, 4):
                copy.write_row((number, "frozen"))
    s.exchange()
    assert (
        s.there.value("SELECT string_agg(id || title, ',' ORDER BY id) FROM note")
        == "1frozen,2frozen,3frozen"
    )


def test_a_function_with_the_rights_of_its_owner_and_a_prepared_statement(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.here.write(
        "CREATE FUNCTION add(n integer) RETURNS integer LANGUAGE sql SECURITY DEFINER AS"
        " 'INSERT INTO note VALUES (n, ''by a function'') RETURNING id'",
        "PREPARE change(integer, text) AS UPDATE note SET title = $2 WHERE id = $1",
    )
    assert s.here.execute("SELECT add(n) FROM generate_series(6, 7) AS n") == [(6,), (7,)]
    for number in range(1, 8):  # past the moment when PostgreSQL changes to a generic plan
        s.here.execute(f"EXECUTE change({number}, 'prepared')")
    assert told(s) == [
        ("INSERT", key(6)),
        ("INSERT", key(7)),
        *(("UPDATE", key(number)) for number in range(1, 6)),
    ]
    s.exchange()


def test_merge_by_source_and_what_it_returns(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.require(17, "MERGE with NOT MATCHED BY SOURCE and RETURNING")
    returned = s.here.execute(
        "MERGE INTO note AS n USING (VALUES (1, 'x'), (9, 'new')) AS v(id, title) ON n.id = v.id"
        " WHEN MATCHED THEN UPDATE SET title = v.title"
        " WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, v.title)"
        " WHEN NOT MATCHED BY SOURCE AND n.id > 3 THEN DELETE"
        " WHEN NOT MATCHED BY SOURCE THEN UPDATE SET stars = -1"
        " RETURNING merge_action(), n.id"
    )
    assert sorted(returned) == told_as_merged(s)
    assert len(returned) == 6
    s.exchange()


def told_as_merged(s: Shelf) -> list[tuple[str, int]]:
    return sorted(
        (operation, int(text.removeprefix('{"id": ').removesuffix("}"))) for operation, text in told(s)
    )


def test_a_write_that_returns_old_and_new_rows(shelf: MakeShelf) -> None:
    s = shelf([NOTE, FILL], "note")
    s.require(18, "RETURNING of old and new rows")
    assert s.here.execute("UPDATE note SET stars = 7 WHERE id = 1 RETURNING old.stars, new.stars") == [(1, 7)]
    assert s.here.execute(
        "INSERT INTO note VALUES (1, 'again'), (6, 'new') ON CONFLICT (id) DO UPDATE SET title = excluded.title"
        " RETURNING old.title, new.title"
    ) == [("t1", "again"), (None, "new")]
    assert told(s) == [("INSERT", key(6)), ("UPDATE", key(1))]
    s.exchange()


BASE_TYPE = (
    "CREATE SCHEMA geo",
    "CREATE TYPE geo.shape",
    # a base type with modifiers of its own, as PostGIS's geometry(Point, 4326) is: made of functions of the server, so
    # that it needs no compiler; its text, its equality and its place are those of a type that pgpeer has never heard of
    "CREATE FUNCTION geo.shape_in(cstring, oid, integer) RETURNS geo.shape LANGUAGE internal IMMUTABLE STRICT AS 'varcharin'",
    "CREATE FUNCTION geo.shape_out(geo.shape) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varcharout'",
    "CREATE FUNCTION geo.shape_typmod_in(cstring[]) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodin'",
    "CREATE FUNCTION geo.shape_typmod_out(integer) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodout'",
    "CREATE TYPE geo.shape (INPUT = geo.shape_in, OUTPUT = geo.shape_out, TYPMOD_IN = geo.shape_typmod_in,"
    " TYPMOD_OUT = geo.shape_typmod_out, INTERNALLENGTH = VARIABLE, STORAGE = extended)",
    "CREATE FUNCTION geo.fit(geo.shape, integer, boolean) RETURNS geo.shape LANGUAGE internal IMMUTABLE STRICT AS 'varchar'",
    "CREATE CAST (geo.shape AS geo.shape) WITH FUNCTION geo.fit(geo.shape, integer, boolean) AS IMPLICIT",
)
SHAPES = [
    "POINT(1 2)",
    "SRID=4326;POINT(1.50 -0)",
    "0101000020E6100000000000000000F03F",
    "tab\t newline\n backslash\\ quote' \"",
    "\\N",
    "",
]


def test_a_base_type_with_modifiers_travels_by_its_text(shelf: MakeShelf) -> None:
    """Like PostGIS: no equality operator, a modifier in brackets, a schema that is on nobody's search path."""
    s = shelf([], [])
    for replica in s.both:
        replica.write(*BASE_TYPE)
    s.here.write(
        "CREATE TABLE place (id integer PRIMARY KEY, free geo.shape, fixed geo.shape(40), many geo.shape[])"
    )
    s.track("place")
    for number, shape in enumerate(SHAPES):
        s.here.connection.execute(
            "INSERT INTO place SELECT %s, v.a[1], v.a[1], v.a FROM (SELECT (%s::text)::geo.shape[] AS a) AS v",
            [number, array_literal(shape)],
        )
    s.exchange()
    modifier = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'place'::regclass AND attname = 'fixed'"
    assert s.there.value(modifier) == s.here.value(modifier) == "geo.shape(40)"
    # written over itself nothing changes; another text is one change of one column
    s.here.write("UPDATE place SET free = free, fixed = fixed, many = many")
    assert s.changes() == []
    s.there.write("UPDATE place SET free = 'POINT(3 4)' WHERE id = 0", "DELETE FROM place WHERE id = 5")
    assert [(c.operation, c.columns) for c in s.changes(s.there)] == [("DELETE", ()), ("UPDATE", ("free",))]
    s.exchange()


def array_literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{"{escaped}",NULL}}'
