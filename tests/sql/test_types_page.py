"""docs/reference/types.md and the code refuse the same types."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "types.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def column(db: psycopg.Connection, query: str, *values: object) -> set[str]:
    return {row[0] for row in db.execute(query.encode(), values)}


def test_the_page_lists_the_refused_types_of_columns(db: psycopg.Connection) -> None:
    listed = names([row[0] for row in table("Refused as a column")])
    refused = column(
        db,
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')"
        " AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = pg_type.oid) AND peer_internal.is_local_type(oid)",
    )
    assert listed == refused


def test_every_other_type_of_postgresql_can_be_read_from_the_text_that_it_writes(
    db: psycopg.Connection,
) -> None:
    """No type is accepted that could not travel: its input function works at all."""
    accepted = column(
        db,
        "SELECT format_type(oid, -1) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype IN ('b', 'r', 'm') AND NOT peer_internal.is_local_type(oid)",
    )
    assert len(accepted) > 100
    for name in sorted(accepted):
        try:
            with db.transaction(force_rollback=True):
                db.execute(f"SELECT ''::{name}".encode())
        except psycopg.errors.DataError:
            pass  # an empty text is no value of it, which its input function found out
        except psycopg.errors.FeatureNotSupported:
            if not name.startswith("xml"):  # a server may be built without it
                raise


KEYS = {
    "`real` `double precision`": ["real", "double precision"],
    "`numeric` without a scale": ["numeric"],
    "`character` without a length (`bpchar`)": ["bpchar"],
    "`interval`": ["interval"],
    "`jsonb`": ["jsonb"],
    "arrays": ["integer[]", "text[]"],
    "composites": ["pair"],
    "types of extensions and base types of your own": ["hstore"],
}


def test_the_page_lists_the_refused_types_of_keys(db: psycopg.Connection) -> None:
    assert [row[0] for row in table("Refused as part of a primary key")] == list(KEYS)
    db.execute("CREATE TYPE pair AS (a integer, b text); CREATE EXTENSION hstore")
    problem = "SELECT peer_internal.key_type_problem(%s::regtype, -1, 0)"
    for types in KEYS.values():
        for name in types:
            assert db.execute(problem, [name]).fetchone() != (None,), name
    keyed = column(
        db,
        "SELECT format_type(t.oid, -1) FROM pg_type AS t JOIN pg_opclass AS o ON o.opcintype = t.oid"
        " JOIN pg_am AS a ON a.oid = o.opcmethod AND a.amname = 'btree' AND o.opcdefault"
        " WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')"
        " AND NOT peer_internal.is_local_type(t.oid) AND peer_internal.key_type_problem(t.oid, -1, 0) IS NOT NULL",
    )
    assert keyed == {"real", "double precision", "numeric", "bpchar", "interval", "jsonb"}


@pytest.mark.parametrize("name", ["pg_node_tree", "regclass[]", "gtsvector", "pg_class"])
def test_a_table_with_such_a_column_is_refused(db: psycopg.Connection, name: str) -> None:
    db.execute(f"CREATE TABLE t (id integer PRIMARY KEY, c {name})".encode())
    found = db.execute("SELECT sqlstate FROM peer_internal.refusal('t')").fetchall()
    assert ("PGT05",) in found
