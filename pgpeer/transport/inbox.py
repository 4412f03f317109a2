"""Frames that arrived and wait to be received; shared by all engines."""

from __future__ import annotations

import asyncio
from collections import deque

from pgpeer.errors import LinkClosed


class Inbox:
    """A queue of frames for one receiver, with a limit in bytes and an end.

    Args:
        limit: how many bytes may wait; `put` tells when this is passed.
    """

    __slots__ = ("_closed", "_frames", "_limit", "_size", "_taken", "_waiter")

    def __init__(self, limit: int) -> None:
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._limit = limit
        self._waiter: asyncio.Future[None] | None = None
        self._taken = asyncio.Event()
        self._closed: LinkClosed | None = None

    def put(self, frame: bytes) -> bool:
        """Add a frame; False when it was not taken because too much waits or the inbox is closed."""
        if self._closed is not None or self._size + len(frame) > self._limit:
            return False
        self._frames.append(frame)
        self._size += len(frame)
        self._wake()
        return True

    def close(self, reason: LinkClosed, *, discard: bool = False) -> None:
        """End the inbox: the waiting frames can still be taken unless `discard`; the first reason stays."""
        if self._closed is None:
            self._closed = reason
        if discard:
            self._frames.clear()
            self._size = 0
        self._taken.set()
        self._wake()

    async def get(self) -> bytes:
        """Return the next frame.

        Raises:
            LinkClosed: the inbox is closed and empty.
        """
        while not self._frames:
            if self._closed is not None:
                raise LinkClosed(
                    str(self._closed),
                    code=self._closed.code,
                    remedy=self._closed.remedy,
                    retryable=self._closed.retryable,
                )
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        frame = self._frames.popleft()
        self._size -= len(frame)
        self._taken.set()
        return frame

    async def until_below(self, size: int) -> None:
        """Return when no more than this many bytes wait, or the inbox is closed: back-pressure."""
        while self._size > size and self._closed is None:
            self._taken.clear()
            await self._taken.wait()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
