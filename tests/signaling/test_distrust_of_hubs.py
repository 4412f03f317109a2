"""A hub's word counts for what was asked of it, and for nothing else."""

import pytest
from conversation_pair import ALICE, BOB, CAROL, HELLO, URL, Pair

from pgpeer.errors import CODES
from pgpeer.signaling.circuits import shut_error
from pgpeer.signaling.client import ClientConversation, HubClosed, PeerOnline, SignalAnswered
from pgpeer.signaling.client_events import NamespaceChanged
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    CIRCUITS,
    MAILBOX,
    Changes,
    CircuitOffered,
    Follow,
    HubMessage,
    Mail,
    Presence,
    Refusal,
    Welcome,
)
from pgpeer.signaling.wire import encode


def test_only_peers_that_are_watched_now_are_heard_of() -> None:
    pair = Pair()
    word = encode(Presence({BOB.peer_id: "bob", CAROL.peer_id: "carol"}, ()))
    assert pair.client.receive(word, pair.now) == []
    pair.client.watch([BOB.peer_id])
    assert pair.client.receive(word, pair.now) == [PeerOnline(BOB.peer_id, "bob")]
    pair.client.watch([])
    assert pair.client.receive(word, pair.now) == []
    assert not pair.client.is_closed


def test_only_namespaces_that_are_followed_now_are_heard_of() -> None:
    pair = Pair()
    word = encode(Changes("n", (b"record",), (), False))
    assert pair.client.receive(word, pair.now) == []
    pair.client.say(Follow(("n",)))
    assert pair.client.receive(word, pair.now) == [NamespaceChanged("n", (b"record",), (), False)]
    pair.client.say(Follow(()))
    assert pair.client.receive(word, pair.now) == []


@pytest.mark.parametrize(
    ("message", "feature"),
    [(Mail(1, BOB.peer_id, 0, b"box"), MAILBOX), (CircuitOffered(1, BOB.peer_id), CIRCUITS)],
    ids=["mail", "circuit"],
)
def test_what_a_client_does_not_take_ends_the_conversation(message: HubMessage, feature: str) -> None:
    for features in ((), (feature,)):
        client = ClientConversation(ALICE, URL, "alice", HubLimits(), 0.0, features=features)
        for word in (HELLO, Welcome(30.0)):
            client.receive(encode(word), 0.0)
        events = client.receive(encode(message), 0.0)
        if features:
            assert not client.is_closed
        else:
            (closed,) = events
            assert isinstance(closed, HubClosed)
            assert closed.error.code == "bad_message"


@pytest.mark.parametrize("code", ["made_up", "quota"])
def test_a_code_that_nobody_knows_is_shown_as_internal(code: str) -> None:
    pair = Pair()
    request = pair.client.send_box(BOB.peer_id, "sid", b"box", pair.now)
    (answer,) = pair.client.receive(encode(Refusal(code, "because", "", True, request)), pair.now)
    assert isinstance(answer, SignalAnswered)
    assert answer.error is not None
    assert answer.error.code == (code if code in CODES else "internal")
    assert shut_error(code, "because").code == (code if code in CODES else "remote_closed")
