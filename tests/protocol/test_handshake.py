"""Nobody speaks before both sides have proven who they are on this very link."""

import pytest
from wiring import (
    ANSWERER_FINGERPRINT,
    ANSWERER_KEY,
    OFFERER_FINGERPRINT,
    OFFERER_KEY,
    Wire,
    answerer,
    established,
    offerer,
)

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.handshake import Side, transcript
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State


def frame_of(*said: messages.Message) -> bytes:
    outbox = Outbox()
    for message in said:
        outbox.put(Lane.CONTROL, encode(message))
    found = outbox.next_frame(0)
    assert found is not None
    return found[0]


def closing(session: Session) -> events.SessionClosed:
    last = session.events()[-1]
    assert isinstance(last, events.SessionClosed)
    return last


def test_both_sides_learn_who_the_other_is() -> None:
    wire = established()
    assert wire.offerer.peer_id == ANSWERER_KEY.peer_id
    assert wire.answerer.peer_id == OFFERER_KEY.peer_id


def test_a_handshake_takes_one_round_trip_and_few_bytes() -> None:
    wire = established()
    assert sum(map(len, wire.carried["offerer"])) < 600
    assert len(wire.carried["offerer"]) <= 3  # hello, authentication, and the answer to a first ping


@pytest.mark.parametrize(
    "man_in_the_middle",
    [
        {"remote_fingerprint": b"\x66" * 32},
        {"local_fingerprint": b"\x66" * 32},
        {"local_fingerprint": b"\x66" * 32, "remote_fingerprint": b"\x77" * 32},
    ],
)
def test_other_certificates_than_those_of_the_link_are_refused(man_in_the_middle: dict[str, bytes]) -> None:
    wire = Wire(offerer(), answerer(**man_in_the_middle)).run()
    for session in (wire.offerer, wire.answerer):
        assert session.state is State.CLOSED
        assert session.peer_id is None
        assert closing(session).code == "bad_signature"


def test_swapped_roles_are_refused() -> None:
    wire = Wire(offerer(), answerer(role="offerer")).run()
    assert closing(wire.offerer).code == "bad_signature"


def test_a_replayed_conversation_is_refused() -> None:
    recorded = established().carried["offerer"]
    victim = answerer(nonce=b"\x09" * 32)
    victim.receive_frame(recorded[0], 0.0)
    with pytest.raises(RemoteProtocolError) as refused:
        victim.receive_frame(recorded[1], 0.0)
    assert refused.value.code == "bad_signature"
    assert victim.state is State.CLOSED


def test_a_sides_own_words_sent_back_are_refused() -> None:
    session = offerer(expected_peer_id=None)
    hello = session.next_frame()
    assert hello is not None
    with pytest.raises(RemoteProtocolError) as refused:
        session.receive_frame(hello, 0.0)
    assert refused.value.code == "identity_mismatch"


def test_a_sides_own_proof_under_another_name_is_refused() -> None:
    """A thief claims to be the answerer and sends the offerer's own signature back."""
    session = offerer()
    session.next_frame()
    session.receive_frame(frame_of(messages.Hello(1, ANSWERER_KEY.peer_id, b"\x08" * 32, "thief")), 0.0)
    own = OFFERER_KEY.sign(
        "auth",
        transcript(
            1,
            Side(OFFERER_FINGERPRINT, b"\x03" * 32, OFFERER_KEY.peer_id),
            Side(ANSWERER_FINGERPRINT, b"\x08" * 32, ANSWERER_KEY.peer_id),
            "offerer",
        ),
    )
    assert frame_of(messages.Authentication(own)) == session.next_frame()
    with pytest.raises(RemoteProtocolError) as refused:
        session.receive_frame(frame_of(messages.Authentication(own)), 0.0)
    assert refused.value.code == "bad_signature"


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    session = offerer()
    session.receive_frame(frame_of(messages.Hello(1, ANSWERER_KEY.peer_id, b"\x08" * 32, "")), 0.0)
    said = transcript(
        1,
        Side(OFFERER_FINGERPRINT, b"\x03" * 32, OFFERER_KEY.peer_id),
        Side(ANSWERER_FINGERPRINT, b"\x08" * 32, ANSWERER_KEY.peer_id),
        "answerer",
    )
    with pytest.raises(RemoteProtocolError):
        session.receive_frame(frame_of(messages.Authentication(ANSWERER_KEY.sign("commit", said))), 0.0)


def test_another_peer_than_the_expected_one_is_refused_and_told() -> None:
    stranger = PrivateKey.from_seed(b"s" * 32)
    wire = Wire(offerer(), answerer(key=stranger)).run()
    assert closing(wire.offerer).code == "identity_mismatch"
    told = wire.answerer.events()
    assert isinstance(told[0], events.RemoteError)
    assert (told[0].code, told[0].phase) == ("identity_mismatch", "identity")
    assert isinstance(told[1], events.SessionClosed)
    assert not told[1].retryable


@pytest.mark.parametrize("peer_id", ["", "pg1", ANSWERER_KEY.peer_id[:-1] + "a", "x" * 64])
def test_a_malformed_peer_id_is_refused(peer_id: str) -> None:
    session = offerer(expected_peer_id=None)
    with pytest.raises(RemoteProtocolError) as refused:
        session.receive_frame(frame_of(messages.Hello(1, peer_id, bytes(32), "")), 0.0)
    assert refused.value.code == "identity_mismatch"


def test_another_version_is_refused_with_a_remedy() -> None:
    session = offerer()
    with pytest.raises(RemoteProtocolError) as refused:
        session.receive_frame(frame_of(messages.Hello(2, ANSWERER_KEY.peer_id, bytes(32), "")), 0.0)
    assert (refused.value.code, refused.value.phase) == ("version_mismatch", "hello")
    assert refused.value.remedy


def test_a_large_message_before_the_proof_is_refused_at_its_first_part() -> None:
    outbox = Outbox()
    outbox.put(Lane.CONTROL, bytes(100_000))
    found = outbox.next_frame(0)
    assert found is not None
    with pytest.raises(RemoteProtocolError) as refused:
        answerer().receive_frame(found[0], 0.0)
    assert refused.value.code == "too_large"


def test_no_data_is_taken_before_the_proof() -> None:
    outbox = Outbox()
    outbox.put(Lane.DATA, b"x")
    found = outbox.next_frame(10_000)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        answerer().receive_frame(found[0], 0.0)


def test_nothing_can_be_sent_before_the_proof() -> None:
    session = offerer()
    assert not session.wants_section()
    with pytest.raises(LocalProtocolError):
        session.send_error("internal", "", False, "too early")


def test_a_proof_and_what_follows_it_may_share_a_frame() -> None:
    wire = Wire()
    wire.step()
    assert wire.offerer.state is State.ESTABLISHED
    wire.offerer.send_error("internal", "", False, "x" * 4000)
    wire.offerer.send_error("internal", "", False, "x" * 4000)
    wire.offerer.send_error("internal", "", False, "x" * 4000)
    wire.run()
    happened = wire.answerer.events()
    assert isinstance(happened[0], events.Authenticated)
    assert len(happened) == 4
