from typing import get_args

import pytest
from conversation_pair import ALICE, HELLO, URL, Pair

from pgpeer.errors import ConfigError, HubError, LocalProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling import client, server
from pgpeer.signaling.authentication import authenticate, require_hub_url
from pgpeer.signaling.client import (
    BoxReceived,
    HubClosed,
    HubReady,
    HubSlow,
    PeerOffline,
    PeerOnline,
    SignalAnswered,
)
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    Authenticate,
    ClientMessage,
    Delivery,
    Hello,
    HubMessage,
    Ping,
    Pong,
    Presence,
    Refusal,
    SendSignal,
    TakeSignal,
    Watch,
    Welcome,
    encode,
)
from pgpeer.signaling.server import SignalRequested, WatchRequested

BOB = PrivateKey.from_seed(b"b" * 32)
CAROL = PrivateKey.from_seed(b"c" * 32)

FROM_CLIENT: list[ClientMessage] = [
    authenticate(ALICE, HELLO, "alice", URL),
    Watch((BOB.peer_id,)),
    SendSignal(1, BOB.peer_id, "sid", b"box"),
    Ping(),
]
FROM_HUB: list[HubMessage] = [
    HELLO,
    Welcome(30.0),
    Presence({BOB.peer_id: "bob"}, ()),
    Delivery(1, True),
    TakeSignal(BOB.peer_id, "sid", b"box"),
    Refusal("rate_limited", "too fast", "", True, 1),
    Pong(),
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


def test_a_client_that_proves_its_key_is_let_in() -> None:
    pair = Pair(welcomed=False)
    pair.exchange()
    assert pair.server_events == [server.PeerAuthenticated(ALICE.peer_id, "alice")]
    pair.server.welcome()
    pair.exchange()
    assert pair.client_events == [HubReady("hub-1")]


def closing_code(pair: Pair) -> str:
    pair.exchange()
    assert pair.server.is_closed
    assert pair.server.closed_because is not None
    return pair.server.closed_because.code


@pytest.mark.parametrize(
    "forged",
    [
        authenticate(BOB, Hello("hub-1", b"m" * 32), "bob", URL),
        authenticate(BOB, Hello("hub-2", b"n" * 32), "bob", URL),
        Authenticate(BOB.peer_id, "bob", URL, authenticate(ALICE, HELLO, "bob", URL).signature),
        Authenticate(BOB.peer_id, "mallory", URL, authenticate(BOB, HELLO, "bob", URL).signature),
        Authenticate(BOB.peer_id, "bob", URL, b"short"),
    ],
    ids=["another connection's nonce", "another hub", "another key", "another label", "no signature"],
)
def test_a_forged_or_replayed_proof_is_refused(forged: Authenticate) -> None:
    pair = Pair(welcomed=False)
    assert pair.server.receive(encode(forged), pair.now) == []
    assert closing_code(pair) == "bad_signature"


def test_a_proof_made_for_another_hub_is_refused_though_it_carries_our_nonce() -> None:
    pair = Pair(welcomed=False)
    relayed = authenticate(BOB, HELLO, "bob", "ws://evil.example:8765/")
    assert pair.server.receive(encode(relayed), pair.now) == []
    assert closing_code(pair) == "identity_mismatch"


@pytest.mark.parametrize(
    ("url", "authority", "fits"),
    [
        ("ws://hub.example:80/", "hub.example", True),
        ("wss://HUB.example/", "hub.example", True),
        ("wss://hub.example:443", "hub.example", True),
        ("wss://hub.example:80", "hub.example", False),
        ("ws://[::1]:8765", "[::1]:8765", True),
        ("ws://hub.example:8766", "hub.example:8765", False),
        ("ws://[bad", "hub.example", False),
    ],
)
def test_the_dialled_url_must_name_this_hub(url: str, authority: str, fits: bool) -> None:
    pair = Pair(url=url, authorities=(authority,), welcomed=False)
    pair.exchange()
    assert pair.server.is_closed != fits


@pytest.mark.parametrize(
    "url",
    ["", "http://hub", "ws://", "hub:80", "ws://u:p@hub", "ws://hub:port", "ws://[", "ws://" + "h" * 600],
)
def test_what_is_not_a_hubs_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        require_hub_url(url)


def test_a_watch_reaches_the_hub_without_repetition() -> None:
    pair = Pair()
    pair.client.watch([BOB.peer_id, CAROL.peer_id, BOB.peer_id])
    pair.exchange()
    assert pair.server_events == [WatchRequested((BOB.peer_id, CAROL.peer_id))]


def test_more_peers_than_can_be_watched_are_refused_on_both_sides() -> None:
    pair = Pair(HubLimits(watched_peers=1))
    with pytest.raises(LocalProtocolError):
        pair.client.watch([BOB.peer_id, CAROL.peer_id])
    pair.server.receive(encode(Watch((BOB.peer_id, CAROL.peer_id))), pair.now)
    assert closing_code(pair) == "quota"


def test_presence_is_pushed_and_a_newer_state_replaces_an_unsent_one() -> None:
    pair = Pair()
    pair.server.push_presence(BOB.peer_id, "bob")
    pair.server.push_presence(CAROL.peer_id, None)
    pair.server.push_presence(BOB.peer_id, None)
    pair.server.push_presence(BOB.peer_id, "bob again")
    pair.exchange()
    assert pair.client_events == [PeerOnline(BOB.peer_id, "bob again"), PeerOffline(CAROL.peer_id)]


def test_many_presences_are_split_into_frames_that_fit() -> None:
    pair = Pair()
    keys = [PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(250)]
    for key in keys:
        pair.server.push_presence(key.peer_id, "\U0001f6a2" * 128)
    frames = 0
    while (frame := pair.server.next_frame()) is not None:
        assert len(frame.encode()) < 64 * 1024
        frames += 1
        pair.client_events += pair.client.receive(frame, pair.now)
    assert frames == 3
    assert len(pair.client_events) == 250


@pytest.mark.parametrize("delivered", [True, False])
def test_a_signal_is_answered(delivered: bool) -> None:
    pair = Pair()
    request = pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    pair.exchange()
    assert pair.server_events == [SignalRequested(request, BOB.peer_id, "sid", b"box")]
    pair.server.report_delivery(request, delivered)
    pair.exchange()
    assert pair.client_events == [SignalAnswered(request, delivered)]


def test_a_refused_signal_carries_the_reason_and_the_conversation_goes_on() -> None:
    pair = Pair()
    request = pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    pair.exchange()
    pair.server.refuse(request, HubError("Too many.", remedy="Wait.", code="rate_limited"))
    pair.exchange()
    (answer,) = pair.client_events
    assert isinstance(answer, SignalAnswered)
    assert answer.error is not None
    assert (answer.error.code, answer.error.remedy, answer.error.retryable) == ("rate_limited", "Wait.", True)
    assert not pair.client.is_closed


def test_a_box_arrives() -> None:
    pair = Pair()
    assert pair.server.push_signal(BOB.peer_id, "sid", b"box")
    pair.exchange()
    assert pair.client_events == [BoxReceived(BOB.peer_id, "sid", b"box")]


def test_boxes_beyond_the_queue_of_a_slow_reader_are_refused() -> None:
    pair = Pair(HubLimits(queued_messages=3))
    taken = [pair.server.push_signal(BOB.peer_id, "sid", b"box") for _ in range(5)]
    assert taken == [True, True, True, False, False]
    pair = Pair(HubLimits(queued_bytes=2000))
    taken = [pair.server.push_signal(BOB.peer_id, "sid", b"x" * 600) for _ in range(4)]
    assert taken == [True, True, False, False]


def test_a_client_that_sends_and_never_reads_is_closed() -> None:
    pair = Pair(HubLimits(queued_messages=2))
    for _ in range(9):
        pair.server.receive(encode(Ping()), pair.now)
    assert pair.server.closed_because is not None
    assert pair.server.closed_because.code == "target_overloaded"


def test_a_box_too_large_for_a_frame_is_not_sent() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError) as caught:
        pair.client.send_box(BOB.peer_id, "sid", b"x" * 49_152, pair.now)
    assert caught.value.code == "too_large"
    assert pair.client.next_frame() is None


def test_the_client_says_that_it_is_there_and_the_hub_keeps_its_lease() -> None:
    pair = Pair()
    for _ in range(20):
        pair.wait(10.0)
        pair.exchange()
    assert not pair.client.is_closed
    assert not pair.server.is_closed


def test_a_short_lease_makes_the_client_ping_more_often() -> None:
    pair = Pair(HubLimits(lease_seconds=3.0))
    for _ in range(10):
        pair.wait(1.0)
        pair.exchange()
    assert not pair.server.is_closed


def test_a_client_that_says_nothing_for_a_lease_is_closed() -> None:
    pair = Pair()
    pair.wait(29.9)
    assert not pair.server.is_closed
    pair.wait(0.1)
    assert closing_code(pair) == "timeout"


def test_a_client_that_does_not_authenticate_in_time_is_closed() -> None:
    pair = Pair(welcomed=False)
    assert pair.server.next_deadline() == pair.now + 10.0
    pair.wait(9.9)
    assert not pair.server.is_closed
    pair.wait(0.1)
    assert pair.server.is_closed
    assert pair.server.next_deadline() is None


def test_a_silent_hub_is_given_up() -> None:
    pair = Pair()
    pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now + 20)
    pair.wait(24.9)
    assert not pair.client.is_closed
    pair.wait(0.1)
    answer, closed = pair.client_events
    assert isinstance(answer, SignalAnswered)
    assert isinstance(closed, HubClosed)
    assert closed.error.code == "timeout"
    assert closed.error.retryable


def test_connecting_is_first_slow_and_then_fails() -> None:
    pair = Pair(welcomed=False)
    assert pair.client.next_deadline() == pair.now + 3.0
    pair.wait(3.0)
    assert pair.client_events == [HubSlow()]
    pair.wait(6.9)
    assert pair.client_events == [HubSlow()]
    pair.wait(0.1)
    assert isinstance(pair.client_events[-1], HubClosed)


def test_a_signal_without_an_answer_fails_and_a_late_answer_is_ignored() -> None:
    pair = Pair()
    request = pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    pair.exchange()
    pair.wait(10.0)
    pair.exchange()
    assert pair.client_events == []
    pair.wait(5.0)
    (answer,) = pair.client_events
    assert isinstance(answer, SignalAnswered)
    assert answer.error is not None
    assert answer.error.code == "timeout"
    pair.server.report_delivery(request, True)
    pair.exchange()
    assert pair.client_events == [answer]


def test_too_many_messages_at_once_close_the_connection() -> None:
    pair = Pair(HubLimits(messages_burst=5, messages_per_second=1.0))
    for _ in range(4):
        pair.server.receive(encode(Ping()), pair.now)
    assert not pair.server.is_closed
    pair.server.receive(encode(Ping()), pair.now)
    assert closing_code(pair) == "rate_limited"


def test_a_large_frame_is_refused_before_authentication() -> None:
    pair = Pair(welcomed=False)
    large = encode(authenticate(ALICE, HELLO, "alice", URL))[:-1] + ',"pad":"' + "x" * 16_384 + '"}'
    pair.server.receive(large, pair.now)
    assert closing_code(pair) == "too_large"


def test_binary_frames_end_the_conversation_on_either_side() -> None:
    pair = Pair()
    pair.server.receive(b"\0", pair.now)
    assert closing_code(pair) == "bad_message"
    pair = Pair()
    assert isinstance(pair.client.receive(b"\0", pair.now)[-1], HubClosed)


def test_the_reason_of_the_end_reaches_the_client() -> None:
    pair = Pair()
    pair.server.close(HubError("Replaced.", remedy="Look for another worker.", code="replaced"))
    pair.server.close(HubError("Twice."))
    pair.exchange()
    (closed,) = pair.client_events
    assert isinstance(closed, HubClosed)
    assert (closed.error.code, closed.error.remedy) == ("replaced", "Look for another worker.")
    assert "Replaced." in str(closed.error)


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
