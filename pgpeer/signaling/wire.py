"""The frames between a hub and its clients: JSON objects in text frames (`t` says which), and binary data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from pgpeer.signaling import fields as kinds
from pgpeer.signaling import messages
from pgpeer.signaling.fields import Kind, refuse
from pgpeer.signaling.messages import ClientMessage, HubMessage

CIRCUIT_HEADER_BYTES: Final = 8
"""A binary frame is the number of its circuit, most significant byte first, and at least one byte of data."""

RECORD_BYTES_LIMIT: Final = 1024
RECORDS_PER_FRAME: Final = 32
BOX_BYTES_LIMIT: Final = 48 * 1024
MAILS_TAKEN_LIMIT: Final = 256
DISCOVER_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a message in JSON.

    Attributes:
        name: its name there.
        attribute: the attribute of the message.
        kind: how the value is written and read.
        optional: it is left out when the attribute has its default.
    """

    name: str
    attribute: str
    kind: Kind
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """How one message stands in JSON.

    Attributes:
        tag: its `t`.
        message: its class.
        members: what else stands in it.
        constants: attributes that `t` already tells.
    """

    tag: str
    message: type
    members: tuple[Member, ...] = ()
    constants: Mapping[str, object] = field(default_factory=dict)


_ID: Final = Member("id", "request", kinds.NUMBER)
_CIRCUIT: Final = Member("circuit", "circuit", kinds.NUMBER)
_NAMESPACE: Final = Member("ns", "namespace", kinds.NAMESPACE)
_BOX: Final = Member("box", "box", kinds.content(BOX_BYTES_LIMIT))
_RECORD: Final = kinds.content(RECORD_BYTES_LIMIT)
_TTL: Final = Member("ttl", "ttl_seconds", kinds.NUMBER)

_BOTH: Final = (
    Shape("credit", messages.Credit, (_CIRCUIT, Member("bytes", "size", kinds.number(1, 2**31)))),
    Shape("end", messages.End, (_CIRCUIT,)),
    Shape(
        "shut",
        messages.Shut,
        (
            _CIRCUIT,
            Member("code", "code", kinds.text(64)),
            Member("detail", "detail", kinds.text(1024, empty=True)),
        ),
    ),
)
_FROM_CLIENT: Final = (
    Shape(
        "auth",
        messages.Authenticate,
        (
            Member("peer_id", "peer_id", kinds.PEER_ID),
            Member("label", "label", kinds.LABEL),
            Member("url", "url", kinds.URL),
            Member("sig", "signature", kinds.content()),
            Member("features", "features", kinds.FEATURES, optional=True),
            Member("visitor", "visitor", kinds.FLAG, optional=True),
        ),
    ),
    Shape("watch", messages.Watch, (Member("peers", "peer_ids", kinds.several(kinds.PEER_ID)),)),
    Shape(
        "signal",
        messages.SendSignal,
        (_ID, Member("to", "to", kinds.PEER_ID), Member("sid", "sid", kinds.SID), _BOX),
    ),
    Shape("ping", messages.Ping),
    Shape("register", messages.Register, (_ID, _NAMESPACE, _TTL, Member("record", "record", _RECORD))),
    Shape("unregister", messages.Unregister, (_ID, _NAMESPACE)),
    Shape(
        "discover",
        messages.Discover,
        (
            _ID,
            _NAMESPACE,
            Member("cookie", "cookie", kinds.NUMBER),
            Member("limit", "limit", kinds.number(1, DISCOVER_LIMIT)),
        ),
    ),
    Shape("follow", messages.Follow, (Member("ns", "namespaces", kinds.several(kinds.NAMESPACE)),)),
    Shape("post", messages.Post, (_ID, Member("to", "to", kinds.PEER_ID), _TTL, _BOX)),
    Shape(
        "taken", messages.Taken, (Member("mails", "mails", kinds.several(kinds.NUMBER, MAILS_TAKEN_LIMIT)),)
    ),
    Shape("turn", messages.AskTurn, (_ID,)),
    Shape("open", messages.OpenCircuit, (_ID, Member("to", "to", kinds.PEER_ID))),
    Shape("accept", messages.Accept, (_CIRCUIT,)),
    *_BOTH,
)
_FROM_HUB: Final = (
    Shape(
        "hello",
        messages.Hello,
        (
            Member("hub_id", "hub_id", kinds.text(128)),
            Member("nonce", "nonce", kinds.NONCE),
            Member("features", "features", kinds.FEATURES, optional=True),
            Member("proto", "versions", kinds.VERSIONS),
        ),
    ),
    Shape("ok", messages.Welcome, (Member("lease", "lease_seconds", kinds.LEASE),)),
    Shape(
        "presence",
        messages.Presence,
        (
            Member("online", "online", kinds.LABELS),
            Member("offline", "offline", kinds.several(kinds.PEER_ID)),
        ),
    ),
    Shape("delivered", messages.Delivery, (_ID,), {"delivered": True}),
    Shape("offline", messages.Delivery, (_ID,), {"delivered": False}),
    Shape(
        "signal",
        messages.TakeSignal,
        (Member("from", "sender", kinds.PEER_ID), Member("sid", "sid", kinds.SID), _BOX),
    ),
    Shape(
        "error",
        messages.Refusal,
        (
            Member("code", "code", kinds.text(64)),
            Member("detail", "detail", kinds.text(1024)),
            Member("hint", "hint", kinds.text(1024, empty=True)),
            Member("retryable", "retryable", kinds.FLAG),
            Member("id", "request", kinds.NUMBER, optional=True),
            Member("elsewhere", "elsewhere", kinds.URL, optional=True),
        ),
    ),
    Shape("pong", messages.Pong),
    Shape("registered", messages.Registered, (_ID, _TTL)),
    Shape(
        "peers",
        messages.Discovered,
        (
            _ID,
            Member("records", "records", kinds.several(_RECORD, RECORDS_PER_FRAME)),
            Member("cookie", "cookie", kinds.NUMBER),
            Member("more", "more", kinds.FLAG),
        ),
    ),
    Shape(
        "changes",
        messages.Changes,
        (
            _NAMESPACE,
            Member("joined", "joined", kinds.several(_RECORD, RECORDS_PER_FRAME)),
            Member("left", "left", kinds.several(kinds.PEER_ID)),
            Member("missed", "missed", kinds.FLAG),
        ),
    ),
    Shape("posted", messages.Posted, (_ID, Member("mail", "mail", kinds.NUMBER))),
    Shape(
        "mail",
        messages.Mail,
        (
            Member("mail", "mail", kinds.NUMBER),
            Member("from", "sender", kinds.PEER_ID),
            Member("sent", "sent_at", kinds.NUMBER),
            _BOX,
        ),
    ),
    Shape(
        "turn",
        messages.TurnOffer,
        (
            _ID,
            Member("urls", "urls", kinds.several(kinds.URL, 16)),
            Member("username", "username", kinds.text(256)),
            Member("credential", "credential", kinds.text(256)),
            _TTL,
        ),
    ),
    Shape("opened", messages.CircuitOpened, (_ID, _CIRCUIT)),
    Shape("circuit", messages.CircuitOffered, (_CIRCUIT, Member("from", "sender", kinds.PEER_ID))),
    *_BOTH,
)

_FOR_HUB: Final = {shape.tag: shape for shape in _FROM_CLIENT}
_FOR_CLIENT: Final = {shape.tag: shape for shape in _FROM_HUB}


def _by_class() -> Mapping[type, tuple[Shape, ...]]:
    shapes = {(shape.tag, shape.message): shape for shape in (*_FROM_CLIENT, *_FROM_HUB)}
    classes = {shape.message for shape in shapes.values()}
    return {one: tuple(shape for shape in shapes.values() if shape.message is one) for one in classes}


_BY_CLASS: Final = _by_class()


def encode(message: ClientMessage | HubMessage) -> str:
    """Give the text frame of a message."""
    shape = next(
        one
        for one in _BY_CLASS[type(message)]
        if all(getattr(message, name) == value for name, value in one.constants.items())
    )
    written: dict[str, object] = {"t": shape.tag}
    for member in shape.members:
        value = getattr(message, member.attribute)
        if not (member.optional and value == _default(shape, member)):
            written[member.name] = member.kind.write(value)
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))


def decode_for_hub(frame: str, limit: int) -> ClientMessage:
    """Read what a client sent, at most `limit` bytes of UTF-8.

    Raises:
        RemoteProtocolError: it is not a message that a client sends.
    """
    return cast(ClientMessage, _decode(frame, limit, _FOR_HUB))


def decode_for_client(frame: str, limit: int) -> HubMessage:
    """Read what a hub sent, at most `limit` bytes of UTF-8.

    Raises:
        RemoteProtocolError: it is not a message that a hub sends.
    """
    return cast(HubMessage, _decode(frame, limit, _FOR_CLIENT))


def circuit_frame(circuit: int, data: bytes) -> bytes:
    """Give the binary frame that carries bytes of a circuit."""
    return circuit.to_bytes(CIRCUIT_HEADER_BYTES, "big") + data


def read_circuit_frame(frame: bytes, limit: int) -> tuple[int, bytes]:
    """Give circuit and data of a binary frame of at most `limit` bytes.

    Raises:
        RemoteProtocolError: it carries no data or is too large.
    """
    if len(frame) > limit:
        refuse(f"it has more than {limit} bytes", code="too_large")
    if len(frame) <= CIRCUIT_HEADER_BYTES:
        refuse("a binary frame carries no data")
    return int.from_bytes(frame[:CIRCUIT_HEADER_BYTES], "big"), frame[CIRCUIT_HEADER_BYTES:]


def _decode(frame: str, limit: int, shapes: Mapping[str, Shape]) -> object:
    if len(frame) > limit or len(frame.encode("utf-8", "replace")) > limit:
        refuse(f"it has more than {limit} bytes", code="too_large")
    try:
        fields = json.loads(frame)
    except (ValueError, RecursionError):
        refuse("it is not JSON")
    if not isinstance(fields, dict):
        refuse("it is not an object")
    tag = fields.get("t")
    shape = shapes.get(tag) if isinstance(tag, str) else None
    if shape is None:
        refuse("its type is unknown")
    read = {
        member.attribute: member.kind.read(fields.get(member.name))
        for member in shape.members
        if member.name in fields or not member.optional
    }
    return shape.message(**read, **shape.constants)


def _default(shape: Shape, member: Member) -> object:
    found: dataclasses.Field[object] = shape.message.__dataclass_fields__[member.attribute]  # type: ignore[attr-defined]
    return found.default
