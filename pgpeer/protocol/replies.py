"""What waits to be answered or told again and again: of each thing only the newest word is kept.

A side that asks and does not read, or a link that stalls, would otherwise fill the memory with answers that
nobody needs any more.
"""

from __future__ import annotations

from uuid import UUID

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits
from pgpeer.protocol.messages import Message


class Replies:
    """Encoded pongs, vector requests and acknowledgements that have not been put into a frame yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[type[Message], UUID | None], bytes] = {}

    def put(self, kind: type[Message], about: UUID | None, message: bytes) -> None:
        """Keep a message in the place of an older one of its kind about the same bundle.

        Raises:
            RemoteProtocolError: too many different ones wait (code `rate_limited`).
        """
        if len(self._waiting) >= limits.MAX_WAITING_REPLIES and (kind, about) not in self._waiting:
            raise RemoteProtocolError(
                "The other side asks for more than it reads.", code="rate_limited", phase="transfer"
            )
        self._waiting[kind, about] = message

    def take(self) -> list[bytes]:
        """Give what waits, oldest first, and forget it."""
        taken, self._waiting = list(self._waiting.values()), {}
        return taken
