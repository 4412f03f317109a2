"""Streams of bytes that a TLS link runs over: what they promise, and a pair inside one process."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from pgpeer.errors import LinkClosed

CHUNK_BYTES: Final = 64 * 1024
"""The most that one `receive` gives."""

BUFFER_BYTES: Final = 256 * 1024
"""What may wait in a pipe before its sender waits too."""


class Pipe(Protocol):
    """A reliable, ordered stream of bytes in both directions; `HubCircuit` is one too.

    One task may send and another receive at the same time.
    """

    async def send(self, data: bytes) -> None:
        """Send bytes, waiting while the other side does not read. A cancelled call leaves the pipe unusable.

        Raises:
            LinkClosed: the pipe is over.
        """

    async def receive(self) -> bytes:
        """Give the next bytes; empty when the other side has ended. Cancellation loses nothing.

        Raises:
            LinkClosed: the pipe broke, and what had arrived before was given.
        """

    def end(self) -> None:
        """Send nothing more; the other side reads what was sent, then the end."""

    def close(self) -> None:
        """Free everything at once, in both directions; twice does nothing."""


class MemoryPipe:
    """One end of a pipe inside one process, with faults on demand; `memory_pipe_pair` makes two.

    Attributes:
        carried: everything that was sent from this end: what somebody on the way would see.
    """

    def __init__(self) -> None:
        self.carried = bytearray()
        self.other_end = self
        self._arrived = bytearray()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._is_ended_there = False
        self._is_ended_here = False
        self._is_stalled = False
        self._error: LinkClosed | None = None

    async def send(self, data: bytes) -> None:
        """See `Pipe.send`."""
        self._require_open()
        self.carried += data
        while self._is_stalled or len(self.other_end._arrived) > BUFFER_BYTES:  # noqa: SLF001
            self._taken.clear()
            await self._taken.wait()
            self._require_open()
        self.other_end.arrive(data)

    async def receive(self) -> bytes:
        """See `Pipe.receive`."""
        while not self._arrived:
            if self._error is not None:
                raise LinkClosed(str(self._error), code=self._error.code)
            if self._is_ended_there:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._arrived[:CHUNK_BYTES])
        del self._arrived[:CHUNK_BYTES]
        self.other_end.wake()
        return data

    def end(self) -> None:
        """See `Pipe.end`."""
        self._is_ended_here = True
        self.other_end.take_end()

    def close(self) -> None:
        """See `Pipe.close`."""
        self.fail(LinkClosed("The pipe was closed here.", code="local_closed"))
        self.other_end.fail(LinkClosed("The other side closed the pipe."))

    def stall(self) -> None:
        """Fault: nothing arrives at the other end any more, and nobody is told."""
        self._is_stalled = True

    def cut(self) -> None:
        """Fault: both ends fail at once and what was under way is lost."""
        for end in (self, self.other_end):
            end._arrived.clear()  # noqa: SLF001
            end.fail(LinkClosed("The pipe broke."))

    def arrive(self, data: bytes) -> None:
        """Take bytes from the other end."""
        self._arrived += data
        self.wake()

    def take_end(self) -> None:
        """The other end sends nothing more."""
        self._is_ended_there = True
        self.wake()

    def fail(self, error: LinkClosed) -> None:
        """This end is over for a reason from outside."""
        if self._error is None:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Let whoever waits at this end look again."""
        self._changed.set()
        self._taken.set()

    def _require_open(self) -> None:
        if self._error is not None:
            raise LinkClosed(str(self._error), code=self._error.code)
        if self._is_ended_here:
            raise LinkClosed("The end of the pipe was sent already.", code="local_closed")


def memory_pipe_pair() -> tuple[MemoryPipe, MemoryPipe]:
    """Return two connected ends."""
    first, second = MemoryPipe(), MemoryPipe()
    first.other_end, second.other_end = second, first
    return first, second
