"""A table is described without SQL text, and made again from its description, on PostgreSQL 15 and 18."""

from __future__ import annotations

import copy
from typing import Any

import psycopg
import pytest
from fixtures.databases import Databases
from fixtures.versions import BOTH, EMBEDDED, SECOND
from psycopg import sql
from psycopg.types.json import Jsonb

from .conftest import ORDER, SQL
from .describing import column, create, describe, difference, one, refused
from .tables import BIG, EVERYTHING, SMALL


def test_every_file_of_the_description_is_loaded_at_installation() -> None:
    assert sorted(ORDER) == sorted(
        f"20_commit/{path.name}" for path in (SQL / "20_commit").glob("schema_*.sql")
    )


def test_a_table_made_from_its_description_has_the_same_description(db: psycopg.Connection) -> None:
    db.execute(EVERYTHING)
    relations = ['shop."Länder"', BIG]
    described = [describe(db, relation) for relation in relations]
    assert [item["omitted"] for item in described] == [[], []]
    db.execute("DROP SCHEMA shop CASCADE")

    assert [create(db, item) for item in described] == relations

    assert [describe(db, relation) for relation in relations] == described
    assert [difference(db, *pair) for pair in zip(relations, described, strict=True)] == [None, None]


def test_a_description_is_the_same_bytes_on_every_version(databases: Databases) -> None:
    texts = []
    for version in BOTH:
        cluster, name = databases.bare(databases.cluster(version))
        with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
            # what a session prefers must not show
            connection.execute(
                "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'sql_standard'"
            )
            connection.execute(
                "SET quote_all_identifiers = on; SET bytea_output = 'escape'; SET search_path = shop"
            )
            connection.execute("CREATE SCHEMA peer; CREATE SCHEMA peer_internal")
            for file in ORDER:
                connection.execute((SQL / file).read_text().encode())
            connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'")
            connection.execute(EVERYTHING)
            connection.execute(
                "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'sql_standard'"
            )
            texts.append(one(connection, "SELECT peer_internal.describe_relation(%s::regclass)::text", BIG))
        databases.drop_named(cluster, name)
    assert texts[0] == texts[1]


def test_a_description_made_on_one_version_creates_the_table_on_the_other(
    server: psycopg.Connection, db: psycopg.Connection, databases: Databases
) -> None:
    other = databases.cluster(SECOND if server.info.server_version >= 180000 else EMBEDDED)
    cluster, name = databases.bare(other)
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA peer; CREATE SCHEMA peer_internal")
        for file in ORDER:
            connection.execute((SQL / file).read_text().encode())
        connection.execute(EVERYTHING)
        described = [describe(connection, relation) for relation in ('shop."Länder"', BIG)]
    databases.drop_named(cluster, name)
    assert [describe(db, create(db, item)) for item in described] == described


def test_the_made_table_behaves_like_the_original(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    described = [describe(db, "shop.country"), describe(db, "shop.city")]
    db.execute("DROP SCHEMA shop CASCADE")
    for item in described:
        create(db, item)
    db.execute("INSERT INTO shop.city (id, name) VALUES (1, 'Bern')")
    row = db.execute(
        "SELECT ser, mood::text, price, bits::text, founded = now(), upper_name FROM shop.city"
    ).fetchone()
    assert row is not None
    assert (row[0], row[1], str(row[2]), *row[3:]) == (1, "ok", "1.50", "10", True, "BERN")
    for statement, code in [
        ("INSERT INTO shop.city (id, name) VALUES (2, 'x')", "23514"),
        ("INSERT INTO shop.city (id, name, price) VALUES (2, 'y', -1)", "23514"),
        ("INSERT INTO shop.city (id, name, country) VALUES (2, 'y', 'nowhere')", "23503"),
        ("INSERT INTO shop.city (id, name, mood) VALUES (2, 'y', 'angry')", "22P02"),
        ("INSERT INTO shop.city (id, name) VALUES (1, 'y')", "23505"),
        ("INSERT INTO shop.city (id, name) VALUES (2, NULL)", "23502"),
    ]:
        with pytest.raises(psycopg.Error) as caught, db.transaction():
            db.execute(statement)
        assert caught.value.sqlstate == code


def test_names_of_any_characters_survive(db: psycopg.Connection) -> None:
    name = "a\"b'; DROP TABLE x; -- $$ ü\t\\"
    db.execute(
        sql.SQL(
            "CREATE SCHEMA {0}; CREATE TABLE {0}.{0} ({0} int CONSTRAINT {1} PRIMARY KEY, CHECK ({0} > 0))"
        ).format(sql.Identifier(name), sql.Identifier(name + "key"))
    )
    relation = one(
        db, "SELECT c.oid::regclass::text FROM pg_class AS c WHERE relname = %s AND relkind = 'r'", name
    )
    described = describe(db, relation)
    db.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
    assert describe(db, create(db, described)) == described


@pytest.mark.parametrize(
    ("definition", "kind", "reason"),
    [
        ("n int DEFAULT nextval('counter')", "default", "it calls nextval, which is not on the list"),
        ("n int DEFAULT shop.f(1)", "default", "it uses shop.f, which is not built in"),
        ("n text DEFAULT current_setting('a.b')", "default", "it calls current_setting"),
        ("n int CHECK (shop.f(n) > 0)", "check", "it uses shop.f, which is not built in"),
        ("n int CHECK (n OPERATOR(shop.@@@) 1 > 0)", "check", "it uses OPERATOR"),
        ("n int CHECK (n::regtype IS NOT NULL)", "check", "it casts to regtype"),
        ("n int CHECK ((ROW(n)::shop.pair).a > 0)", "check", "it casts to shop.pair"),
        ("n int CHECK (tableoid > 0)", "check", "it uses tableoid, which is no column of the table"),
        (
            "n int GENERATED ALWAYS AS (shop.f(id)) STORED",
            "generated",
            "it uses shop.f, which is not built in",
        ),
        ("n int4range, EXCLUDE USING gist (n WITH &&)", "exclusion", "exclusion constraints do not travel"),
    ],
)
def test_what_does_not_travel_is_left_out_and_named(
    db: psycopg.Connection, definition: str, kind: str, reason: str
) -> None:
    db.execute(
        "CREATE SCHEMA shop; CREATE SEQUENCE counter; CREATE TYPE shop.pair AS (a int);"
        "CREATE FUNCTION shop.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE FUNCTION shop.g(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE OPERATOR shop.@@@ (FUNCTION = shop.g, LEFTARG = int, RIGHTARG = int)"
    )
    db.execute(sql.SQL("CREATE TABLE t (id int PRIMARY KEY, {})").format(sql.SQL(definition)))
    described = describe(db, "t")
    (omission,) = described["omitted"]
    assert omission["kind"] == kind
    assert omission["reason"].startswith(reason)
    db.execute("DROP TABLE t")
    if kind == "generated":
        refused(db, described, "PGS07")
    else:
        assert describe(db, create(db, described)) == {**described, "omitted": []}


def test_a_type_of_an_extension_is_named_and_found_in_any_schema(db: psycopg.Connection) -> None:
    db.execute("CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, name citext, names citext[])")
    described = describe(db, "t")
    assert described["types"] == [{"kind": "extension", "extension": "citext", "name": "citext"}]
    db.execute("DROP TABLE t; DROP EXTENSION citext")
    error = refused(db, described, "PGS04")
    assert error.diag.message_hint == "CREATE EXTENSION citext; then try again."
    db.execute("CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere")
    assert describe(db, create(db, described)) == described


def test_a_default_that_this_version_does_not_know_is_left_out(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid())")
    described = describe(db, "t")
    described["columns"][0]["default"][0]["v"] = "uuidv7"
    db.execute("DROP TABLE t")
    made = describe(db, create(db, described))["columns"][0]["default"]
    assert made == (described["columns"][0]["default"] if db.info.server_version >= 180000 else None)


def test_a_virtual_column_becomes_a_stored_one_where_there_are_none(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)")
    described = describe(db, "t")
    described["columns"][1]["virtual"] = True
    db.execute("DROP TABLE t")
    create(db, described)
    kind = one(
        db, "SELECT attgenerated::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'twice'"
    )
    assert kind == ("v" if db.info.server_version >= 180000 else "s")
    assert difference(db, "t", described) is None


def test_foreign_keys_wait_for_the_table_and_for_the_rows_they_need(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    country, city = describe(db, "shop.country"), describe(db, "shop.city")
    db.execute("DROP SCHEMA shop CASCADE")

    def add() -> int:
        return int(one(db, "SELECT peer_internal.create_missing_foreign_keys(%s)", Jsonb(city)))

    def validated() -> list[Any]:
        rows = db.execute("SELECT convalidated FROM pg_constraint WHERE contype = 'f'").fetchall()
        return [row[0] for row in rows]

    create(db, city)
    assert (add(), validated()) == (0, [])
    db.execute("INSERT INTO shop.city (id, name, country) VALUES (1, 'Bern', 'CH')")
    create(db, country)
    assert (add(), validated()) == (1, [False])
    assert (add(), validated()) == (0, [False])
    db.execute("INSERT INTO shop.country VALUES ('CH')")
    assert (add(), validated()) == (0, [True])
    db.execute("ALTER TABLE shop.city RENAME CONSTRAINT city_country TO renamed")
    assert add() == 0, "the same key under another name is not made twice"


def test_a_foreign_key_that_does_not_fit_is_refused(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    city = describe(db, "shop.city")
    db.execute("DROP TABLE shop.city; ALTER TABLE shop.country DROP CONSTRAINT country_pkey")
    refused(db, city, "PGS08")


def test_an_equal_table_is_kept_and_a_differing_one_is_refused(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    described = describe(db, "shop.city")
    before = one(db, "SELECT 'shop.city'::regclass::oid")
    assert create(db, described) == "shop.city"
    assert one(db, "SELECT 'shop.city'::regclass::oid") == before
    db.execute("ALTER TABLE shop.city ALTER COLUMN name DROP NOT NULL")
    error = refused(db, described, "PGS05")
    assert error.diag.message_detail == "shop.city: column name is NOT NULL only there."
    db.execute("DROP TABLE shop.city; CREATE VIEW shop.city AS SELECT 1 AS id")
    refused(db, described, "PGS05")


def test_an_enum_or_domain_that_differs_here_is_refused(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    described = describe(db, "shop.city")
    db.execute("DROP TABLE shop.city; ALTER TYPE shop.mood RENAME VALUE 'ok' TO 'fine'")
    assert 'labels of the enum shop.mood are ["sad", "fine"] here' in str(refused(db, described, "PGS06"))
    db.execute("ALTER TYPE shop.mood RENAME VALUE 'fine' TO 'ok'; ALTER DOMAIN shop.price SET NOT NULL")
    assert "shop.price is NOT NULL only here" in str(refused(db, described, "PGS06"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("DROP COLUMN mood", "shop.city: column mood is missing here."),
        ('ADD COLUMN "New one" int', 'shop.city: column "New one" is missing there.'),
        ("ALTER COLUMN bits TYPE bit(3)", "shop.city: column bits is of type bit(3) here and bit(2) there."),
        (
            "ALTER COLUMN country TYPE varchar(9)",
            "shop.city: column country is of type character varying(9) here and text there.",
        ),
        ("ALTER COLUMN country SET NOT NULL", "shop.city: column country is NOT NULL only here."),
        ("ALTER COLUMN upper_name DROP EXPRESSION", "shop.city: column upper_name is generated only there."),
        (
            "DROP COLUMN upper_name, ADD COLUMN upper_name text GENERATED ALWAYS AS (lower(name)) STORED",
            "shop.city: column upper_name is generated by another expression here than there.",
        ),
        (
            "DROP CONSTRAINT city_pkey, ADD PRIMARY KEY (id, ser)",
            "shop.city: the primary key is (id, ser) here and (id) there.",
        ),
        ("DROP CONSTRAINT city_pkey", "shop.city: the primary key is () here and (id) there."),
        ('ALTER COLUMN name TYPE text COLLATE "POSIX"', None),
        (
            "ALTER COLUMN bits DROP DEFAULT, DROP CONSTRAINT named, DROP CONSTRAINT city_name_country,"
            " DROP CONSTRAINT city_country",
            None,
        ),
        ("ADD CONSTRAINT local CHECK (id < 100), ADD UNIQUE (ser)", None),
    ],
)
def test_the_first_difference_that_counts_is_told_in_one_sentence(
    db: psycopg.Connection, change: str, sentence: str | None
) -> None:
    db.execute(SMALL)
    described = describe(db, "shop.city")
    assert difference(db, "shop.city", described) is None
    if "name TYPE" in change:
        db.execute("ALTER TABLE shop.city DROP COLUMN upper_name CASCADE")
        described = describe(db, "shop.city")
    db.execute(f"ALTER TABLE shop.city {change}".encode())
    assert difference(db, "shop.city", described) == sentence


def test_the_order_of_columns_is_no_difference_but_the_collation_of_a_key_is(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE t (k text PRIMARY KEY, v int); CREATE TABLE u (v int, k text PRIMARY KEY)")
    assert difference(db, "u", describe(db, "t")) is None
    db.execute('ALTER TABLE u ALTER COLUMN k TYPE text COLLATE "POSIX"')
    assert (
        difference(db, "u", describe(db, "t"))
        == "public.u: key column k has the collation POSIX here and default there."
    )


def test_missing_rights_are_told_as_such_and_not_blamed_on_the_peer(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    described = copy.deepcopy(describe(db, "shop.country"))
    described["name"] = "elsewhere"
    db.execute(
        "CREATE ROLE nobody_special; GRANT USAGE ON SCHEMA peer_internal TO nobody_special;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA peer_internal TO nobody_special;"
        "SET LOCAL ROLE nobody_special"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
        create(db, described)


def test_a_generated_column_keeps_its_column_description(db: psycopg.Connection) -> None:
    db.execute(SMALL)
    generated = column(describe(db, "shop.city"), "upper_name")
    assert generated["default"] is None
    assert [item["k"] for item in generated["generated"]] == [
        "function",
        "punctuation",
        "column",
        "punctuation",
    ]
