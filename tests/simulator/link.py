"""One connection between two peers: reliable and ordered as long as it lives, and it may die at any frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from .timeline import Timeline

BUFFER_BYTES = 128 * 1024


class End(Protocol):
    """Who uses a link on one side."""

    def receive(self, frame: bytes) -> None: ...

    def lost(self) -> None: ...

    def writable(self) -> None: ...


@dataclass
class _Way:
    """One direction."""

    frames: deque[tuple[float, bytes]] = field(default_factory=deque)
    bytes_under_way: int = 0
    free_at: float = 0.0
    is_open: bool = True
    is_delivering: bool = False


class Link:
    """Carries frames between end 0 and end 1."""

    def __init__(self, timeline: Timeline, random: Random, latency: float, bytes_per_second: float) -> None:
        self._timeline = timeline
        self._latency = latency
        self._bytes_per_second = bytes_per_second
        self._ways = (_Way(), _Way())
        self._stalled_until = 0.0
        self._told = [False, False]
        self.ends: list[End | None] = [None, None]
        self.fingerprints = (random.randbytes(32), random.randbytes(32))
        self.is_cut = False
        self.last_fault = -1e9
        """When this link last did less than it should, in seconds."""

    def attach(self, end: int, user: End) -> None:
        self.ends[end] = user

    def has_room(self, end: int) -> bool:
        return self._ways[end].bytes_under_way < BUFFER_BYTES

    @property
    def is_empty(self) -> bool:
        return not any(way.frames for way in self._ways)

    @property
    def is_over(self) -> bool:
        """Whether nobody uses it any more."""
        return all(self._told)

    def send(self, end: int, frame: bytes) -> None:
        way = self._ways[end]
        way.free_at = max(way.free_at, self._timeline.now) + len(frame) / self._bytes_per_second
        way.frames.append((way.free_at + self._latency, frame))
        way.bytes_under_way += len(frame)
        self._schedule(end)

    def close(self, end: int) -> None:
        """One side is done: the other one still gets what is on its way, then learns of it."""
        if self._told[end]:
            return
        self._told[end] = True
        self._ways[end].is_open = False
        self._ways[1 - end].frames.clear()
        self._ways[1 - end].is_open = False
        self._schedule(end)

    def stall(self, seconds: float) -> None:
        self._stalled_until = max(self._stalled_until, self._timeline.now + seconds)
        self.last_fault = self._stalled_until

    def heal(self) -> None:
        self._stalled_until = min(self._stalled_until, self._timeline.now)
        if not self.is_cut:
            for end in (0, 1):
                self._schedule(end, again=True)

    def cut(self, notices: tuple[float | None, float | None]) -> None:
        """End it now: what is on its way is lost; each end learns of it after so many seconds, or never."""
        self.is_cut = True
        self.last_fault = float("inf")
        for end, seconds in enumerate(notices):
            self._ways[end].frames.clear()
            if seconds is not None:
                self._timeline.after(seconds, self._tell(end))

    def _tell(self, end: int) -> Callable[[], None]:
        def tell() -> None:
            user = self.ends[end]
            if not self._told[end] and user is not None:
                self._told[end] = True
                user.lost()

        return tell

    def _schedule(self, end: int, *, again: bool = False) -> None:
        way = self._ways[end]
        if (way.is_delivering and not again) or self.is_cut:
            return
        when = way.frames[0][0] if way.frames else self._timeline.now + self._latency
        if way.frames or not way.is_open:
            way.is_delivering = True
            self._timeline.at(max(when, self._stalled_until), lambda: self._deliver(end))

    def _deliver(self, end: int) -> None:
        way, user = self._ways[end], self.ends[1 - end]
        if self.is_cut or not way.is_delivering or user is None:
            return
        if self._timeline.now < self._stalled_until or (way.frames and way.frames[0][0] > self._timeline.now):
            way.is_delivering = False
            self._schedule(end)
            return
        if not way.frames:
            way.is_delivering = False
            if not way.is_open:
                self._tell(1 - end)()
            return
        _, frame = way.frames.popleft()
        was_full = not self.has_room(end)
        way.bytes_under_way -= len(frame)
        way.is_delivering = False
        self._schedule(end)
        if not self._told[1 - end]:
            user.receive(frame)
        sender = self.ends[end]
        if was_full and sender is not None and not self._told[end]:
            sender.writable()
