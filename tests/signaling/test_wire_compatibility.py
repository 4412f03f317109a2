"""Hubs and workers of the first version 1 and of later ones understand each other."""

from __future__ import annotations

import json

import pytest
from conversation_pair import ALICE, BOB, Pair

from pgpeer.errors import HubError
from pgpeer.signaling.client import ClientConversation
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    AskTurn,
    Authenticate,
    ClientMessage,
    Delivery,
    Follow,
    Hello,
    HubMessage,
    OpenCircuit,
    Ping,
    Pong,
    Presence,
    Refusal,
    SendSignal,
    Taken,
    TakeSignal,
    Watch,
    Welcome,
)
from pgpeer.signaling.server import ServerState
from pgpeer.signaling.wire import decode_for_client, decode_for_hub, encode

A, B = ALICE.peer_id, BOB.peer_id
NONCE = "6e" * 32

FIRST_FROM_CLIENT: list[tuple[ClientMessage, dict]] = [
    (
        Authenticate(A, "alice", "ws://h", b"sig"),
        {"t": "auth", "peer_id": A, "label": "alice", "url": "ws://h", "sig": "c2ln"},
    ),
    (Watch((B,)), {"t": "watch", "peers": [B]}),
    (SendSignal(1, B, "s", b"box"), {"t": "signal", "id": 1, "to": B, "sid": "s", "box": "Ym94"}),
    (Ping(), {"t": "ping"}),
]
FIRST_FROM_HUB: list[tuple[HubMessage, dict]] = [
    (Hello("hub", b"n" * 32), {"t": "hello", "hub_id": "hub", "nonce": NONCE, "proto": [1]}),
    (Welcome(30.0), {"t": "ok", "lease": 30.0}),
    (Presence({A: "alice"}, (B,)), {"t": "presence", "online": {A: "alice"}, "offline": [B]}),
    (Delivery(1, True), {"t": "delivered", "id": 1}),
    (Delivery(2, False), {"t": "offline", "id": 2}),
    (TakeSignal(A, "s", b"box"), {"t": "signal", "from": A, "sid": "s", "box": "Ym94"}),
    (
        Refusal("quota", "full", "wait", True),
        {"t": "error", "code": "quota", "detail": "full", "hint": "wait", "retryable": True},
    ),
    (
        Refusal("quota", "full", "", False, 3),
        {"t": "error", "code": "quota", "detail": "full", "hint": "", "retryable": False, "id": 3},
    ),
    (Pong(), {"t": "pong"}),
]


@pytest.mark.parametrize(("message", "frame"), FIRST_FROM_CLIENT, ids=lambda one: type(one).__name__)
def test_what_the_first_workers_say_is_written_and_read_as_ever(message: ClientMessage, frame: dict) -> None:
    assert json.loads(encode(message)) == frame
    assert decode_for_hub(json.dumps(frame | {"of a later version": 1}), 65_536) == message


@pytest.mark.parametrize(("message", "frame"), FIRST_FROM_HUB, ids=lambda one: type(one).__name__)
def test_what_the_first_hubs_say_is_written_and_read_as_ever(message: HubMessage, frame: dict) -> None:
    assert json.loads(encode(message)) == frame
    assert decode_for_client(json.dumps(frame | {"of a later version": 1}), 65_536) == message


def test_a_hub_of_the_first_version_is_asked_for_nothing_that_it_does_not_know() -> None:
    client = ClientConversation(ALICE, "ws://h", "alice", HubLimits(), 0.0, features=("mailbox",))
    client.receive(encode(Hello("hub", b"n" * 32)), 0.0)
    client.receive(encode(Welcome(30.0)), 0.0)
    assert client.next_frame() is not None
    for message in (Follow(("n",)), Taken((1,))):
        with pytest.raises(HubError) as caught:
            client.say(message)
        assert caught.value.code == "refused_policy"
    for make in (AskTurn, lambda number: OpenCircuit(number, B)):
        with pytest.raises(HubError):
            client.ask(make, 0.0)
    assert client.next_frame() is None
    assert not client.is_closed


def test_what_a_later_version_announces_does_no_harm() -> None:
    pair = Pair(welcomed=False)
    hello = json.loads(str(pair.server.next_frame()))
    frame = json.dumps(hello | {"features": ["time travel", *hello["features"]], "proto": [1, 2]})
    pair.client.receive(frame, pair.now)
    said = json.loads(str(pair.client.next_frame()))
    pair.server.receive(json.dumps(said | {"features": ["time travel"]}), pair.now)
    assert pair.server.state is ServerState.AWAITING_WELCOME
    assert pair.server.features == {"time travel"}
