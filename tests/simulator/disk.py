"""A peer's database: one transaction after the other, each of them takes time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .timeline import Timeline


class Disk:
    """Makes changes durable, late. A crash forgets what has not been committed, and who waited for what was."""

    def __init__(self, timeline: Timeline, random: Random, seconds: tuple[float, float]) -> None:
        self._timeline = timeline
        self._random = random
        self._seconds = seconds
        self._free_at = 0.0
        self._life = 0
        self.under_way = 0
        self.slow_until = 0.0

    def transact(self, change: Callable[[], None], then: Callable[[], None]) -> None:
        """Make a change durable, and say so a moment later."""
        timeline, life = self._timeline, self._life
        seconds = self._random.uniform(*self._seconds)
        if timeline.now < self.slow_until:
            seconds *= 50
        self._free_at = max(self._free_at, timeline.now) + seconds
        self.under_way += 1

        def commit() -> None:
            if life == self._life:
                change()
                timeline.after(self._random.uniform(0.0, seconds), tell)

        def tell() -> None:
            if life == self._life:
                self.under_way -= 1
                then()

        timeline.at(self._free_at, commit)

    def crash(self) -> None:
        self._life += 1
        self._free_at = 0.0
        self.under_way = 0
