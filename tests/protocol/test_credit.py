"""The receiver decides how much may be under way."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wiring import BUNDLE, DIGEST, SIGNATURE, Wire, entry, established

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.session import Session

NOISE = random.Random(1).randbytes(limits.LARGE_MESSAGE_BYTES + 500_000)


def sections_of(session: Session) -> list[events.SectionReceived]:
    return [session.unpack(event) for event in session.events() if isinstance(event, events.SectionReceived)]


def send_until_held(wire: Wire, data: bytes, most: int = 1000) -> int:
    """Send sections while the session wants them; give how many."""
    for number in range(most):
        if not wire.offerer.wants_section():
            return number
        wire.offerer.send_section(BUNDLE, DIGEST, number + 1, data)
        wire.run()
    return most


def test_a_receiver_that_grants_nothing_gets_one_window_and_no_more() -> None:
    wire = established()
    section = NOISE[:100_000]
    before = len(wire.carried["offerer"])
    send_until_held(wire, section)
    sent = sum(map(len, wire.carried["offerer"][before:]))
    assert limits.CREDIT_WINDOW_BYTES - len(section) < sent <= limits.CREDIT_WINDOW_BYTES + 1000
    with pytest.raises(LocalProtocolError):
        wire.offerer.send_section(BUNDLE, DIGEST, 1, section)
    arrived = sections_of(wire.answerer)
    assert sum(event.credit for event in arrived) <= limits.CREDIT_WINDOW_BYTES
    wire.answerer.grant(sum(event.credit for event in arrived))
    wire.run()
    assert wire.offerer.wants_section()


def test_control_messages_pass_when_there_is_no_credit() -> None:
    wire = established()
    send_until_held(wire, NOISE[:100_000])
    wire.answerer.events()
    wire.offerer.send_acknowledgement(BUNDLE, [entry(1)], SIGNATURE)
    wire.run()
    assert events.AcknowledgementReceived(BUNDLE, (entry(1),), SIGNATURE) in wire.answerer.events()


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=40), st.randoms())
def test_whatever_is_granted_when_everything_arrives_and_the_window_holds(
    sizes: list[int], chance: random.Random
) -> None:
    wire = established()
    waiting: list[events.SectionReceived] = []
    arrived = []
    for number, size in enumerate(sizes, 1):
        while not wire.offerer.wants_section():
            assert waiting, "held back although everything was granted"
            wire.answerer.grant(waiting.pop(0).credit)
            wire.run()
        wire.offerer.send_section(BUNDLE, DIGEST, number, NOISE[:size])
        wire.run()
        waiting += (new := sections_of(wire.answerer))
        arrived += [len(event.data) for event in new]
        assert sum(event.credit for event in waiting) <= limits.CREDIT_WINDOW_BYTES
        if waiting and chance.random() < 0.3:
            wire.answerer.grant(waiting.pop(chance.randrange(len(waiting))).credit)
            wire.run()
    while waiting:
        wire.answerer.grant(waiting.pop().credit)
        wire.run()
        waiting += (new := sections_of(wire.answerer))
        arrived += [len(event.data) for event in new]
    assert arrived == sizes


def test_a_section_larger_than_the_window_arrives() -> None:
    wire = established()
    large = NOISE * 3
    assert len(large) > limits.CREDIT_WINDOW_BYTES
    wire.offerer.send_section(BUNDLE, DIGEST, 1, large)
    wire.run()
    (event,) = sections_of(wire.answerer)
    assert event.data == large
    assert event.credit == 0
    wire.answerer.grant(0)


def test_granting_more_than_arrived_is_a_bug_here() -> None:
    wire = established()
    wire.offerer.send_section(BUNDLE, DIGEST, 1, b"row")
    wire.run()
    (event,) = sections_of(wire.answerer)
    for wrong in (-1, event.credit + 1):
        with pytest.raises(LocalProtocolError):
            wire.answerer.grant(wrong)
    wire.answerer.grant(event.credit)
    with pytest.raises(LocalProtocolError):
        wire.answerer.grant(1)


def test_a_sender_that_ignores_its_credit_is_cut_off() -> None:
    wire = established()
    outbox = Outbox()
    for number in range(60):
        outbox.put(Lane.DATA, encode(messages.Section(BUNDLE, DIGEST, number + 1, False, NOISE[:100_000])))

    def flood() -> None:
        while (found := outbox.next_frame(10**9)) is not None:
            wire.answerer.receive_frame(found[0], 0.0)

    with pytest.raises(RemoteProtocolError) as refused:
        flood()
    assert refused.value.code == "quota"
    assert sum(e.credit for e in sections_of(wire.answerer)) <= limits.CREDIT_WINDOW_BYTES


def test_a_grant_for_nothing_is_refused() -> None:
    outbox = Outbox()
    outbox.put(Lane.CONTROL, encode(messages.Grant(1)))
    found = outbox.next_frame(0)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        established().offerer.receive_frame(found[0], 0.0)
