"""The sending half of a connection: numbered messages are kept until they are acknowledged."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from pgpeer.channel import limits
from pgpeer.errors import LocalProtocolError, RemoteProtocolError


def first_chain(connection_id: UUID) -> bytes:
    """Give the hash over no messages."""
    return hashlib.sha256(b"pgpeer/v1/channel" + connection_id.bytes).digest()


def next_chain(chain: bytes, data: str) -> bytes:
    """Give the hash over one more message."""
    return hashlib.sha256(chain + hashlib.sha256(data.encode("utf-8")).digest()).digest()


def cost(data: str) -> int:
    """Give what a message counts against the window."""
    return len(data.encode("utf-8")) + limits.MESSAGE_COST_BYTES


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    data: str
    cost: int


class Sending:
    """Messages from the owner to the other side.

    A resumption tells how much the other side has, and a hash over it: what is confirmed so is certain to be
    the same messages, also after one side was restored from a backup.

    Attributes:
        acknowledged: the number of the last message that the other side has stored.
        chain: the hash over all messages up to it.
    """

    __slots__ = ("_claim", "_kept", "_kept_cost", "_sent", "_sent_cost", "_window", "acknowledged", "chain")

    def __init__(self, acknowledged: int, chain: bytes) -> None:
        self.acknowledged = acknowledged
        self.chain = chain
        self._kept: deque[_Kept] = deque()
        self._kept_cost = 0
        self._sent = 0
        self._sent_cost = 0
        self._window = 0
        self._claim: tuple[int, bytes, int] | None = None

    @property
    def next_number(self) -> int:
        """The number of the message that `keep` takes next."""
        return self.acknowledged + len(self._kept) + 1

    @property
    def has_room(self) -> bool:
        """Whether `keep` takes a message now."""
        return self._kept_cost < limits.WINDOW_BYTES

    @property
    def is_resuming(self) -> bool:
        """Whether what the other side says to have is not confirmed yet."""
        return self._claim is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent and is not acknowledged."""
        return self._sent > 0

    @property
    def is_blocked(self) -> bool:
        """Whether a message waits for room on the other side, and nothing is under way."""
        return self._sent == 0 and bool(self._kept) and self._kept[0].cost > self._window

    def keep(self, number: int, data: str) -> None:
        """Take the next message.

        Raises:
            LocalProtocolError: it is not the next one, or too large.
        """
        if number != self.next_number:
            raise LocalProtocolError(f"Message {number} was given where {self.next_number} is next.")
        if len(data.encode("utf-8")) > limits.MAX_DATA_BYTES:
            raise LocalProtocolError("The text of a message is too large.", code="too_large")
        self._kept.append(_Kept(number, data, cost(data)))
        self._kept_cost += self._kept[-1].cost

    def next_message(self) -> tuple[int, str] | None:
        """Give the next message to send; None when the window is closed or nothing waits."""
        if self._claim is not None or self._sent >= len(self._kept):
            return None
        message = self._kept[self._sent]
        if self._sent_cost + message.cost > self._window:
            return None
        self._sent += 1
        self._sent_cost += message.cost
        return message.number, message.data

    def link_lost(self) -> None:
        """What was sent may be lost; nothing is sent again before a resumption."""
        self._sent = self._sent_cost = self._window = 0
        self._claim = None

    def opened(self, window: int) -> None:
        """The other side takes so much at first."""
        self._window = window

    def acknowledge(self, number: int, window: int) -> bool:
        """The other side has stored messages up to `number`; tells whether some are new.

        Raises:
            RemoteProtocolError: it acknowledges what was not sent, or takes back an acknowledgement.
        """
        if self._claim is not None and number == self._claim[0]:
            self._claim = (number, self._claim[1], window)
            return False
        if not self.acknowledged <= number <= self.acknowledged + self._sent:
            raise RemoteProtocolError("The other side acknowledges messages that were not sent.")
        progress = number > self.acknowledged
        while self.acknowledged < number:
            message = self._drop_first()
            self._sent -= 1
            self._sent_cost -= message.cost
        self._window = window
        return progress

    def resume(self, number: int, chain: bytes, window: int) -> None:
        """The other side says on a new link what it has stored; `confirm` checks it."""
        self._sent = self._sent_cost = 0
        self._claim = (number, chain, window)

    def confirm(self) -> bool:
        """Check what the other side says to have, as far as messages are kept; tells whether some are new.

        While `is_resuming` is still true after this, more messages must be kept before it can be checked.

        Raises:
            RemoteProtocolError: it has other messages than those sent here, or fewer than it acknowledged.
        """
        if self._claim is None:
            return False
        number, chain, window = self._claim
        progress = False
        while self.acknowledged < number and self._kept:
            self._drop_first()
            progress = True
        if self.acknowledged < number:
            return progress
        if self.acknowledged > number or chain != self.chain:
            raise RemoteProtocolError(
                "The two sides remember different messages: one was restored from a backup.", code="replay"
            )
        self._claim = None
        self._window = window
        return progress

    def _drop_first(self) -> _Kept:
        message = self._kept.popleft()
        self._kept_cost -= message.cost
        self.acknowledged = message.number
        self.chain = next_chain(self.chain, message.data)
        return message
