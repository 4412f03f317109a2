"""Byte credit: the receiver says how much may be under way, so that a slow merge slows the sender.

Only commits and sections need credit. It is spent when a segment is sent and comes back when the application
has taken care of what arrived.
"""

from __future__ import annotations

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.protocol import limits


class Credit:
    """The two windows of one side.

    Attributes:
        to_send: bytes that the other side takes now.
    """

    __slots__ = ("_collected", "_message", "_open", "to_send")

    def __init__(self) -> None:
        self.to_send = limits.CREDIT_WINDOW_BYTES
        self._open = limits.CREDIT_WINDOW_BYTES
        self._collected = 0
        self._message = 0

    def sent(self, size: int) -> None:
        """Book what was sent."""
        self.to_send -= size

    def granted(self, count: int) -> None:
        """Book what the other side granted.

        Raises:
            RemoteProtocolError: more than was sent.
        """
        self.to_send += count
        if self.to_send > limits.CREDIT_WINDOW_BYTES:
            raise RemoteProtocolError("The other side granted more than was sent.", phase="transfer")

    def arrived(self, size: int, total: int) -> int:
        """Book a segment of a message of `total` bytes, and give how much to grant for it at once.

        Raises:
            RemoteProtocolError: more arrived than was granted.
        """
        self._open -= size
        if self._open < 0:
            raise RemoteProtocolError(
                "The other side sent more than it was granted.", code="quota", phase="transfer"
            )
        if total > limits.LARGE_MESSAGE_BYTES:
            return size
        self._message += size
        return 0

    def of_message(self) -> int:
        """Give what the application must grant for the message that is complete now."""
        credit, self._message = self._message, 0
        return credit

    def collect(self, count: int) -> int:
        """Collect what may be granted, and give how much to grant now, often nothing.

        Raises:
            LocalProtocolError: more than has arrived.
        """
        if not 0 <= count <= limits.CREDIT_WINDOW_BYTES - self._open - self._collected:
            raise LocalProtocolError(f"{count} bytes cannot be granted: not so many have arrived.")
        self._collected += count
        if self._collected < limits.GRANT_STEP_BYTES:
            return 0
        granted, self._collected = self._collected, 0
        self._open += granted
        return granted
