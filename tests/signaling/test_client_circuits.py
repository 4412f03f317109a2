"""The client's side of circuits. Rows B7 (each reason reachable) and B15 (data types, sizes)."""

from __future__ import annotations

from collections import deque

import pytest
from conversation_pair import BOB, Pair

from pgpeer.errors import HubError, LocalProtocolError
from pgpeer.signaling.circuits import (
    OFFERS_LIMIT,
    WINDOW_BYTES,
    CircuitBytes,
    CircuitCredit,
    CircuitEnded,
    CircuitIncoming,
    CircuitShut,
    ClientCircuits,
)
from pgpeer.signaling.client import HubClosed, HubSlow
from pgpeer.signaling.client_events import RequestAnswered
from pgpeer.signaling.messages import (
    Accept,
    CircuitOffered,
    CircuitOpened,
    ClientMessage,
    Credit,
    End,
    OpenCircuit,
    Shut,
)
from pgpeer.signaling.wire import decode_for_hub


class Client:
    """Circuits without a connection."""

    def __init__(self) -> None:
        self.frames: deque[str | bytes] = deque()
        self.circuits = ClientCircuits(self.frames)

    def said(self) -> list[ClientMessage | bytes]:
        frames = [one if isinstance(one, bytes) else decode_for_hub(one, 65_536) for one in self.frames]
        self.frames.clear()
        return frames


def test_an_open_circuit_grants_a_window_and_sends_within_its_credit() -> None:
    client = Client()
    client.circuits.begin(3)
    assert client.said() == [Credit(3, WINDOW_BYTES)]
    assert client.circuits.send(3, b"early") == 0
    assert client.circuits.take(Credit(3, 20_000)) == [CircuitCredit(3)]
    assert client.circuits.send(3, b"x" * 30_000) == 20_000
    sizes = [len(frame) for frame in client.said()]
    assert sizes == [8 + 16_384, 8 + 3_616]
    assert client.circuits.send(3, b"x") == 0


def test_an_offer_is_accepted_or_refused_and_can_be_taken_back() -> None:
    client = Client()
    assert client.circuits.take(CircuitOffered(1, BOB.peer_id)) == [CircuitIncoming(1, BOB.peer_id)]
    with pytest.raises(LocalProtocolError):
        client.circuits.send(1, b"x")
    client.circuits.accept(1)
    client.circuits.accept(1)
    assert client.said() == [Accept(1), Credit(1, WINDOW_BYTES)]
    client.circuits.take(CircuitOffered(2, BOB.peer_id))
    client.circuits.shut(2, "refused_policy", "no")
    client.circuits.shut(2, "refused_policy", "no")
    assert client.said() == [Shut(2, "refused_policy", "no")]
    client.circuits.take(CircuitOffered(3, BOB.peer_id))
    (over,) = client.circuits.take(Shut(3, "timeout", "too late"))
    assert isinstance(over, CircuitShut)
    assert (over.error.code, over.error.retryable) == ("timeout", True)
    client.circuits.accept(3)
    assert client.said() == []


def test_offers_beyond_the_limit_are_refused_at_once() -> None:
    client = Client()
    for number in range(1, OFFERS_LIMIT + 1):
        assert client.circuits.take(CircuitOffered(number, BOB.peer_id))
    assert client.circuits.take(CircuitOffered(OFFERS_LIMIT + 1, BOB.peer_id)) == []
    (refusal,) = client.said()
    assert isinstance(refusal, Shut)
    assert refusal.code == "target_overloaded"


def test_credit_goes_back_by_half_windows_of_what_was_read() -> None:
    client = Client()
    client.circuits.begin(1)
    client.said()
    assert client.circuits.receive(1, b"x" * 65_000) == [CircuitBytes(1, b"x" * 65_000)]
    client.circuits.consumed(1, 65_000)
    assert client.said() == []
    client.circuits.receive(1, b"x" * 66_072)
    client.circuits.consumed(1, 66_072)
    assert client.said() == [Credit(1, WINDOW_BYTES // 2)]


def test_both_ends_end_a_circuit_and_late_words_for_it_do_no_harm() -> None:
    client = Client()
    client.circuits.begin(1)
    assert client.circuits.take(End(1)) == [CircuitEnded(1)]
    client.circuits.end(1)
    assert client.circuits.take(Credit(1, 5)) == []
    assert client.circuits.receive(1, b"late") == []
    client.circuits.shut(1, "timeout", "")
    with pytest.raises(LocalProtocolError):
        client.circuits.send(1, b"x")
    with pytest.raises(LocalProtocolError):
        client.circuits.end(1)


def test_what_was_ended_cannot_be_sent_on() -> None:
    client = Client()
    client.circuits.begin(1)
    client.circuits.take(Credit(1, 100))
    client.circuits.end(1)
    client.circuits.end(1)
    assert client.said()[-1] == End(1)
    with pytest.raises(LocalProtocolError):
        client.circuits.send(1, b"x")


@pytest.mark.parametrize(
    "sends",
    [
        lambda pair: pair.client.receive((9).to_bytes(8, "big") + b"x", pair.now),
        lambda pair: pair.client.receive((1).to_bytes(8, "big") + b"x" * 60_000, pair.now),
        lambda pair: pair.client.receive(b"\0" * 8, pair.now),
        lambda pair: [pair.server.push(End(1)), pair.server.push(End(1)), pair.exchange()],
        lambda pair: [pair.server.push(CircuitOffered(1, BOB.peer_id)), pair.exchange()],
        lambda pair: [
            pair.server.push(CircuitOffered(2, BOB.peer_id)),
            pair.server.push(Credit(2, 1)),
            pair.exchange(),
        ],
    ],
    ids=["unknown circuit", "no credit", "no data", "two ends", "an old number", "credit for an offer"],
)
def test_a_hub_that_breaks_the_rules_of_circuits_is_left(sends) -> None:  # noqa: ANN001
    pair = Pair()
    pair.client.circuits.begin(1)
    for _ in range(4):
        pair.client.circuits.receive(1, b"x" * 60_000)
    sends(pair)
    pair.exchange()
    assert pair.client.is_closed


def test_a_circuit_that_opens_too_late_is_shut_and_one_that_opens_in_time_is_told() -> None:
    pair = Pair()
    first = pair.client.ask(lambda number: OpenCircuit(number, BOB.peer_id), pair.now)
    pair.exchange()
    assert pair.server_events == [OpenCircuit(first, BOB.peer_id)]
    for _ in range(3):
        pair.wait(5.0)
        pair.exchange()
    slow, failed = pair.client_events
    assert slow == HubSlow("signalling")
    assert isinstance(failed, RequestAnswered)
    assert failed.error is not None
    assert failed.error.code == "timeout"
    pair.server.push(CircuitOpened(first, 1))
    pair.exchange()
    assert pair.server_events[-1] == Shut(1, "timeout", "The circuit was opened too late.")
    second = pair.client.ask(lambda number: OpenCircuit(number, BOB.peer_id), pair.now)
    pair.server.push(CircuitOpened(second, 2))
    pair.exchange()
    assert pair.client_events[-1] == RequestAnswered(second, CircuitOpened(second, 2))


def test_a_lost_connection_shuts_its_circuits_before_it_says_that_it_is_over() -> None:
    pair = Pair()
    pair.client.circuits.begin(1)
    events = pair.client.close(HubError("gone", code="timeout"))
    assert [type(event) for event in events] == [CircuitShut, HubClosed]
