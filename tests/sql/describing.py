"""Calls of the schema description functions."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

Description = dict[str, Any]


def one(db: psycopg.Connection, statement: str, *parameters: object) -> Any:
    """The only value of a query."""
    row = db.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]


def describe(db: psycopg.Connection, relation: str) -> Description:
    result = one(db, "SELECT peer_internal.describe_relation(%s::regclass)", relation)
    assert isinstance(result, dict)
    return result


def create(db: psycopg.Connection, description: object) -> str:
    """Creates a relation; its name, qualified where it must be."""
    return str(one(db, "SELECT peer_internal.create_relation(%s)::text", Jsonb(description)))


def difference(db: psycopg.Connection, relation: str, description: object) -> str | None:
    result = one(db, "SELECT peer_internal.schema_difference(%s::regclass, %s)", relation, Jsonb(description))
    return None if result is None else str(result)


def refused(db: psycopg.Connection, description: object, code: str) -> psycopg.Error:
    """Creating must fail with this SQLSTATE, a detail and a remedy, and leave nothing behind."""
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        create(db, description)
    error = caught.value
    assert error.sqlstate == code, error
    assert error.diag.message_detail
    assert error.diag.message_hint
    return error


def column(description: Description, name: str) -> dict[str, Any]:
    """The described column of this name."""
    (found,) = [item for item in description["columns"] if item["name"] == name]
    assert isinstance(found, dict)
    return found


def token(kind: str, value: object) -> dict[str, object]:
    return {"k": kind, "v": value}
