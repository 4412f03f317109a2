import pytest
from conversation_pair import BOB, CAROL, Pair, closing_code

from pgpeer.errors import HubError, LocalProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.client import (
    BoxReceived,
    HubClosed,
    PeerOffline,
    PeerOnline,
    SignalAnswered,
)
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    Ping,
    Watch,
)
from pgpeer.signaling.server import SignalRequested, WatchRequested
from pgpeer.signaling.wire import encode


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
    pair.client.watch([BOB.peer_id, CAROL.peer_id])
    pair.server.push_presence(BOB.peer_id, "bob")
    pair.server.push_presence(CAROL.peer_id, None)
    pair.server.push_presence(BOB.peer_id, None)
    pair.server.push_presence(BOB.peer_id, "bob again")
    pair.exchange()
    assert pair.client_events == [PeerOnline(BOB.peer_id, "bob again"), PeerOffline(CAROL.peer_id)]


def test_many_presences_are_split_into_frames_that_fit() -> None:
    pair = Pair()
    keys = [PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(250)]
    pair.client.watch(key.peer_id for key in keys)
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


def test_too_many_messages_at_once_close_the_connection() -> None:
    pair = Pair(HubLimits(messages_burst=5, messages_per_second=1.0))
    for _ in range(4):
        pair.server.receive(encode(Ping()), pair.now)
    assert not pair.server.is_closed
    pair.server.receive(encode(Ping()), pair.now)
    assert closing_code(pair) == "rate_limited"


def test_the_reason_of_the_end_reaches_the_client() -> None:
    pair = Pair()
    pair.server.close(HubError("Replaced.", remedy="Look for another worker.", code="replaced"))
    pair.server.close(HubError("Twice."))
    pair.exchange()
    (closed,) = pair.client_events
    assert isinstance(closed, HubClosed)
    assert (closed.error.code, closed.error.remedy) == ("replaced", "Look for another worker.")
    assert "Replaced." in str(closed.error)
