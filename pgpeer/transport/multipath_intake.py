"""The receiving half of a stream over several paths: order, repeats, grants, acknowledgements. No I/O."""

from __future__ import annotations

from typing import Final

from pgpeer.errors import RemoteProtocolError
from pgpeer.transport.base import MAX_FRAME_BYTES
from pgpeer.transport.multipath_frames import MESSAGE_COST_BYTES, PART_BYTES, WINDOW_BYTES, Flag, Part

ACKNOWLEDGE_BYTES: Final = 128 * 1024
"""So much is acknowledged at once."""

ACKNOWLEDGE_SECONDS: Final = 0.05
"""Less is acknowledged after this long, or by the next message the other way."""


class Intake:
    """Parts in, messages out, each once and in order."""

    __slots__ = (
        "_assembly",
        "_consumed_cost",
        "_early",
        "_expected",
        "_messages",
        "_seen_cost",
        "_told_arrived",
        "_told_limit",
        "_unread",
        "_unspoken",
        "acknowledge_at",
        "is_finished",
        "repeats",
    )

    def __init__(self) -> None:
        self._expected = 0
        self._early: dict[int, Part] = {}
        self._assembly: list[bytes] = []
        self._messages: list[tuple[bytes, bool]] = []
        self._seen_cost = 0
        self._consumed_cost = 0
        self._told_limit = WINDOW_BYTES
        self._told_arrived = 0
        self._unspoken = 0
        self.acknowledge_at: float | None = None
        """When an acknowledgement is due; None when there is nothing to say."""
        self.is_finished = False
        """Whether everything up to the other side's end is here."""
        self.repeats = 0

    def take(self, number: int, part: Part, now: float) -> bool:
        """Take a part; False when it was here before.

        Raises:
            RemoteProtocolError: it exceeds the grant, or comes after the end.
        """
        if number < self._expected or number in self._early:
            self.repeats += 1
            self.repeat_acknowledgement(now)
            return False
        if self.is_finished:
            raise RemoteProtocolError("A message came after the end.", phase="transfer")
        self._seen_cost += part.cost
        if self._seen_cost > self._told_limit or number - self._expected > WINDOW_BYTES // MESSAGE_COST_BYTES:
            raise RemoteProtocolError(
                "The other side sent more than it was allowed to.", code="too_large", phase="transfer"
            )
        self._early[number] = part
        while (next_part := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            self._append(next_part)
        self._unspoken += part.cost
        self._owe(now, is_urgent=self._unspoken >= ACKNOWLEDGE_BYTES)
        return True

    def messages(self) -> list[tuple[bytes, bool]]:
        """Give the complete messages, each with whether it is a signal."""
        complete, self._messages = self._messages, []
        return complete

    def consumed(self, size: int, now: float) -> None:
        """Make room for more: a message of this size was read."""
        parts = -(-size // PART_BYTES)
        self._consumed_cost += size + parts * MESSAGE_COST_BYTES
        if self._consumed_cost + WINDOW_BYTES - self._told_limit >= WINDOW_BYTES // 4:
            self._owe(now, is_urgent=True)

    def acknowledge(self, *, is_whole: bool = False) -> int:
        """Give the number below which everything is here; it is about to be told.

        Args:
            is_whole: whether the grant is told along with it.
        """
        self._unspoken = 0
        owes_grant = self._consumed_cost + WINDOW_BYTES - self._told_limit >= WINDOW_BYTES // 4
        if is_whole or not owes_grant:
            self.acknowledge_at = None
        return self._expected

    def grant(self) -> int:
        """Give up to what cost the other side may send; it is about to be told."""
        self._told_limit = self._consumed_cost + WINDOW_BYTES
        return self._told_limit

    def repeat_acknowledgement(self, now: float) -> None:
        """What was told may be lost: tell it again soon."""
        self._owe(now, is_urgent=True)

    def _owe(self, now: float, *, is_urgent: bool) -> None:
        due = now if is_urgent else now + ACKNOWLEDGE_SECONDS
        self.acknowledge_at = due if self.acknowledge_at is None else min(self.acknowledge_at, due)

    def _append(self, part: Part) -> None:
        if self.is_finished:
            raise RemoteProtocolError("A message came after the end.", phase="transfer")
        if part.flags & Flag.FIN:
            self.is_finished = True
            return
        self._assembly.append(part.data)
        if sum(map(len, self._assembly)) > MAX_FRAME_BYTES:
            raise RemoteProtocolError(
                "A message is larger than it may be.", code="too_large", phase="transfer"
            )
        if not part.flags & Flag.MORE:
            self._messages.append((b"".join(self._assembly), bool(part.flags & Flag.SIGNAL)))
            self._assembly.clear()
