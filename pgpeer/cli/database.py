"""The commands' door to the database: psycopg, whose refusals become ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from pgpeer.cli.output import Row
from pgpeer.errors import StoreError
from pgpeer.store.preconditions import IS_INSTALLED
from pgpeer.store.transaction import connect

OWN_CLASS: Final = "PG"
"""The SQLSTATEs of pgpeer itself begin so; they are listed in docs/reference/errors.md."""

WORKER_RUNS: Final = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                                         WHERE d.datname = pg_catalog.current_database())
                      AND l.classid = peer_internal.lock_key()::oid AND l.objid = 0)
"""
"""A query that tells whether a worker holds its lock on this database."""

_INSUFFICIENT_PRIVILEGE: Final = "42501"
_READ_ONLY: Final = "25006"
_UNDEFINED_TABLE = "42P01"
_INVALID_DATETIME = "22007"
_WAITED: Final = frozenset({"57014", "55P03"})
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "08006", "08003"})


class Database:
    """One connection in autocommit mode; every call raises StoreError when PostgreSQL refuses."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a query, as PostgreSQL's own JSON; keys are the column names, in their order."""
        with _refusals():
            wrapped = f"SELECT pg_catalog.row_to_json(x) FROM ({query}) AS x"
            return [row[0] for row in self.connection.execute(wrapped.encode(), parameters)]

    def value(self, query: str, parameters: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """The first column of the first row; None when there is no row."""
        with _refusals():
            row = self.connection.execute(query.encode(), parameters).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def transaction(self, *, one_snapshot: bool = False) -> Iterator[None]:
        """Everything inside happens or nothing does; with `one_snapshot` all queries see one moment."""
        with _refusals(), self.connection.transaction():
            if one_snapshot:
                self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield


@contextmanager
def open_database(dsn: str, *, needs_pgpeer: bool = True) -> Iterator[Database]:
    """Connects for the length of a block.

    Raises:
        StoreError: the database cannot be reached, or pgpeer is not installed there.
    """
    with connect(dsn) as connection:
        connection.autocommit = True
        database = Database(connection)
        if needs_pgpeer and not database.value(IS_INSTALLED):
            raise StoreError(
                f"pgpeer is not installed in the database {connection.info.dbname}.",
                remedy="Run: pgpeer init --dsn …",
                code="not_installed",
            )
        yield database


@contextmanager
def notified(database: Database, channel: str) -> Iterator[Callable[[float], bool]]:
    """Listens to a channel; gives a function that waits so many seconds and tells whether one came."""
    connection = database.connection
    with _refusals():
        connection.execute(f"LISTEN {channel}".encode())

        def wait(seconds: float) -> bool:
            with _refusals():
                return any(True for _ in connection.notifies(timeout=seconds, stop_after=1))

        yield wait


def worker_runs(database: Database, patience: float = 0.0) -> bool:
    """Whether a worker serves the database; one that has just been started gets `patience` seconds."""
    give_up = time.monotonic() + patience
    while not database.value(WORKER_RUNS):
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.1)
    return True


def chosen_bundle(database: Database, given: str | None) -> str:
    """The bundle that was named, or the only one there is.

    Raises:
        StoreError: none was named, and there is none or more than one.
    """
    if given is not None:
        return given
    names = [row["name"] for row in database.rows("SELECT b.name FROM peer_internal.bundle AS b ORDER BY 1")]
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise StoreError(
            "There is no bundle in this database yet.",
            remedy="Create one with 'pgpeer bundle create NAME', or join one with 'pgpeer join LINK'.",
            code="no_bundle",
        )
    raise StoreError(
        "There are several bundles in this database.",
        remedy=f"Name one of them: {', '.join(names)}.",
        code="which_bundle",
    )


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _refusal(error) from error


def _refusal(error: psycopg.Error) -> StoreError:
    state = error.sqlstate or ""
    lines = [line for line in str(error).splitlines() if line.strip()]
    sentence = error.diag.message_primary or (lines[0] if lines else type(error).__name__)
    if error.diag.message_detail:
        sentence = f"{sentence.rstrip('.')}. {error.diag.message_detail}"
    remedy = error.diag.message_hint or ""
    if state.startswith(OWN_CLASS):
        return StoreError(sentence, sqlstate=state, remedy=remedy)
    if state == _INSUFFICIENT_PRIVILEGE:
        remedy = remedy or "Connect as the role that ran 'pgpeer init', or let it grant you the right."
    elif state == _READ_ONLY:
        remedy = remedy or "Give the address of the primary server."
    elif state == _UNDEFINED_TABLE:
        remedy = remedy or "Write the name as in SQL, with its schema."
    elif state == _INVALID_DATETIME:
        remedy = remedy or "Write a time span, for example '7 days'."
    elif state in _WAITED:
        remedy = (
            remedy or "Something holds a lock: pg_stat_activity tells what. End it or wait, then try again."
        )
    elif state in _LOST or not state:
        remedy = remedy or "Check that the server runs, then try again."
    return StoreError(f"PostgreSQL refused: {sentence}", sqlstate=state, remedy=remedy)
