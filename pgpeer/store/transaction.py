"""One transaction on a database, with PostgreSQL's refusals as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy.exc

from pgpeer.errors import StoreError
from pgpeer.store.session import settings

_CONNECT_SECONDS: Final = 10


def connect(dsn: str) -> psycopg.Connection:
    """Connects to a database, with time-outs and defaults of transactions that are pgpeer's own.

    Raises:
        StoreError: it cannot be reached.
    """
    try:
        connection = psycopg.connect(
            dsn, connect_timeout=_CONNECT_SECONDS, application_name="pgpeer", autocommit=True
        )
        connection.execute(settings(worker=False).encode())
        connection.autocommit = False
        return connection
    except psycopg.Error as error:
        raise StoreError(
            f"The database cannot be reached: {_reason(error)}",
            sqlstate=error.sqlstate or "",
            remedy="Check --dsn or PGPEER_DSN, and that the server runs and lets this role in.",
            code="unreachable",
            retryable=True,
        ) from error


@contextmanager
def transaction(dsn: str) -> Iterator[psycopg.Connection]:
    """Connects, commits at the end of the block, rolls back if it is left by an error, and disconnects.

    Raises:
        StoreError: the database cannot be reached, or PostgreSQL refuses a statement.
    """
    with refusals(), connect(dsn) as connection:
        yield connection


@contextmanager
def refusals() -> Iterator[None]:
    """Turns PostgreSQL's errors inside the block into `StoreError`."""
    try:
        yield
    except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
        cause = error if isinstance(error, psycopg.Error) else error.orig
        if not isinstance(cause, psycopg.Error):
            raise
        hint = cause.diag.message_hint or ""
        if isinstance(cause, psycopg.errors.LockNotAvailable):
            hint = "Stop the worker and finish open transactions first."
        raise StoreError(
            f"PostgreSQL refused: {cause.diag.message_primary or _last_line(cause)}",
            sqlstate=cause.sqlstate or "",
            remedy=hint,
        ) from error


def one(connection: psycopg.Connection, query: str) -> object:
    """The first column of the first row; None when there is no row."""
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def run_file(connection: psycopg.Connection, path: Path) -> None:
    """Runs the statements of a SQL file in the open transaction.

    Raises:
        StoreError: names the file and line, and what PostgreSQL says about it.
    """
    text = path.read_text(encoding="utf-8")
    try:
        connection.execute(text.encode())
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = "" if position is None else f":{text.count(chr(10), 0, int(position) - 1) + 1}"
        raise StoreError(
            f"{path.parent.name}/{path.name}{line}: {error.diag.message_primary or _last_line(error)}",
            sqlstate=error.sqlstate or "",
            remedy="This is a fault of pgpeer: please report it together with the version of the server.",
        ) from error


def _reason(error: psycopg.Error) -> str:
    """What libpq says went wrong, without the address and the advice around it."""
    line = next((line for line in str(error).splitlines() if " failed: " in line), _last_line(error))
    return line.rpartition(" failed: ")[2].removeprefix("FATAL: ").strip()


def _last_line(error: psycopg.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
