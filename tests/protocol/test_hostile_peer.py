"""A proven peer that floods, and does not read what it asks for: bounded memory, a typed end, or no harm."""

import tracemalloc
from uuid import UUID

import pytest
from wiring import BUNDLE, SIGNATURE, entry, established

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.messages import Message
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State


def frames_of(said: list[Message], lane: Lane = Lane.CONTROL) -> list[bytes]:
    outbox, frames = Outbox(), []
    for message in said:
        outbox.put(lane, encode(message))
    while (found := outbox.next_frame(1 << 30)) is not None:
        frames.append(found[0])
    return frames


def growth(session: Session, frames: list[bytes]) -> int:
    """The most bytes that a session took while it heard these frames and nobody read its answers."""
    tracemalloc.start()
    for frame in frames:
        session.receive_frame(frame, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def drained(session: Session) -> int:
    size = 0
    while (frame := session.next_frame()) is not None:
        size += len(frame)
    return size


def test_pings_that_nobody_reads_the_answers_of_take_no_memory() -> None:
    session = established().offerer
    assert growth(session, frames_of([messages.Ping(number) for number in range(100_000)])) < 500_000
    assert drained(session) < 100
    assert session.state is State.ESTABLISHED


def test_a_vector_is_told_once_for_each_announcement() -> None:
    session = established().offerer
    session.send_vector(BUNDLE, [entry(number) for number in range(1000)])
    drained(session)
    (request,) = frames_of([messages.VectorRequest(BUNDLE)])
    session.receive_frame(request, 1.0)
    assert drained(session) > 50_000
    with pytest.raises(RemoteProtocolError):
        session.receive_frame(request, 1.0)
    assert drained(session) < 1000


def test_a_vector_that_was_told_whole_is_not_told_again() -> None:
    session = established().offerer
    session.send_vector(BUNDLE, [entry(1)])
    with pytest.raises(RemoteProtocolError):
        session.receive_frame(frames_of([messages.VectorRequest(BUNDLE)])[0], 1.0)


def test_digests_of_one_bundle_are_answered_once_and_of_endlessly_many_not_at_all() -> None:
    session = established().offerer
    digests: list[Message] = [
        messages.VectorDigest(BUNDLE, number.to_bytes(32, "big")) for number in range(5000)
    ]
    assert growth(session, frames_of(digests)) < 500_000
    assert drained(session) < 100
    digests = [messages.VectorDigest(UUID(int=number), bytes(32)) for number in range(10_000)]
    with pytest.raises(RemoteProtocolError) as refused:
        growth(session, frames_of(digests))
    tracemalloc.stop()
    assert refused.value.code == "rate_limited"
    assert session.state is State.CLOSED
    assert drained(session) < 1000


def test_acknowledgements_of_a_stalled_link_do_not_pile_up() -> None:
    wire = established()
    for number in range(1, 200):
        wire.offerer.send_acknowledgement(BUNDLE, [entry(number)])
        wire.offerer.send_acknowledgement(UUID(int=8), [entry(1)])
    wire.run()
    told = [event for event in wire.answerer.events() if isinstance(event, events.AcknowledgementReceived)]
    assert [(event.bundle_id, event.entries) for event in told] == [
        (BUNDLE, (entry(199),)),
        (UUID(int=8), (entry(1),)),
    ]


def test_an_acknowledgement_is_told_before_the_close() -> None:
    wire = established()
    wire.offerer.send_acknowledgement(BUNDLE, [entry(1)])
    wire.offerer.close()
    wire.run()
    assert [type(event) for event in wire.answerer.events()] == [
        events.AcknowledgementReceived,
        events.SessionClosed,
    ]


def test_data_beyond_the_credit_ends_the_session_within_the_window() -> None:
    session = established().offerer
    section = messages.Section(BUNDLE, bytes(32), 1, False, bytes(50_000))
    frames = frames_of([section] * 200, Lane.DATA)
    with pytest.raises(RemoteProtocolError) as refused:
        growth(session, frames)
    tracemalloc.stop()
    assert refused.value.code == "quota"
    arrived = [event for event in session.events() if isinstance(event, events.SectionReceived)]
    assert len(arrived) * 50_000 <= limits.CREDIT_WINDOW_BYTES


def test_a_large_message_costs_no_more_than_was_sent() -> None:
    session = established().offerer
    frames = frames_of([messages.Commit(BUNDLE, bytes(limits.MAX_HEADER_BYTES), SIGNATURE)], Lane.DATA)
    assert growth(session, frames[:20]) < 3 * sum(map(len, frames[:20]))


@pytest.mark.parametrize("place", [0, 1, 2, 3, 7, 20, -1])
def test_a_frame_that_comes_again_is_no_harm_or_the_end(place: int) -> None:
    """A link cannot repeat frames; a hostile peer can."""
    wire = established()
    wire.offerer.send_vector(BUNDLE, [entry(1)])
    for number in range(20):
        wire.offerer.send_commit(BUNDLE, b"header %d" % number, SIGNATURE)
        wire.offerer.send_section(BUNDLE, bytes(32), 1, b"1\tRome\n" * 1000)
    wire.run()
    frames = wire.carried["offerer"]
    repeated = frames[place % len(frames)]
    try:
        wire.answerer.receive_frame(repeated, 1.0)
    except RemoteProtocolError:
        assert wire.answerer.state is State.CLOSED
