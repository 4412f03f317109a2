"""Virtual time: what happens when, in one order, with a hash of everything that was noted."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable

from .violation import Violation

LONGEST_MOMENT = 20_000
"""More happenings than this at one moment are a loop that makes no progress."""


class Alarm:
    """Something that is going to happen, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Timeline:
    """The only clock of a simulation."""

    def __init__(self) -> None:
        self.now = 0.0
        self._happened = 0
        self.recent: deque[str] = deque(maxlen=60)
        self._queue: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self._hash = hashlib.sha256()

    def at(self, when: float, action: Callable[[], None]) -> Alarm:
        alarm = Alarm(action)
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, alarm))
        return alarm

    def after(self, seconds: float, action: Callable[[], None]) -> Alarm:
        return self.at(self.now + seconds, action)

    def note(self, *words: object) -> None:
        """Make something part of the trace."""
        line = f"{self.now:.6f} " + " ".join(map(str, words))
        self.recent.append(line)
        self._hash.update(line.encode() + b"\n")

    def run(self, until: float, is_over: Callable[[], bool]) -> bool:
        """Let things happen until `is_over`, and tell whether that was before `until`."""
        while not is_over():
            if not self._queue or self._queue[0][0] > until:
                return False
            when, _, alarm = heapq.heappop(self._queue)
            if when > self.now:
                self.now, self._happened = when, 0
            if alarm.action is not None:
                self._happened += 1
                if self._happened > LONGEST_MOMENT:
                    raise Violation("progress", f"{LONGEST_MOMENT} things happened and no time passed")
                alarm.action()
        return True

    @property
    def trace(self) -> str:
        return self._hash.hexdigest()
