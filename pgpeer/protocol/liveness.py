"""Time in a session: when a handshake is slow or has failed, when to ping, when the other side is gone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pgpeer.protocol import limits


class Due(Enum):
    """What the passing of time asks for."""

    PING = "ping"
    """The other side is to be asked whether it is there."""
    SLOW = "slow"
    """The owner is to be told that it takes long."""
    FAILED = "failed"
    """The session is over."""


@dataclass(slots=True)
class Liveness:
    """The clock of one session; every method takes the time in seconds of one monotonic clock.

    The other side is gone when a ping stayed unanswered. So a process that was stopped for a while asks first
    before it gives a healthy peer up.

    Attributes:
        began: when the session began.
        heard: when the last frame came.
        rtt: seconds of the last answered ping's round trip; None before the first.
        slow_told: whether the owner knows that the other side is slow.
    """

    began: float
    heard: float
    rtt: float | None = None
    slow_told: bool = False
    _pinged: float = 0.0
    _unanswered: bool = False
    _number: int = 0

    def hear(self, now: float) -> None:
        """Book a frame from the other side."""
        self.heard = now
        if self._unanswered:
            self._unanswered = self.slow_told = False

    def deadline(self, *, is_established: bool) -> float:
        """Give when something is due next."""
        if not is_established:
            seconds = limits.HANDSHAKE_FAIL_SECONDS if self.slow_told else limits.HANDSHAKE_SLOW_SECONDS
            return self.began + seconds
        if not self._unanswered:
            return self.heard + limits.PING_SECONDS
        return (
            self._fails_at(is_established=True)
            if self.slow_told
            else self._pinged + limits.SILENCE_SLOW_SECONDS
        )

    def due(self, now: float, *, is_established: bool) -> Due:
        """Give what is due, once the deadline has come; that the other side is slow is due once."""
        if is_established and not self._unanswered:
            return Due.PING
        # the same sum as in the deadline: `now - began` may round to less, and nothing would change
        if now >= self._fails_at(is_established=is_established):
            return Due.FAILED
        self.slow_told = True
        return Due.SLOW

    def _fails_at(self, *, is_established: bool) -> float:
        if is_established:
            return self._pinged + limits.DEAD_SECONDS - limits.PING_SECONDS
        return self.began + limits.HANDSHAKE_FAIL_SECONDS

    def ping(self, now: float) -> int:
        """Remember that a ping is sent and give its number."""
        self._number += 1
        self._pinged = now
        self._unanswered, self.slow_told = True, False
        return self._number

    def pong(self, number: int, now: float) -> bool:
        """Take the answer to a ping; False when no such ping was sent."""
        if not 0 < number <= self._number:
            return False
        if number == self._number:
            self.rtt = now - self._pinged
        return True
