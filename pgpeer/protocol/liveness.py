"""Time in a session: when a handshake is slow or has failed, when to ping, when the other side is gone."""

from __future__ import annotations

from dataclasses import dataclass

from pgpeer.protocol import limits


@dataclass(slots=True)
class Liveness:
    """The clock of one session; every method takes the time in seconds of one monotonic clock.

    The other side is gone when a ping stayed unanswered. So a process that was stopped for a while asks first
    before it gives a healthy peer up.

    Attributes:
        began: when the session began.
        heard: when the last frame came.
        rtt: seconds of the last answered ping's round trip; None before the first.
        slow_told: whether the owner knows that the handshake is slow.
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
        self._unanswered = False

    def handshake_deadline(self) -> float:
        """Give when `tick` must be called next during the handshake."""
        seconds = limits.HANDSHAKE_FAIL_SECONDS if self.slow_told else limits.HANDSHAKE_SLOW_SECONDS
        return self.began + seconds

    def handshake_failed(self, now: float) -> bool:
        """Whether the handshake has taken too long."""
        # the same sum as in the deadline: `now - began` may round to less, and tick would change nothing
        return now >= self.began + limits.HANDSHAKE_FAIL_SECONDS

    def established_deadline(self) -> float:
        """Give when `tick` must be called next after the handshake."""
        if self._unanswered:
            return self._pinged + limits.DEAD_SECONDS - limits.PING_SECONDS
        return self.heard + limits.PING_SECONDS

    def is_dead(self, now: float) -> bool:
        """Whether a ping stayed unanswered for too long."""
        return self._unanswered and now >= self.established_deadline()

    def ping(self, now: float) -> int:
        """Remember that a ping is sent and give its number."""
        self._number += 1
        self._pinged = now
        self._unanswered = True
        return self._number

    def pong(self, number: int, now: float) -> bool:
        """Take the answer to a ping; False when no such ping was sent."""
        if not 0 < number <= self._number:
            return False
        if number == self._number:
            self.rtt = now - self._pinged
        return True
