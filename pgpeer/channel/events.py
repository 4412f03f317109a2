"""What the connections with one peer tell their owner, in the order in which it happened.

The owner stores them in this order; a restart goes on from what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Reason = Literal["peer-requested-closed", "connection-error"]


@dataclass(frozen=True, slots=True)
class ConnectionRequested:
    """The other side asks for a connection; answer with `accept` or `refuse`."""

    connection_id: UUID
    confirm: bool


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """The other side has accepted a connection that was asked for here."""

    connection_id: UUID


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message, once and in order; call `stored` when it is durable.

    Attributes:
        chain: hash over all messages up to this one, to be stored with it.
    """

    connection_id: UUID
    number: int
    data: str
    chain: bytes


@dataclass(frozen=True, slots=True)
class MessagesAcknowledged:
    """The other side has stored everything up to a message.

    Attributes:
        chain: hash over all messages up to it, to be stored.
    """

    connection_id: UUID
    number: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class ConnectionSlow:
    """A connection makes no progress but has not failed; `phase` as in `pgpeer.errors.PHASES`."""

    connection_id: UUID
    phase: str
    detail: str


@dataclass(frozen=True, slots=True)
class ConnectionRecovered:
    """A connection that was slow goes on."""

    connection_id: UUID
    phase: str


@dataclass(frozen=True, slots=True)
class ConnectionClosing:
    """A connection that is being ended here; what was sent before is still delivered."""

    connection_id: UUID


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The last event of a connection.

    Attributes:
        reason: the only two there are.
        code: a member of `pgpeer.errors.CODES`.
        phase: where it ended, or empty.
        retryable: whether a new connection may work with nothing changed here.
        detail: one sentence.
    """

    connection_id: UUID
    reason: Reason
    code: str
    phase: str
    retryable: bool
    detail: str


Event = (
    ConnectionRequested
    | ConnectionOpened
    | MessageReceived
    | MessagesAcknowledged
    | ConnectionSlow
    | ConnectionRecovered
    | ConnectionClosing
    | ConnectionClosed
)
