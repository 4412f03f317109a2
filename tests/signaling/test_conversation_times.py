import pytest
from conversation_pair import BOB, HELLO, Pair, closing_code

from pgpeer.signaling.client import (
    HubClosed,
    HubSlow,
    SignalAnswered,
)
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.wire import encode


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
    slow, answer, closed = pair.client_events
    assert slow == HubSlow("signalling")
    assert isinstance(answer, SignalAnswered)
    assert isinstance(closed, HubClosed)
    assert closed.error.code == "timeout"
    assert closed.error.retryable


@pytest.mark.parametrize("phase", ["hub_connect", "hub_auth"])
def test_connecting_is_first_slow_and_then_fails(phase: str) -> None:
    pair = Pair(welcomed=False)
    if phase == "hub_auth":  # the hub says hello, and then nothing
        pair.client.receive(encode(HELLO), pair.now)
    assert pair.client.next_deadline() == pair.now + 3.0
    pair.wait(2.9)
    assert pair.client_events == []
    pair.wait(0.1)
    assert pair.client_events == [HubSlow(phase)]
    pair.wait(6.9)
    assert pair.client_events == [HubSlow(phase)]
    pair.wait(0.1)
    closed = pair.client_events[-1]
    assert isinstance(closed, HubClosed)
    assert (closed.error.code, closed.error.phase, closed.error.retryable) == ("timeout", phase, True)
    assert closed.error.remedy


def test_a_signal_without_an_answer_fails_and_a_late_answer_is_ignored() -> None:
    pair = Pair()
    request = pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    pair.exchange()
    assert pair.client.next_deadline() == pair.now + 3.0
    pair.wait(2.9)
    assert pair.client_events == []
    pair.wait(0.1)
    assert pair.client_events == [HubSlow("signalling")]
    assert pair.client.next_deadline() == pair.now + 7.0  # a ping
    pair.wait(7.0)
    pair.exchange()
    assert pair.client.next_deadline() == pair.now + 5.0
    pair.wait(4.9)
    assert pair.client_events == [HubSlow("signalling")]
    pair.wait(0.1)
    _, answer = pair.client_events
    assert isinstance(answer, SignalAnswered)
    assert answer.error is not None
    assert answer.error.code == "timeout"
    pair.server.report_delivery(request, True)
    pair.exchange()
    assert pair.client_events == [HubSlow("signalling"), answer]
