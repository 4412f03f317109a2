"""Messages that are handed to the owner as they are: each becomes one event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pgpeer.protocol import events
from pgpeer.protocol.messages import MessageType
from pgpeer.protocol.printable import printable

TELLINGS: Final[Mapping[MessageType, Callable[[Any], events.Event]]] = {
    MessageType.JOIN: lambda m: events.JoinRequested(m.invite_id, m.secret),
    MessageType.JOIN_ACCEPTED: lambda m: events.JoinAccepted(m.invite_id, m.payload),
    MessageType.JOIN_REFUSED: lambda m: events.JoinRefused(m.invite_id, m.code, printable(m.detail)),
    MessageType.VECTOR: lambda m: events.VectorReceived(m.bundle_id, m.entries, m.partial),
    MessageType.ACKNOWLEDGEMENT: lambda m: events.AcknowledgementReceived(
        m.bundle_id, m.entries, m.signature
    ),
    MessageType.CHANNEL: lambda m: events.ChannelReceived(m.data),
}
"""By type, what makes the event of a message; all other messages concern the session itself."""
