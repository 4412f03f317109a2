"""What the other side's messages outside the credit cost, and how long to read nothing after too many.

Whoever sends vectors or errors faster than they may be handled is read more slowly, and is not cut off: an
honest peer with a lot to say loses nothing but time.
"""

from __future__ import annotations

from pgpeer.protocol import limits
from pgpeer.protocol.messages import DATA_TYPES, MessageType


class Workload:
    """A bucket of work that fills up with time; seconds of one monotonic clock."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(limits.WORK_BURST_BYTES)
        self._at = now

    def charge(self, kind: MessageType, size: int, now: float) -> None:
        """Book a message of so many bytes."""
        if kind in DATA_TYPES:
            return  # within the credit
        self._fill(now)
        is_program = kind is MessageType.CHANNEL  # what it brings has windows of its own
        self._left -= limits.CHANNEL_COST_BYTES if is_program else max(size, limits.MESSAGE_COST_BYTES)

    def pause(self, now: float) -> float:
        """Give how many seconds nothing should be read."""
        self._fill(now)
        return max(0.0, -self._left / limits.WORK_BYTES_PER_SECOND)

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._at) * limits.WORK_BYTES_PER_SECOND
        self._left = min(float(limits.WORK_BURST_BYTES), self._left + gained)
        self._at = max(self._at, now)
