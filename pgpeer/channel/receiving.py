"""The receiving half of a connection: messages are handed on once, in order, and acknowledged when stored."""

from __future__ import annotations

from collections import deque

from pgpeer.channel import limits
from pgpeer.channel.sending import cost, next_chain
from pgpeer.errors import LocalProtocolError, RemoteProtocolError


class Receiving:
    """Messages from the other side to the owner.

    Attributes:
        stored: the number of the last message that is durable here.
        chain: the hash over all messages up to it.
    """

    __slots__ = (
        "_arrived",
        "_arrived_chain",
        "_arrived_cost",
        "_edge",
        "_room",
        "_stored_cost",
        "_waiting",
        "chain",
        "stored",
    )

    def __init__(self, stored: int, chain: bytes, room: int) -> None:
        self.stored = stored
        self.chain = chain
        self._arrived = stored
        self._arrived_chain = chain
        self._arrived_cost = 0
        self._stored_cost = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._edge = 0
        self._room = room

    @property
    def is_full(self) -> bool:
        """Whether the other side may be unable to send for want of room here."""
        return self._room < limits.WINDOW_BYTES

    @property
    def is_settled(self) -> bool:
        """Whether everything that arrived is stored."""
        return not self._waiting

    def window(self) -> int:
        """Promise the other side how much it may send after what is stored, and remember the promise."""
        window = max(0, min(limits.WINDOW_BYTES, self._room))
        self._edge = max(self._edge, self._stored_cost + window)
        return window

    def take(self, number: int, data: str) -> bytes | None:
        """Take a message; gives the hash up to it, None when it came before.

        Raises:
            RemoteProtocolError: one before it is missing, or it is more than was promised room.
        """
        if number <= self._arrived:
            return None
        if number != self._arrived + 1:
            raise RemoteProtocolError("A message is missing before the one that came.")
        size = cost(data)
        if self._arrived_cost + size > self._edge:
            raise RemoteProtocolError("The other side sent more than there is room for.", code="quota")
        self._arrived = number
        self._arrived_cost += size
        self._arrived_chain = next_chain(self._arrived_chain, data)
        self._waiting.append((size, self._arrived_chain))
        return self._arrived_chain

    def store(self, number: int, room: int) -> None:
        """Everything up to `number` is durable; the inbox takes `room` more bytes.

        Raises:
            LocalProtocolError: it has not arrived.
        """
        if not self.stored <= number <= self._arrived:
            raise LocalProtocolError(f"Message {number} cannot be stored: it has not arrived.")
        while self.stored < number:
            size, self.chain = self._waiting.popleft()
            self._stored_cost += size
            self.stored += 1
        self._room = room

    def widen(self, room: int) -> bool:
        """The inbox takes `room` more bytes; tells whether that is news for the other side."""
        self._room = room
        return self._stored_cost + min(limits.WINDOW_BYTES, room) > self._edge
