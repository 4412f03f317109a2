"""Tasks beside the main ones: held until they end, and what goes wrong in them is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from pgpeer.errors import StoreError


class Crew:
    """The tasks of one part of the worker.

    Args:
        lost: set when one ends because the database cannot be reached.
        name: of the logger.
    """

    def __init__(self, lost: asyncio.Event, name: str) -> None:
        self._lost = lost
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger(name)

    def __len__(self) -> int:
        return len(self._tasks)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Give those that have not ended."""
        return list(self._tasks)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreError):
            self._log.warning("ended with the database", reason=str(error))
            if error.code == "unreachable":
                self._lost.set()
        elif error is not None:
            self._log.error("failed", exc_info=error)
