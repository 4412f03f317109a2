"""Sessions that can be made to wait for each other in a known order.

Nothing here sleeps to give another session time: `until_waiting` looks at PostgreSQL's own list of who waits for whom.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
from merge.replica import Replica

PATIENCE = 30.0
_LOOK_AGAIN = 0.003


class Session:
    """A connection whose statements run in a thread of their own, one after the other."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self.connection.info.backend_pid
        self._thread = ThreadPoolExecutor(1)

    def start(self, statement: str) -> Future[list[tuple[Any, ...]]]:
        """Send a statement and go on at once."""
        return self._thread.submit(self._execute, statement)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements to their end; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = self.start(statement).result(PATIENCE)
        return rows

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        if not self.connection.closed:
            self.connection.cancel_safe(timeout=5)
        self._thread.shutdown()
        self.connection.close()


class Sessions:
    """The sessions of a test and an observer of who waits for whom."""

    def __init__(self) -> None:
        self._opened: list[Session] = []
        self._observers: dict[str, psycopg.Connection[Any]] = {}
        self._threads = ThreadPoolExecutor(8)

    def open(self, replica: Replica) -> Session:
        """A user's session in a database."""
        self._opened.append(Session(replica.dsn))
        return self._opened[-1]

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run something in a thread."""
        return self._threads.submit(work, *arguments)

    def until_waiting(self, waiting: Session | Replica, holder: Session | Replica) -> None:
        """Return when the first waits for a lock that the second holds (or waits for before it)."""
        watcher = self._observer(waiting)
        self.until(
            lambda: (
                watcher.execute(
                    "SELECT %s = ANY (pg_blocking_pids(%s))", [pid(holder), pid(waiting)]
                ).fetchone()
                == (True,)
            ),
            "nobody waits as expected",
        )

    def until(self, condition: Callable[[], bool], complaint: str) -> None:
        """Return when a condition holds; fail after a long while."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, complaint
            time.sleep(_LOOK_AGAIN)

    def _observer(self, session: Session | Replica) -> psycopg.Connection[Any]:
        dsn = session.connection.info.dsn
        if dsn not in self._observers:
            self._observers[dsn] = psycopg.connect(dsn, autocommit=True)
        return self._observers[dsn]

    def close(self) -> None:
        for session in self._opened:
            session.close()
        self._threads.shutdown()
        for observer in self._observers.values():
            observer.close()


def pid(session: Session | Replica) -> int:
    """The backend of a session."""
    return session.connection.info.backend_pid
