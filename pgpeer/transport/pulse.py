"""Whether one path still carries anything: pings, round trips, and when to doubt it or give it up. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PING_SECONDS: Final = 5.0
"""After so long without a frame from the other side it is asked for one."""

SUSPECT_SECONDS: Final = 3.0
"""A ping unanswered for so long: another path is used, if there is one."""

DEAD_SECONDS: Final = 15.0
"""After so long without a frame from the other side the path is given up."""

MEASURE_SECONDS: Final = 30.0
"""The round trip is measured at least this often, also on a busy path."""

OVERSLEPT_SECONDS: Final = 2.0
"""Who looks so much too late was not running, and asks once more before it gives a path up."""


@dataclass(slots=True)
class Pulse:
    """The clock of one path; every method takes seconds of one monotonic clock.

    A path is dead when a ping stayed unanswered, never because of a gap in this side's own attention: a
    process that was stopped for a while, or a machine that slept, asks first.

    Attributes:
        heard: when the last frame came.
        rtt: seconds of the last answered ping; None before the first, and then the path is not proven.
    """

    heard: float
    rtt: float | None = None
    _pinged: float = 0.0
    _number: int = 0
    _awaiting: bool = False
    _silent: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether a ping went there and back."""
        return self.rtt is not None

    def hear(self, now: float) -> None:
        """Book any frame from the other side."""
        self.heard = now
        self._silent = False

    def ping(self, now: float) -> int:
        """Remember that a ping is sent and give its number."""
        self._number += 1
        self._pinged = now
        self._awaiting = True
        self._silent = True
        return self._number

    def pong(self, number: int, now: float) -> bool:
        """Take the answer to a ping; False when no such ping was sent."""
        if not 0 < number <= self._number:
            return False
        if number == self._number and self._awaiting:
            self._awaiting = False
            self.rtt = now - self._pinged
        return True

    def is_suspect(self, now: float) -> bool:
        """Whether nothing came since a ping that should have been answered by now."""
        return self._silent and now >= self._pinged + SUSPECT_SECONDS

    def is_dead(self, now: float) -> bool:
        """Whether nothing came since a ping for so long that the path is given up."""
        due = self._pinged + (DEAD_SECONDS - PING_SECONDS)
        return self._silent and due <= now < due + OVERSLEPT_SECONDS

    def wants_ping(self, now: float) -> bool:
        """Whether the other side must be asked for a sign of life, or the round trip measured again."""
        if self._silent:
            return now >= self._pinged + (DEAD_SECONDS - PING_SECONDS) + OVERSLEPT_SECONDS
        return now >= self.deadline(now)

    def deadline(self, now: float) -> float:
        """Give when something becomes due: a ping, doubt, or death."""
        if not self._silent:
            return min(self.heard + PING_SECONDS, self._pinged + MEASURE_SECONDS)
        if not self.is_suspect(now):
            return self._pinged + SUSPECT_SECONDS
        return self._pinged + (DEAD_SECONDS - PING_SECONDS)
