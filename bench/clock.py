"""Timing statements, and waiting until something can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psycopg

PATIENCE_SECONDS: Final = 600.0
SHORTEST_PAUSE: Final = 0.0001
LONGEST_PAUSE: Final = 0.02


class NeverSeen(Exception):
    """What was waited for did not come."""


def seconds(connection: psycopg.Connection, statement: str, *parameters: object) -> float:
    """How long one statement takes, its commit included."""
    began = time.perf_counter()
    connection.execute(statement.encode(), parameters or None)
    return time.perf_counter() - began


def checkpoint(*connections: psycopg.Connection) -> None:
    """Lets every measurement begin with clean buffers and fresh full-page images."""
    for connection in connections:
        connection.execute("CHECKPOINT")


def seen(holds: Callable[[], bool], what: str) -> float:
    """The moment (`time.perf_counter`) at which a condition is first seen to hold.

    Questions take processor time from what is measured, so the pause between two grows with the time that has
    gone by: the error of the answer is 3 % of it, or 0.1 ms, and the time of one question.

    Args:
        holds: asks.
        what: named when it never holds.

    Raises:
        NeverSeen: it did not hold within ten minutes.
    """
    began = time.perf_counter()
    while not holds():
        gone = time.perf_counter() - began
        if gone > PATIENCE_SECONDS:
            raise NeverSeen(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(min(max(SHORTEST_PAUSE, gone * 0.03), LONGEST_PAUSE))
    return time.perf_counter()


def answers(connection: psycopg.Connection, query: str, *parameters: object) -> Callable[[], bool]:
    """A condition: the query gives true."""
    text = query.encode()

    def ask() -> bool:
        row = connection.execute(text, parameters or None, prepare=True).fetchone()
        return row is not None and row[0] is True

    return ask
