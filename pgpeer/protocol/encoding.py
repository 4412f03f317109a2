"""Messages as canonical CBOR: an array whose first item is the type.

The reader knows what must follow and how long it may be, so that nothing is allocated on the word of the
other side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from uuid import UUID

from pgpeer.commit import dag_cbor
from pgpeer.commit.dag_cbor import array, byte_string, text, unsigned
from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import CommitError, LocalProtocolError, RemoteProtocolError
from pgpeer.protocol import limits, messages
from pgpeer.protocol.messages import Message, MessageType, Payload
from pgpeer.protocol.payload import read_payload

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def encode(message: Message) -> bytes:
    """Give the bytes of a message.

    Raises:
        LocalProtocolError: a part is longer than its limit, so that the other side would refuse it.
    """
    kind, parts = _parts(message)
    encoded = array([unsigned(kind), *parts])
    limit = limits.MAX_DATA_MESSAGE_BYTES if kind in messages.DATA_TYPES else limits.MAX_CONTROL_MESSAGE_BYTES
    if len(encoded) > limit:
        raise LocalProtocolError(
            f"A {kind.name} message of {len(encoded)} bytes is too large, {limit} are allowed.",
            code="too_large",
        )
    return encoded


def decode(data: bytes) -> tuple[MessageType, Message]:
    """Read one message.

    Raises:
        RemoteProtocolError: it is anything but one well-formed message within its limits.
    """
    reader = _Reader(data)
    try:
        count = reader.length(dag_cbor.ARRAY, 16)
        number = reader.unsigned()
        try:
            kind = MessageType(number)
        except ValueError:
            raise RemoteProtocolError(f"A message has the unknown type {number}.") from None
        parts, read = _READERS[kind]
        if count != parts + 1:
            raise RemoteProtocolError(f"A {kind.name} message has {count} items, not {parts + 1}.")
        message = read(reader)
        reader.end()
    except CommitError as error:
        raise RemoteProtocolError(f"A message cannot be read: {error}") from error
    return kind, message


class _Reader(dag_cbor.Reader):
    """Reads the items of messages; every method raises CommitError when something else stands there."""

    def bytes_up_to(self, limit: int) -> bytes:
        return self._take(self.length(dag_cbor.BYTES, limit))

    def uuid(self) -> UUID:
        return UUID(bytes=self.byte_string(16))

    def flag(self) -> bool:
        return self.length(dag_cbor.UNSIGNED, 1) == 1

    def entries(self) -> tuple[VectorEntry, ...]:
        return tuple(self._entry() for _ in range(self.length(dag_cbor.ARRAY, limits.MAX_VECTOR_ENTRIES)))

    def _entry(self) -> VectorEntry:
        self.items(4)
        return VectorEntry(
            self.byte_string(_KEY_BYTES), self.unsigned(), self.unsigned(), self.byte_string(_KEY_BYTES)
        )

    def items(self, count: int) -> None:
        if self.length(dag_cbor.ARRAY, count) != count:
            raise CommitError(f"An array does not have {count} items.", code="bad_message")

    def partial(self) -> dict[bytes, tuple[int, ...]]:
        held: dict[bytes, tuple[int, ...]] = {}
        for _ in range(self.length(dag_cbor.ARRAY, limits.MAX_PARTIAL_COMMITS)):
            self.items(2)
            digest = self.byte_string(_KEY_BYTES)
            count = self.length(dag_cbor.ARRAY, limits.MAX_SECTIONS)
            held[digest] = tuple(self.section_no() for _ in range(count))
        return held

    def section_no(self) -> int:
        number = self.length(dag_cbor.UNSIGNED, limits.MAX_SECTIONS)
        if number == 0:
            raise CommitError("Sections count from 1.", code="bad_message")
        return number

    def payload(self) -> Payload:
        return read_payload(self.text(limits.MAX_PAYLOAD_BYTES))

    def signature(self) -> bytes:
        return self.byte_string(_SIGNATURE_BYTES)

    def optional_signature(self) -> bytes:
        signature = self.bytes_up_to(_SIGNATURE_BYTES)
        if len(signature) not in (0, _SIGNATURE_BYTES):
            raise CommitError("A signature is not 64 bytes long.", code="bad_message")
        return signature


_READERS: Final[dict[MessageType, tuple[int, Callable[[_Reader], Message]]]] = {
    MessageType.HELLO: (
        4,
        lambda r: messages.Hello(
            r.unsigned(),
            r.text(limits.MAX_PEER_ID_BYTES),
            r.byte_string(_KEY_BYTES),
            r.text(limits.MAX_LABEL_BYTES),
        ),
    ),
    MessageType.AUTHENTICATION: (1, lambda r: messages.Authentication(r.signature())),
    MessageType.JOIN: (2, lambda r: messages.Join(r.uuid(), r.byte_string(_KEY_BYTES))),
    MessageType.JOIN_ACCEPTED: (2, lambda r: messages.JoinAccepted(r.uuid(), r.payload())),
    MessageType.JOIN_REFUSED: (
        3,
        lambda r: messages.JoinRefused(
            r.uuid(), r.text(limits.MAX_CODE_BYTES), r.text(limits.MAX_TEXT_BYTES)
        ),
    ),
    MessageType.VECTOR: (3, lambda r: messages.Vector(r.uuid(), r.entries(), r.partial())),
    MessageType.VECTOR_DIGEST: (2, lambda r: messages.VectorDigest(r.uuid(), r.byte_string(_KEY_BYTES))),
    MessageType.VECTOR_REQUEST: (1, lambda r: messages.VectorRequest(r.uuid())),
    MessageType.COMMIT: (
        3,
        lambda r: messages.Commit(
            bundle_id=r.uuid(), signature=r.signature(), header=r.bytes_up_to(limits.MAX_HEADER_BYTES)
        ),
    ),
    MessageType.SECTION: (
        5,
        lambda r: messages.Section(
            r.uuid(),
            r.byte_string(_KEY_BYTES),
            r.section_no(),
            r.flag(),
            r.bytes_up_to(limits.MAX_SECTION_BYTES),
        ),
    ),
    MessageType.ACKNOWLEDGEMENT: (
        3,
        lambda r: messages.Acknowledgement(r.uuid(), r.entries(), r.optional_signature()),
    ),
    MessageType.GRANT: (
        1,
        lambda r: messages.Grant(r.length(dag_cbor.UNSIGNED, limits.MAX_DATA_MESSAGE_BYTES)),
    ),
    MessageType.PING: (1, lambda r: messages.Ping(r.unsigned())),
    MessageType.PONG: (1, lambda r: messages.Pong(r.unsigned())),
    MessageType.ERROR: (
        5,
        lambda r: messages.Error(
            r.text(limits.MAX_CODE_BYTES),
            r.text(limits.MAX_CODE_BYTES),
            r.flag(),
            r.text(limits.MAX_TEXT_BYTES),
            r.text(limits.MAX_TEXT_BYTES),
        ),
    ),
    MessageType.CLOSE: (
        2,
        lambda r: messages.Close(r.text(limits.MAX_CODE_BYTES), r.text(limits.MAX_TEXT_BYTES)),
    ),
    MessageType.CHANNEL: (1, lambda r: messages.Channel(r.bytes_up_to(limits.MAX_CHANNEL_BYTES))),
}


def _parts(message: Message) -> tuple[MessageType, list[bytes]]:
    """Give the type of a message and its encoded items."""
    match message:
        case messages.Hello(version, peer_id, nonce, label):
            return MessageType.HELLO, [
                unsigned(version),
                _text(peer_id, limits.MAX_PEER_ID_BYTES),
                _exact(nonce, _KEY_BYTES),
                _text(label, limits.MAX_LABEL_BYTES),
            ]
        case messages.Authentication(signature):
            return MessageType.AUTHENTICATION, [_exact(signature, _SIGNATURE_BYTES)]
        case messages.Join(invite_id, secret):
            return MessageType.JOIN, [_uuid(invite_id), _exact(secret, _KEY_BYTES)]
        case messages.JoinAccepted(invite_id, payload):
            return MessageType.JOIN_ACCEPTED, [_uuid(invite_id), _payload(payload)]
        case messages.JoinRefused(invite_id, code, detail):
            return MessageType.JOIN_REFUSED, [_uuid(invite_id), _code(code), _clipped(detail)]
        case messages.Vector(bundle_id, entries, partial):
            return MessageType.VECTOR, [_uuid(bundle_id), _entries(entries), _partial(partial)]
        case messages.VectorDigest(bundle_id, digest):
            return MessageType.VECTOR_DIGEST, [_uuid(bundle_id), _exact(digest, _KEY_BYTES)]
        case messages.VectorRequest(bundle_id):
            return MessageType.VECTOR_REQUEST, [_uuid(bundle_id)]
        case messages.Commit(bundle_id, header, signature):
            return MessageType.COMMIT, [
                _uuid(bundle_id),
                _exact(signature, _SIGNATURE_BYTES),
                _bytes(header, limits.MAX_HEADER_BYTES),
            ]
        case messages.Section(bundle_id, commit_digest, section_no, packed, data):
            return MessageType.SECTION, [
                _uuid(bundle_id),
                _exact(commit_digest, _KEY_BYTES),
                _section_no(section_no),
                unsigned(packed),
                _bytes(data, limits.MAX_SECTION_BYTES),
            ]
        case messages.Acknowledgement(bundle_id, entries, signature):
            exact = _exact(signature, _SIGNATURE_BYTES) if signature else byte_string(b"")
            return MessageType.ACKNOWLEDGEMENT, [_uuid(bundle_id), _entries(entries), exact]
        case messages.Grant(count):
            return MessageType.GRANT, [unsigned(count)]
        case messages.Ping(number):
            return MessageType.PING, [unsigned(number)]
        case messages.Pong(number):
            return MessageType.PONG, [unsigned(number)]
        case messages.Error(code, phase, retryable, detail, hint):
            return MessageType.ERROR, [
                _code(code),
                _code(phase),
                unsigned(retryable),
                _clipped(detail),
                _clipped(hint),
            ]
        case messages.Close(code, detail):
            return MessageType.CLOSE, [_code(code), _clipped(detail)]
        case messages.Channel(data):
            return MessageType.CHANNEL, [_bytes(data, limits.MAX_CHANNEL_BYTES)]


def _bytes(value: bytes, limit: int) -> bytes:
    if len(value) > limit:
        raise LocalProtocolError(f"{len(value)} bytes are too many, {limit} are allowed.", code="too_large")
    return byte_string(value)


def _exact(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise LocalProtocolError(f"{len(value)} bytes stand where {size} must.")
    return byte_string(value)


def _text(value: str, limit: int) -> bytes:
    if len(value.encode("utf-8")) > limit:
        raise LocalProtocolError(f"A text is too long, {limit} bytes are allowed.", code="too_large")
    return text(value)


def _payload(value: Payload) -> bytes:
    document = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        read_payload(document)
    except CommitError as error:
        raise LocalProtocolError(str(error)) from error
    return _text(document, limits.MAX_PAYLOAD_BYTES)


def _clipped(value: str) -> bytes:
    """A sentence for people may be cut; it is never a reason to fail."""
    return text(value.encode("utf-8", "replace")[: limits.MAX_TEXT_BYTES].decode("utf-8", "ignore"))


def _code(value: str) -> bytes:
    return _text(value, limits.MAX_CODE_BYTES)


def _uuid(value: UUID) -> bytes:
    return byte_string(value.bytes)


def _section_no(number: int) -> bytes:
    if not 1 <= number <= limits.MAX_SECTIONS:
        raise LocalProtocolError(f"{number} is not the number of a section.")
    return unsigned(number)


def _entries(entries: tuple[VectorEntry, ...]) -> bytes:
    if len(entries) > limits.MAX_VECTOR_ENTRIES:
        raise LocalProtocolError(
            f"A vector has {len(entries)} entries, {limits.MAX_VECTOR_ENTRIES} are allowed.", code="too_large"
        )
    return array(
        [
            array([byte_string(e.author), unsigned(e.epoch), unsigned(e.seq), byte_string(e.head)])
            for e in entries
        ]
    )


def _partial(partial: dict[bytes, tuple[int, ...]]) -> bytes:
    if len(partial) > limits.MAX_PARTIAL_COMMITS:
        raise LocalProtocolError(f"{len(partial)} incomplete commits are too many.", code="too_large")
    return array(
        [
            array([_exact(digest, _KEY_BYTES), array([_section_no(number) for number in numbers])])
            for digest, numbers in partial.items()
        ]
    )
