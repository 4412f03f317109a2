"""What two peers say to each other about application connections, as values and as canonical CBOR.

Each message is an array whose first item is its type and whose second names the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

from pgpeer.channel import limits
from pgpeer.commit import dag_cbor
from pgpeer.commit.dag_cbor import array, byte_string, text, unsigned
from pgpeer.errors import CommitError, LocalProtocolError, RemoteProtocolError

CHAIN_BYTES: Final = 32


class MessageType(IntEnum):
    """The first item of every message; numbers are never used again."""

    OPEN = 1
    OPENED = 2
    DATA = 3
    ACK = 4
    RESUME = 5
    CLOSE = 6
    CLOSED = 7


@dataclass(frozen=True, slots=True)
class Open:
    """Asks for a connection; `window` is what the asking side takes of messages at first."""

    connection_id: UUID
    confirm: bool
    window: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is accepted; `window` is what the accepting side takes of messages at first."""

    connection_id: UUID
    window: int


@dataclass(frozen=True, slots=True)
class Data:
    """One message; numbers count from 1 on each connection and direction."""

    connection_id: UUID
    number: int
    data: str


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to `number` is stored durably, and `window` more is taken after it."""

    connection_id: UUID
    number: int
    window: int


@dataclass(frozen=True, slots=True)
class Resume:
    """The first word about an open connection on a new link.

    Attributes:
        number: the last message stored durably; 0 for none.
        chain: the hash over all messages up to it (32 bytes).
        window: what is taken after it.
    """

    connection_id: UUID
    number: int
    chain: bytes
    window: int


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is over: somebody wanted it so (`requested`), or an error with a code ended it."""

    connection_id: UUID
    requested: bool
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Answers a close that was requested, also on a later link, where its sender asks or resumes again."""

    connection_id: UUID


Message = Open | Opened | Data | Ack | Resume | Close | Closed

_ITEMS: Final = {
    MessageType.OPEN: 4,
    MessageType.OPENED: 3,
    MessageType.DATA: 4,
    MessageType.ACK: 4,
    MessageType.RESUME: 5,
    MessageType.CLOSE: 5,
    MessageType.CLOSED: 2,
}


def encode(message: Message) -> bytes:
    """Give the bytes of a message.

    Raises:
        LocalProtocolError: its text is larger than the other side would take.
    """
    kind, parts = _parts(message)
    return array([unsigned(kind), byte_string(message.connection_id.bytes), *parts])


def decode(data: bytes) -> Message:
    """Read one message.

    Raises:
        RemoteProtocolError: it is anything but one well-formed message within its limits.
    """
    reader = dag_cbor.Reader(data)
    try:
        count = reader.length(dag_cbor.ARRAY, 8)
        number = reader.length(dag_cbor.UNSIGNED, 255)
        if number not in MessageType.__members__.values():
            raise RemoteProtocolError(f"A channel message has the unknown type {number}.")
        kind = MessageType(number)
        if count != _ITEMS[kind]:
            raise RemoteProtocolError(f"A channel message {kind.name} has {count} items.")
        message = _read(kind, UUID(bytes=reader.byte_string(16)), reader)
        reader.end()
    except CommitError as error:
        raise RemoteProtocolError(f"A channel message cannot be read: {error}") from error
    return message


def _parts(message: Message) -> tuple[MessageType, list[bytes]]:
    match message:
        case Open(_, confirm, window):
            return MessageType.OPEN, [unsigned(confirm), unsigned(window)]
        case Opened(_, window):
            return MessageType.OPENED, [unsigned(window)]
        case Data(_, number, data):
            if len(data.encode("utf-8")) > limits.MAX_DATA_BYTES:
                raise LocalProtocolError("The text of a message is too large.", code="too_large")
            return MessageType.DATA, [unsigned(number), text(data)]
        case Ack(_, number, window):
            return MessageType.ACK, [unsigned(number), unsigned(window)]
        case Resume(_, number, chain, window):
            return MessageType.RESUME, [unsigned(number), byte_string(chain), unsigned(window)]
        case Close(_, requested, code, detail):
            clipped = detail.encode("utf-8", "replace")[: limits.MAX_DETAIL_BYTES].decode("utf-8", "ignore")
            return MessageType.CLOSE, [unsigned(requested), text(code), text(clipped)]
        case Closed():
            return MessageType.CLOSED, []


def _read(kind: MessageType, connection_id: UUID, reader: dag_cbor.Reader) -> Message:
    match kind:
        case MessageType.OPEN:
            return Open(connection_id, reader.length(dag_cbor.UNSIGNED, 1) == 1, _window(reader))
        case MessageType.OPENED:
            return Opened(connection_id, _window(reader))
        case MessageType.DATA:
            number, data = reader.unsigned(), reader.text(limits.MAX_DATA_BYTES)
            if "\0" in data:
                raise RemoteProtocolError("The text of a message holds the character NUL.")
            return Data(connection_id, number, data)
        case MessageType.ACK:
            return Ack(connection_id, reader.unsigned(), _window(reader))
        case MessageType.RESUME:
            return Resume(connection_id, reader.unsigned(), reader.byte_string(CHAIN_BYTES), _window(reader))
        case MessageType.CLOSE:
            return Close(
                connection_id,
                reader.length(dag_cbor.UNSIGNED, 1) == 1,
                reader.text(limits.MAX_CODE_BYTES),
                _printable(reader.text(limits.MAX_DETAIL_BYTES)),
            )
        case MessageType.CLOSED:
            return Closed(connection_id)


def _window(reader: dag_cbor.Reader) -> int:
    return reader.length(dag_cbor.UNSIGNED, limits.WINDOW_BYTES)


def _printable(detail: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in detail)
