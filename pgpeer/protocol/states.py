"""The states of a session and what the other side may say in each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from pgpeer.protocol.messages import MessageType


class State(Enum):
    """Where a session stands."""

    AWAITING_HELLO = "awaiting_hello"
    AWAITING_AUTHENTICATION = "awaiting_authentication"
    ESTABLISHED = "established"
    CLOSED = "closed"


_ALWAYS: Final = frozenset({MessageType.ERROR, MessageType.CLOSE})
_HANDSHAKE: Final = frozenset({MessageType.HELLO, MessageType.AUTHENTICATION})

ACCEPTED: Final[Mapping[State, frozenset[MessageType]]] = {
    State.AWAITING_HELLO: _ALWAYS | {MessageType.HELLO},
    State.AWAITING_AUTHENTICATION: _ALWAYS | {MessageType.AUTHENTICATION},
    State.ESTABLISHED: frozenset(MessageType) - _HANDSHAKE,
    State.CLOSED: frozenset(),
}
"""What the other side may say in each state; anything else ends the session. In CLOSED all is ignored."""

PHASE: Final[Mapping[State, str]] = {
    State.AWAITING_HELLO: "hello",
    State.AWAITING_AUTHENTICATION: "identity",
}
"""Where an error before the end of the handshake belongs."""
