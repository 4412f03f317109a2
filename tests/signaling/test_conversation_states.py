from typing import get_args

import pytest
from conversation_pair import ALICE, BOB, HELLO, URL, Pair, closing_code

from pgpeer.errors import HubError, LocalProtocolError
from pgpeer.signaling import client, server
from pgpeer.signaling.authentication import authenticate
from pgpeer.signaling.client import (
    HubClosed,
)
from pgpeer.signaling.messages import (
    Accept,
    AskTurn,
    Changes,
    CircuitOffered,
    CircuitOpened,
    ClientMessage,
    Credit,
    Delivery,
    Discover,
    Discovered,
    End,
    Follow,
    HubMessage,
    Mail,
    OpenCircuit,
    Ping,
    Pong,
    Post,
    Posted,
    Presence,
    Refusal,
    Register,
    Registered,
    SendSignal,
    Shut,
    Taken,
    TakeSignal,
    TurnOffer,
    Unregister,
    Watch,
    Welcome,
)
from pgpeer.signaling.wire import encode

FROM_CLIENT: list[ClientMessage] = [
    authenticate(ALICE, HELLO, "alice", URL),
    Watch((BOB.peer_id,)),
    SendSignal(1, BOB.peer_id, "sid", b"box"),
    Ping(),
    Register(2, "bundle:a", 60, b"record"),
    Unregister(3, "bundle:a"),
    Discover(4, "bundle:a", 0, 10),
    Follow(("bundle:a",)),
    Post(5, BOB.peer_id, 60, b"box"),
    Taken((1, 2)),
    AskTurn(6),
    OpenCircuit(7, BOB.peer_id),
    Accept(7),
    Credit(7, 100),
    End(7),
    Shut(7, "local_closed", ""),
]


FROM_HUB: list[HubMessage] = [
    HELLO,
    Welcome(30.0),
    Presence({BOB.peer_id: "bob"}, ()),
    Delivery(1, True),
    TakeSignal(BOB.peer_id, "sid", b"box"),
    Refusal("rate_limited", "too fast", "", True, 1),
    Pong(),
    Registered(2, 60),
    Discovered(4, (b"record",), 1, False),
    Changes("bundle:a", (b"record",), (BOB.peer_id,), False),
    Posted(5, 1),
    Mail(1, BOB.peer_id, 0, b"box"),
    TurnOffer(6, ("turn:t",), "name", "word", 60),
    CircuitOpened(7, 9),
    CircuitOffered(8, BOB.peer_id),
    Credit(7, 100),
    End(7),
    Shut(7, "remote_closed", ""),
]


def server_in(state: server.ServerState) -> Pair:
    pair = Pair(welcomed=state is server.ServerState.READY)
    if state is server.ServerState.AWAITING_WELCOME:
        pair.exchange()
    if state is server.ServerState.CLOSED:
        pair.server.close(HubError("over"))
    assert pair.server.state is state
    return pair


def client_in(state: client.ClientState) -> Pair:
    pair = Pair(welcomed=state is client.ClientState.READY)
    if state is client.ClientState.READY:
        pair.client.circuits.begin(7)
    if state is client.ClientState.AWAITING_WELCOME:
        pair.exchange()
    if state is client.ClientState.CLOSED:
        pair.client.close(HubError("over"))
    assert pair.client.state is state
    return pair


def test_the_samples_cover_every_message() -> None:
    assert {type(message) for message in FROM_CLIENT} == set(get_args(ClientMessage))
    assert {type(message) for message in FROM_HUB} == set(get_args(HubMessage))


@pytest.mark.parametrize("message", FROM_CLIENT, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("state", list(server.ServerState), ids=lambda state: state.value)
def test_the_hub_takes_a_message_exactly_in_the_states_of_its_table(
    state: server.ServerState, message: ClientMessage
) -> None:
    conversation = server_in(state).server
    events = conversation.receive(encode(message), 1000.0)
    following = server.TRANSITIONS.get((state, type(message)), server.ServerState.CLOSED)
    assert conversation.state is following
    if following is server.ServerState.CLOSED:
        assert events == []


@pytest.mark.parametrize("message", FROM_HUB, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("state", list(client.ClientState), ids=lambda state: state.value)
def test_the_client_takes_a_message_exactly_in_the_states_of_its_table(
    state: client.ClientState, message: HubMessage
) -> None:
    conversation = client_in(state).client
    events = conversation.receive(encode(message), 1000.0)
    following = client.TRANSITIONS.get((state, type(message)), client.ClientState.CLOSED)
    assert conversation.state is following
    assert any(isinstance(event, HubClosed) for event in events) == (
        following is client.ClientState.CLOSED and state is not client.ClientState.CLOSED
    )


def test_nothing_can_be_asked_of_a_conversation_that_is_not_ready() -> None:
    pair = Pair(welcomed=False)
    with pytest.raises(LocalProtocolError):
        pair.client.watch([BOB.peer_id])
    with pytest.raises(LocalProtocolError):
        pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    with pytest.raises(LocalProtocolError):
        pair.server.welcome()
    with pytest.raises(LocalProtocolError):
        pair.server.push_signal(BOB.peer_id, "sid", b"box")


def test_binary_frames_end_the_conversation_on_either_side() -> None:
    pair = Pair()
    pair.server.receive(b"\0", pair.now)
    assert closing_code(pair) == "bad_message"
    pair = Pair()
    assert isinstance(pair.client.receive(b"\0", pair.now)[-1], HubClosed)
