"""Targets of the signalling room: what hubs, clients and peers say to each other before there is a link."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.invite import LINK_PREFIX, parse_invite
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling import wire
from pgpeer.signaling.letter import LETTER_DOMAIN, Letter, read_letter, sign_letter
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.record import REGISTRATION_DOMAIN, Registration, read_registration, sign_registration
from pgpeer.signaling.signal import SIGNAL_DOMAIN, ReplayGuard, Signal, read_signal, sign_signal

ALICE, BOB = PrivateKey.from_seed(b"a" * 32), PrivateKey.from_seed(b"b" * 32)
NOW = 1_800_000_000.0
FRAME_BYTES = HubLimits().frame_bytes
SIGNATURE_BYTES = 64


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def to_hub(data: bytes) -> None:
    message = wire.decode_for_hub(_text(data), FRAME_BYTES)
    assert wire.decode_for_hub(wire.encode(message), 2 * FRAME_BYTES) == message


def to_client(data: bytes) -> None:
    message = wire.decode_for_client(_text(data), FRAME_BYTES)
    assert wire.decode_for_client(wire.encode(message), 2 * FRAME_BYTES) == message


_VALUES: list[object] = [
    *(7, "bundle:x", ALICE.peer_id, [ALICE.peer_id], [], "Ym94", ["Ym94"], "00" * 32, [1], 30.0, True),
    *({ALICE.peer_id: "ship"}, {}, "wss://hub.example", "timeout", ["turn:turn.example:3478"]),
]


def _samples(shapes: Mapping[str, Any]) -> list[bytes]:
    """A frame of each type, each member with the first of the values that it takes."""
    return [
        json.dumps({"t": tag, **{member.name: _value(member.kind.read) for member in shape.members}}).encode()
        for tag, shape in shapes.items()
    ]


def _value(read: Callable[[object], object]) -> object:
    for value in _VALUES:
        try:
            read(value)
        except RemoteProtocolError:
            continue
        return value
    raise AssertionError("a member takes none of the values: add one")


def hub_samples() -> list[bytes]:
    return _samples(wire._FOR_HUB)


def client_samples() -> list[bytes]:
    return _samples(wire._FOR_CLIENT)


def signal(data: bytes) -> None:
    """The body is signed by who sends it: a peer may be hostile and yet sign what it says."""
    signed = ALICE.sign(SIGNAL_DOMAIN, data) + data
    names = {"sender": ALICE.peer_id, "recipient": BOB.peer_id, "sid": "attempt-1", "now": NOW}
    guard = ReplayGuard()
    read = read_signal(signed, guard=guard, **names)  # type: ignore[arg-type]
    assert read.sender == ALICE.peer_id
    assert sign_signal(ALICE, read)
    with pytest.raises(RemoteProtocolError, match="received before"):
        read_signal(signed, guard=guard, **names)  # type: ignore[arg-type]


def signal_samples() -> list[bytes]:
    made = Signal("attempt-1", ALICE.peer_id, BOB.peer_id, "offer", "v=0\r\n…", b"n" * 16, int(NOW) + 60)
    return [sign_signal(ALICE, made)[SIGNATURE_BYTES:]]


def letter(data: bytes) -> None:
    signed = ALICE.sign(LETTER_DOMAIN, data) + data
    read = read_letter(signed, sender=ALICE.peer_id, recipient=BOB.peer_id, now=NOW)
    again = sign_letter(ALICE, read)
    assert read_letter(again, sender=ALICE.peer_id, recipient=BOB.peer_id, now=NOW) == read


def letter_samples() -> list[bytes]:
    made = Letter(b"i" * 16, ALICE.peer_id, BOB.peer_id, "friend-request", "hello", int(NOW) + 60)
    return [sign_letter(ALICE, made)[SIGNATURE_BYTES:]]


def registration(data: bytes) -> None:
    signed = ALICE.sign(REGISTRATION_DOMAIN, data) + data
    read = read_registration(signed, namespace="bundle:x", now=NOW)
    assert read.peer_id == ALICE.peer_id
    assert read.namespace == "bundle:x"


def registration_samples() -> list[bytes]:
    made = Registration(ALICE.peer_id, "bundle:x", 7, int(NOW) + 60, "body")
    return [sign_registration(ALICE, made)[SIGNATURE_BYTES:]]


def invite_document(data: bytes) -> None:
    """What stands inside a link, without its wrapping."""
    invite = parse_invite(LINK_PREFIX + urlsafe_b64encode(data).decode().rstrip("="))
    assert parse_invite(invite.link()) == invite
