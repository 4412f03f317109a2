"""Clients that write at a steady rate and remember what they were told is committed."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

import psycopg

OWN_ROWS = 2_000
"""Rows that one side updates and nobody else."""

KEPT_INSERTS = 5_000
"""Rows beyond these are deleted again, oldest first: the table keeps its size."""

DDL = (
    "CREATE TABLE public.reading (id bigint PRIMARY KEY, side int NOT NULL, count bigint NOT NULL, note text)"
)


class Client(threading.Thread):
    """One connection that commits `rate` transactions a second, as well as it can, until it is stopped.

    Attributes:
        committed: transactions that PostgreSQL said are committed.
        counts: for each of the rows that only this client updates, how often it did.
        kept: the keys of inserted rows that must stand at the end.
    """

    def __init__(self, dsn: str, side: int, number: int, clients: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.committed = 0
        self.counts = {side * 10**9 + key: 0 for key in range(number, OWN_ROWS, clients)}
        self.kept: deque[int] = deque()
        self._own_keys = list(self.counts)
        self.error: Exception | None = None
        self._dsn = dsn
        self._side = side
        self._next_key = (side + 10) * 10**12 + number * 10**9
        self._kept_most = KEPT_INSERTS // clients
        self._pause_seconds = 1 / rate
        self._random = random.Random(side * 100 + number)
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                due = time.monotonic()
                while not self._stopped.wait(max(0.0, due - time.monotonic())):
                    due = max(due + self._pause_seconds, time.monotonic() - 1)
                    self._write(connection)
                    self.committed += 1
        except (psycopg.Error, OSError) as error:  # shown by the test, which joins this thread
            self.error = error

    def stop(self) -> None:
        self._stopped.set()
        self.join(30)
        if self.error is not None:
            raise self.error

    def _write(self, connection: psycopg.Connection) -> None:
        if self._random.random() < 0.7:
            key = self._random.choice(self._own_keys)
            connection.execute("UPDATE public.reading SET count = count + 1 WHERE id = %s", [key])
            self.counts[key] += 1
        elif len(self.kept) < self._kept_most:
            self._next_key += 1
            text = "x" * self._random.randrange(10, 200)
            connection.execute(
                "INSERT INTO public.reading VALUES (%s, %s, 0, %s)", [self._next_key, self._side, text]
            )
            self.kept.append(self._next_key)
        else:
            connection.execute("DELETE FROM public.reading WHERE id = %s", [self.kept[0]])
            self.kept.popleft()
