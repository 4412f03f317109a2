"""Targets of the signalling room: what hubs, clients and peers say to each other before there is a link."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest

from pgpeer.errors import CODES, RemoteProtocolError
from pgpeer.identity.invite import LINK_PREFIX, parse_invite
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling import wire
from pgpeer.signaling.client import ClientConversation, HubClosed
from pgpeer.signaling.letter import LETTER_DOMAIN, Letter, read_letter, sign_letter
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import FEATURES, Hello
from pgpeer.signaling.record import REGISTRATION_DOMAIN, Registration, read_registration, sign_registration
from pgpeer.signaling.server import ServerConversation, ServerState
from pgpeer.signaling.signal import SIGNAL_DOMAIN, ReplayGuard, Signal, read_signal, sign_signal

from .conversations import frames_of, stream_of

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


def _frames(data: bytes) -> list[str | bytes]:
    """Frames of a WebSocket: text, or binary when they begin with a byte 1."""
    return [one[1:] if one[:1] == b"\1" else _text(one) for one in frames_of(data)]


@cache
def _greetings() -> tuple[tuple[str | bytes, ...], tuple[str | bytes, ...]]:
    """What a hub and a client say to each other before the client is in: hub's frames, client's frames."""
    server, client = _server(), _client()
    from_hub: list[str | bytes] = []
    from_client: list[str | bytes] = []
    for _ in range(2):
        while (frame := server.next_frame()) is not None:
            from_hub.append(frame)
            client.receive(frame, 0.0)
        while (answer := client.next_frame()) is not None:
            from_client.append(answer)
            server.receive(answer, 0.0)
        if server.state is ServerState.AWAITING_WELCOME:
            server.welcome()
    return tuple(from_hub), tuple(from_client)


def _server() -> ServerConversation:
    hello = Hello("hub-1", b"n" * 32, FEATURES)
    return ServerConversation(hello, frozenset({"hub.example:8765"}), HubLimits(), 0.0)


def _client() -> ClientConversation:
    return ClientConversation(ALICE, "ws://hub.example:8765", "alice", HubLimits(), 0.0, features=FEATURES)


def hub_conversation(data: bytes) -> None:
    """A client that is in says anything: it gets answers, or it is told why it is put out."""
    server = _server()
    for greeting in _greetings()[1][:1]:
        server.receive(greeting, 0.0)
    server.welcome()
    assert server.peer_id == ALICE.peer_id
    moment = 0.0
    for frame in _frames(data):
        moment += 1.0
        server.receive(frame, moment)
        server.tick(moment)
    said = []
    while (answer := server.next_frame()) is not None:
        said.append(answer)
        wire.decode_for_client(answer, FRAME_BYTES)
    assert server.is_closed is (server.closed_because is not None)
    if server.closed_because is not None:
        assert server.closed_because.code in said[-1]
        raise server.closed_because


def hub_conversation_samples() -> list[bytes]:
    frames = hub_samples()
    kept = [one for one in frames if b'"auth' not in one]
    return [stream_of(*kept[:8]), stream_of(*kept[8:]), stream_of(b"\1" + b"\0" * 8 + b"ciphertext")]


def client_conversation(data: bytes) -> None:
    """A hub says anything: the client believes what fits, or ends with a typed error."""
    client = _client()
    for greeting in _greetings()[0]:
        client.receive(greeting, 0.0)
    client.watch([BOB.peer_id])
    moment, happened = 0.0, []
    for frame in _frames(data):
        moment += 1.0
        happened += client.receive(frame, moment)
        happened += client.tick(moment)
        while client.next_frame() is not None:
            pass
    ended = [event for event in happened if isinstance(event, HubClosed)]
    assert client.is_closed is bool(ended)
    if ended:
        assert ended[0].error.code in CODES
        raise ended[0].error


def client_conversation_samples() -> list[bytes]:
    alone = [stream_of(frame) for frame in client_samples()]
    return [*alone, stream_of(*client_samples()[3:]), stream_of(b"\1" + b"\0" * 8 + b"ciphertext")]
