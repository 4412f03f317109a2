"""Where the client's side of a conversation with a hub stands, and what the hub may say then."""

from __future__ import annotations

from enum import Enum
from typing import Final

from pgpeer.signaling.messages import (
    Changes,
    CircuitOffered,
    CircuitOpened,
    Credit,
    Delivery,
    Discovered,
    End,
    Hello,
    HubMessage,
    Mail,
    Pong,
    Posted,
    Presence,
    Refusal,
    Registered,
    Shut,
    TakeSignal,
    TurnOffer,
    Welcome,
)


class ClientState(Enum):
    """Where the conversation stands."""

    AWAITING_HELLO = "awaiting_hello"
    AWAITING_WELCOME = "awaiting_welcome"
    READY = "ready"
    CLOSED = "closed"


_READY_MESSAGES: Final = (
    Presence,
    Delivery,
    TakeSignal,
    Refusal,
    Pong,
    Registered,
    Discovered,
    Changes,
    Posted,
    Mail,
    TurnOffer,
    CircuitOpened,
    CircuitOffered,
    Credit,
    End,
    Shut,
)
TRANSITIONS: Final[dict[tuple[ClientState, type[HubMessage]], ClientState]] = {
    (ClientState.AWAITING_HELLO, Hello): ClientState.AWAITING_WELCOME,
    (ClientState.AWAITING_HELLO, Refusal): ClientState.AWAITING_HELLO,
    (ClientState.AWAITING_WELCOME, Welcome): ClientState.READY,
    (ClientState.AWAITING_WELCOME, Refusal): ClientState.AWAITING_WELCOME,
    **{(ClientState.READY, message): ClientState.READY for message in _READY_MESSAGES},
}
"""What a hub may say when; all else ends the conversation, and so does a refusal that names no request."""
