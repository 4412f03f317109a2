"""What two authenticated sessions do together: vectors, transfer, credit, time, and survival of nonsense."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wiring import (
    ANSWERER_KEY,
    BUNDLE,
    DIGEST,
    OFFERER_FINGERPRINT,
    SIGNATURE,
    Wire,
    answerer,
    entry,
    established,
    offerer,
)

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.states import State

KEY_BYTES = len(OFFERER_FINGERPRINT)


def test_a_join_is_asked_and_answered() -> None:
    wire = established()
    wire.offerer.send_join(BUNDLE, b"\x0b" * 32)
    wire.run()
    assert wire.answerer.events() == [events.JoinRequested(BUNDLE, b"\x0b" * 32)]
    wire.answerer.accept_join(BUNDLE, {"bundle": "atlas", "tables": [{"name": "stadt ö"}]})
    wire.answerer.refuse_join(BUNDLE, "refused_policy", "used up")
    wire.run()
    assert wire.offerer.events() == [
        events.JoinAccepted(BUNDLE, {"bundle": "atlas", "tables": [{"name": "stadt ö"}]}),
        events.JoinRefused(BUNDLE, "refused_policy", "used up"),
    ]


def test_commits_and_sections_arrive_in_order_and_as_they_were() -> None:
    wire = established()
    rows = b"1\tAmsterdam\n" * 1000
    for number in range(3):
        wire.offerer.send_commit(BUNDLE, b"header %d" % number, SIGNATURE)
        wire.offerer.send_section(BUNDLE, DIGEST, 1, rows)
        wire.offerer.send_section(BUNDLE, DIGEST, 2, b"")
    wire.run()
    happened = [
        wire.answerer.unpack(event) if isinstance(event, events.SectionReceived) else event
        for event in wire.answerer.events()
    ]
    assert [type(event).__name__[:7] for event in happened] == ["CommitR", "Section", "Section"] * 3
    assert [e.header for e in happened if isinstance(e, events.CommitReceived)] == [
        b"header 0",
        b"header 1",
        b"header 2",
    ]
    assert [e.data for e in happened if isinstance(e, events.SectionReceived)] == [rows, b""] * 3
    assert sum(map(len, wire.carried["offerer"])) < 2000 + 3 * len(rows) / 10


# Vectors.


def test_a_small_vector_is_sent_whole() -> None:
    wire = established()
    wire.offerer.send_vector(BUNDLE, [entry(1), entry(2)], {DIGEST: [3, 1]})
    wire.run()
    expected = events.VectorReceived(BUNDLE, (entry(1), entry(2)), {DIGEST: (3, 1)})
    assert wire.answerer.events() == [expected]


def test_equal_large_vectors_cost_two_digests() -> None:
    wire = established()
    entries = [entry(number) for number in range(1000)]
    before = sum(len(frame) for frames in wire.carried.values() for frame in frames)
    wire.offerer.send_vector(BUNDLE, entries)
    wire.answerer.send_vector(BUNDLE, list(reversed(entries)))
    wire.run()
    after = sum(len(frame) for frames in wire.carried.values() for frame in frames)
    assert after - before < 200
    for session in (wire.offerer, wire.answerer):
        (vector,) = session.events()
        assert isinstance(vector, events.VectorReceived)
        assert set(vector.entries) == set(entries)


@pytest.mark.parametrize("theirs", [None, [entry(5)], [entry(number) for number in range(1, 1000)]])
def test_a_different_large_vector_is_asked_for(theirs: list | None) -> None:
    wire = established()
    entries = [entry(number) for number in range(1000)]
    if theirs is not None:
        wire.answerer.send_vector(BUNDLE, theirs)
    wire.offerer.send_vector(BUNDLE, entries)
    wire.run()
    (vector,) = wire.answerer.events()
    assert vector == events.VectorReceived(BUNDLE, tuple(entries), {})


def test_a_vector_that_was_never_announced_cannot_be_asked_for() -> None:
    session = established().offerer
    outbox = Outbox()
    outbox.put(Lane.CONTROL, encode(messages.VectorRequest(BUNDLE)))
    found = outbox.next_frame(0)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        session.receive_frame(found[0], 0.0)


# Time.


def test_a_silent_other_side_is_slow_and_then_failed() -> None:
    session = offerer()
    assert session.next_deadline() == limits.HANDSHAKE_SLOW_SECONDS
    session.tick(1.9)
    assert session.events() == []
    session.tick(2.0)
    assert session.events() == [events.SessionSlow("hello")]
    assert session.next_deadline() == limits.HANDSHAKE_FAIL_SECONDS
    session.tick(10.0)
    (closed,) = session.events()
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.phase, closed.retryable) == ("timeout", "hello", True)
    assert session.next_deadline() is None


def test_a_side_that_does_not_prove_itself_is_slow_and_then_failed() -> None:
    session = offerer()
    session.receive_frame(answerer().next_frame() or b"", 1.0)
    session.tick(2.0)
    assert session.events() == [events.SessionSlow("identity")]
    session.tick(10.0)
    (closed,) = session.events()
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.phase) == ("timeout", "identity")


@given(st.floats(0.0, 1e9), st.floats(0.0, 20.0))
def test_a_tick_at_the_deadline_always_moves_it(began: float, heard: float) -> None:
    silent = offerer(now=began)
    greeted = offerer(now=began)
    greeted.receive_frame(answerer(now=began).next_frame() or b"", began + min(heard, 9.0))
    for session in (silent, greeted):
        moments = []
        while (deadline := session.next_deadline()) is not None:
            session.tick(deadline)
            assert deadline not in moments
            moments.append(deadline)
        assert len(moments) == 2


def test_idle_sessions_ping_each_other_and_stay_alive() -> None:
    wire = established()
    for _ in range(200):
        wire.now = min(deadline for s in (wire.offerer, wire.answerer) if (deadline := s.next_deadline()))
        wire.offerer.tick(wire.now)
        wire.answerer.tick(wire.now)
        wire.run()
    assert wire.now >= 500
    assert wire.offerer.state is wire.answerer.state is State.ESTABLISHED
    assert wire.offerer.events() == wire.answerer.events() == []
    frames = sum(map(len, wire.carried.values()))
    assert frames < wire.now


def test_the_round_trip_is_measured() -> None:
    wire = established()
    assert wire.offerer.rtt == 0.0
    wire.offerer.tick(5.0)
    wire.answerer.receive_frame(wire.offerer.next_frame() or b"", 5.04)
    wire.offerer.receive_frame(wire.answerer.next_frame() or b"", 5.08)
    assert wire.offerer.rtt == pytest.approx(0.08)


def test_a_dead_other_side_is_slow_after_eight_seconds_and_over_after_fifteen() -> None:
    session = established().offerer
    session.tick(5.0)
    assert session.next_frame() is not None
    assert session.next_deadline() == 8.0
    session.tick(7.9)
    assert session.events() == []
    session.tick(8.0)
    assert session.events() == [events.SessionSlow("transfer")]
    assert session.next_deadline() == 15.0
    session.tick(14.9)
    assert session.events() == []
    session.tick(15.0)
    (closed,) = session.events()
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.phase, closed.retryable) == ("timeout", "transfer", True)


def test_a_side_that_was_slow_and_answered_is_told_slow_again_when_it_is() -> None:
    wire = established()
    session = wire.offerer
    session.tick(5.0)
    session.tick(8.0)
    assert session.events() == [events.SessionSlow("transfer")]
    wire.now = 9.0
    wire.run()
    assert session.next_deadline() == 14.0
    session.tick(14.0)
    assert session.events() == []
    session.tick(17.0)
    assert session.events() == [events.SessionSlow("transfer")]


def test_a_process_that_slept_asks_before_it_gives_up() -> None:
    wire = established()
    wire.now = 100.0
    wire.offerer.tick(wire.now)
    assert wire.offerer.state is State.ESTABLISHED
    wire.run()
    assert wire.offerer.next_deadline() == 105.0


def test_a_pong_without_a_ping_is_refused() -> None:
    outbox = Outbox()
    outbox.put(Lane.CONTROL, encode(messages.Pong(99)))
    found = outbox.next_frame(0)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        established().offerer.receive_frame(found[0], 0.0)


# Ends.


def test_a_close_is_told_to_the_other_side() -> None:
    wire = established()
    wire.offerer.close("the worker stops")
    wire.run()
    (here,), (there,) = wire.offerer.events(), wire.answerer.events()
    assert isinstance(here, events.SessionClosed)
    assert isinstance(there, events.SessionClosed)
    assert (here.code, there.code) == ("local_closed", "remote_closed")
    assert there.detail == "the worker stops"
    assert there.retryable


def test_unknown_codes_from_the_other_side_are_shown_as_internal() -> None:
    wire = established()
    wire.offerer.send_error("made_up", "nowhere", True, "odd", "none")
    wire.run()
    assert wire.answerer.events() == [events.RemoteError("internal", "", True, "odd", "none")]


def test_a_section_that_cannot_be_unpacked_ends_the_session() -> None:
    wire = established()
    wire.offerer.send_section(BUNDLE, DIGEST, 1, b"1\tAmsterdam\n" * 1000)
    wire.run()
    (event,) = wire.answerer.events()
    assert isinstance(event, events.SectionReceived)
    assert event.packed
    with pytest.raises(RemoteProtocolError):
        wire.answerer.unpack(replace(event, data=event.data[:-10] + bytes(10)))
    assert wire.answerer.state is State.CLOSED
    wire.run()
    told = wire.offerer.events()
    assert isinstance(told[0], events.RemoteError)
    assert told[0].phase == "transfer"


def test_a_section_that_is_not_packed_as_it_says_is_refused_at_once() -> None:
    wire = established()
    outbox = Outbox()
    outbox.put(Lane.DATA, encode(messages.Section(BUNDLE, DIGEST, 1, True, b"not packed")))
    found = outbox.next_frame(10_000)
    assert found is not None
    with pytest.raises(RemoteProtocolError) as refused:
        wire.answerer.receive_frame(found[0], 0.0)
    assert refused.value.phase == "transfer"


@given(st.sampled_from(["new", "greeted", "established"]), st.lists(st.binary(max_size=80), max_size=5))
def test_no_frame_does_more_than_end_the_session(state: str, frames: list[bytes]) -> None:
    session = established().offerer if state == "established" else offerer()
    if state == "greeted":
        session.receive_frame(answerer().next_frame() or b"", 0.0)
    for frame in frames:
        try:
            session.receive_frame(frame, 0.0)
        except RemoteProtocolError:
            assert session.state is State.CLOSED
            assert isinstance(session.events()[-1], events.SessionClosed)


@given(st.integers(0, 2**32), st.integers(0, 255), st.integers(0, 20))
def test_a_changed_byte_in_a_real_conversation_does_no_more_than_end_it(
    place: int, value: int, which: int
) -> None:
    recorded = established()
    recorded.offerer.send_join(BUNDLE, bytes(KEY_BYTES))
    recorded.offerer.send_vector(BUNDLE, [entry(1)], {DIGEST: [1]})
    recorded.offerer.send_commit(BUNDLE, b"header", SIGNATURE)
    recorded.offerer.send_section(BUNDLE, DIGEST, 1, b"1\tAmsterdam\n" * 100)
    recorded.offerer.send_error("timeout", "sync", True, "x")
    recorded.offerer.close()
    recorded.run()
    frames = recorded.carried["offerer"]
    changed = bytearray(frames[which % len(frames)])
    changed[place % len(changed)] = value
    frames[which % len(frames)] = bytes(changed)
    victim = answerer()
    for frame in frames:
        try:
            victim.receive_frame(frame, 0.0)
        except RemoteProtocolError:
            break
    if victim.state is State.CLOSED:
        assert isinstance(victim.events()[-1], events.SessionClosed)
    else:
        assert victim.next_deadline() is not None


def test_the_answerer_takes_anybody_who_proves_it() -> None:
    wire = Wire(offerer(expected_peer_id=None), answerer()).run()
    assert wire.offerer.peer_id == ANSWERER_KEY.peer_id
