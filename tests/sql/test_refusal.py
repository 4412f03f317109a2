"""A relation that cannot be tracked is refused with the reason and a remedy."""

from __future__ import annotations

import psycopg
import pytest

from .tables import BIG, EVERYTHING


def refusals(db: psycopg.Connection, relation: str) -> dict[str, tuple[str, str, str]]:
    rows = db.execute(
        "SELECT sqlstate, message, detail, hint FROM peer_internal.refusal(%s::regclass)", [relation]
    ).fetchall()
    return {row[0]: row[1:] for row in rows}


def has_icu(db: psycopg.Connection) -> bool:
    try:
        with db.transaction(force_rollback=True):
            db.execute("CREATE COLLATION public.probe (provider = icu, locale = 'und')")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


INHERITED = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t)"
HEIR = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (p)"
PARTITION = (
    "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT"
)
INNER_PARTITION = (
    "CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id);"
    "CREATE TABLE p PARTITION OF r DEFAULT PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT"
)
UNSAFE_PARTITION = "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE UNLOGGED TABLE p PARTITION OF t DEFAULT"
LOOSE = (
    "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
    "CREATE TABLE t (id text COLLATE loose PRIMARY KEY)"
)
GENERATED = "CREATE TABLE t (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)"


@pytest.mark.parametrize(
    ("statement", "code", "remedy"),
    [
        ("CREATE TABLE t (a int, b int UNIQUE)", "PGT01", "ALTER TABLE public.t ADD PRIMARY KEY (b);"),
        ("CREATE TABLE t (a int)", "PGT01", "ALTER TABLE public.t ADD PRIMARY KEY (…); or"),
        ("CREATE VIEW t AS SELECT 1 AS id", "PGT02", "Track the table"),
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "PGT03", "ALTER TABLE public.t SET LOGGED;"),
        ("CREATE TEMP TABLE t (id int PRIMARY KEY)", "PGT03", "Create it as an ordinary table."),
        (INHERITED, "PGT04", "ALTER TABLE public.child NO INHERIT public.t;"),
        (HEIR, "PGT04", "ALTER TABLE public.t NO INHERIT public.p;"),
        (
            PARTITION,
            "PGT04",
            "Track public.p, or take the partition out: ALTER TABLE public.p DETACH PARTITION public.t;",
        ),
        (
            INNER_PARTITION,
            "PGT04",
            "Track public.r, or take the partition out: ALTER TABLE public.p DETACH PARTITION public.t;",
        ),
        (UNSAFE_PARTITION, "PGT03", "ALTER TABLE public.p SET LOGGED;"),
        ("CREATE TABLE t (id int PRIMARY KEY, c regclass)", "PGT05", "Use another type, for example: ALTER"),
        ("CREATE DOMAIN d AS oid[]; CREATE TABLE t (id int PRIMARY KEY, c d)", "PGT05", "Use another type"),
        ("CREATE TYPE w AS (a xid); CREATE TABLE t (id int PRIMARY KEY, c w[])", "PGT05", "Use another type"),
        (
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)",
            "PGT06",
            "ALTER TABLE public.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id);",
        ),
        ("CREATE TABLE t (id numeric PRIMARY KEY)", "PGT08", "Use a key of integer"),
        ("CREATE TABLE t (id jsonb PRIMARY KEY)", "PGT08", "Use a key of integer"),
        (LOOSE, "PGT08", 'ALTER TABLE public.t ALTER COLUMN id TYPE text COLLATE "C";'),
        (GENERATED, "PGT09", "ALTER TABLE public.t ALTER COLUMN id DROP EXPRESSION;"),
    ],
)
def test_a_table_that_cannot_be_tracked_is_refused_with_a_remedy_that_works(
    db: psycopg.Connection, statement: str, code: str, remedy: str
) -> None:
    if "icu" in statement and not has_icu(db):
        pytest.skip("this PostgreSQL is built without ICU")
    db.execute(statement.encode())
    found = refusals(db, "t")
    assert list(found) == [code]
    message, detail, hint = found[code]
    assert message.startswith(("public.t cannot be tracked: ", "t cannot be tracked: "))
    assert detail
    assert hint.startswith(remedy)
    _, found_statement, rest = hint.partition("ALTER TABLE")
    if found_statement and rest.endswith(";") and "…" not in hint:
        db.execute((found_statement + rest).encode())
        assert refusals(db, "t") == {}


@pytest.mark.parametrize(
    "relation", ["pg_catalog.pg_class", "information_schema.tables", "peer_internal.own"]
)
def test_tables_of_postgresql_and_of_pgpeer_are_refused(db: psycopg.Connection, relation: str) -> None:
    db.execute("CREATE TABLE peer_internal.own (id int PRIMARY KEY)")
    assert list(refusals(db, relation)) == ["PGT07"]


def test_common_keys_and_types_are_not_refused(db: psycopg.Connection) -> None:
    db.execute(EVERYTHING)
    (hint,) = (hint for _, _, hint in refusals(db, BIG).values())
    assert "VALIDATE CONSTRAINT later" in hint
    db.execute(hint.encode())
    assert refusals(db, BIG) == {}
    db.execute(
        "CREATE TABLE k (a int, b bigint, c uuid, d text, e numeric(9,2), f date, g timestamptz, h char(3),"
        " i bytea, PRIMARY KEY (a, b, c, d, e, f, g, h, i))"
    )
    assert refusals(db, "k") == {}


def test_a_partitioned_table_is_tracked_as_a_whole(db: psycopg.Connection) -> None:
    db.execute(INNER_PARTITION.encode())
    assert refusals(db, "r") == {}
    db.execute(
        HEIR.replace("TABLE p", "TABLE a").replace("(p)", "(a)").replace("TABLE t", "TABLE b").encode()
    )
    ((code, (_, detail, _)),) = refusals(db, "a").items()
    assert (code, detail.split(":")[0]) == ("PGT04", "public.b inherits from it")


def test_a_relation_that_does_not_exist_is_refused(db: psycopg.Connection) -> None:
    assert list(refusals(db, "4294967294")) == ["PGT02"]
