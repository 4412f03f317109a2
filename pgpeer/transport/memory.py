"""A pair of links inside one process, with faults on demand; the reference for every other engine."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

from pgpeer.errors import LinkClosed
from pgpeer.transport.base import (
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    MAX_INBOX_BYTES,
    Candidate,
    LinkPath,
    check_frame,
)
from pgpeer.transport.inbox import Inbox


class MemoryLink:
    """One end of a link inside one process; `memory_pair` makes two.

    Args:
        name: names this end; its SHA-256 is the fingerprint.
        remote_name: names the other end.
        latency: seconds that every frame is under way.
    """

    def __init__(self, name: str, remote_name: str, *, latency: float = 0.0) -> None:
        self.local_fingerprint = hashlib.sha256(name.encode()).digest()
        self.remote_fingerprint = hashlib.sha256(remote_name.encode()).digest()
        self.path = LinkPath(
            "memory",
            "memory",
            Candidate("memory", name, 0, "memory"),
            Candidate("memory", remote_name, 0, "memory"),
        )
        self.bytes_sent = 0
        self.bytes_received = 0
        self._latency = latency
        self._inbox = Inbox(MAX_INBOX_BYTES)
        self._flight: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._buffered = 0
        self._room = asyncio.Event()
        self._room.set()
        self._stalled = False
        self._closed = False
        self.other_end = self

    @property
    def buffered(self) -> int:
        """Bytes under way to the other end."""
        return self._buffered

    @property
    def closed(self) -> bool:
        """Whether the link can carry nothing more."""
        return self._closed

    async def send(self, frame: bytes) -> None:
        """Take a frame; see `Link.send`."""
        check_frame(frame)
        if self._closed:
            raise LinkClosed("The link is closed.", code="local_closed")
        self.bytes_sent += len(frame)
        self._buffered += len(frame)
        self._launch(bytes(frame))
        if self._buffered > HIGH_WATER_BYTES:
            self._room.clear()
            await self._room.wait()
            if self._closed:
                raise LinkClosed("The link closed while frames waited to be sent.")

    async def receive(self) -> bytes:
        """Return the next frame; see `Link.receive`."""
        return await self._inbox.get()

    async def close(self) -> None:
        """Close both ends; what is under way still arrives. See `Link.close`."""
        if not self._closed:
            self._launch(None)
            self._shut(LinkClosed("The link was closed here.", code="local_closed"), discard=True)

    def stall(self) -> None:
        """Fault: from now on nothing arrives at the other end and nobody is told, as when a network dies."""
        self._stalled = True

    def cut(self) -> None:
        """Fault: both ends fail at once and what was under way is lost."""
        for end in (self, self.other_end):
            end.fail(LinkClosed("The link broke."))

    def _launch(self, frame: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._flight.append((loop.time() + self._latency, frame))
        if self._timer is None:
            self._timer = loop.call_at(self._flight[0][0], self._land)

    def _land(self) -> None:
        """Hand over everything that is due, then wait for what comes next."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        while self._flight and not self._stalled:
            due, frame = self._flight[0]
            if due > now:
                self._timer = loop.call_at(due, self._land)
                return
            self._flight.popleft()
            if frame is None:
                self.other_end.fail(LinkClosed("The other side closed the link."))
                return
            self._buffered -= len(frame)
            if self._buffered <= LOW_WATER_BYTES:
                self._room.set()
            self.other_end.arrive(frame)

    def arrive(self, frame: bytes) -> None:
        """Take a frame from the other end."""
        if self._closed:
            return
        if self._inbox.put(frame):
            self.bytes_received += len(frame)
        else:
            self._shut(LinkClosed("The other side sent more than it was allowed to.", code="too_large"))

    def fail(self, reason: LinkClosed) -> None:
        """This end is over for a reason from outside; what arrived can still be received."""
        self._flight.clear()
        self._shut(reason)

    def _shut(self, reason: LinkClosed, *, discard: bool = False) -> None:
        if not self._closed:
            self._closed = True
            self._inbox.close(reason, discard=discard)
            self._room.set()


def memory_pair(*, latency: float = 0.0) -> tuple[MemoryLink, MemoryLink]:
    """Return two connected links.

    Args:
        latency: seconds that every frame is under way, in each direction.
    """
    first, second = (
        MemoryLink("first", "second", latency=latency),
        MemoryLink("second", "first", latency=latency),
    )
    first.other_end, second.other_end = second, first
    return first, second
