"""Large messages take turns, work beyond the rate slows its sender, and programs share frames with commits."""

from __future__ import annotations

import pytest
from wiring import BUNDLE, established

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Assembler, Lane, Outbox
from pgpeer.protocol.messages import Message, MessageType
from pgpeer.protocol.packing import Packer
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State
from pgpeer.protocol.turns import LargeIntake, Turns
from pgpeer.protocol.workload import Workload

LARGE = limits.LARGE_MESSAGE_BYTES + limits.CREDIT_WINDOW_BYTES


def frames_of(*said: Message) -> list[bytes]:
    frames = []
    for message in said:
        outbox = Outbox()
        outbox.put(Lane.DATA, encode(message))
        while (found := outbox.next_frame(1 << 40)) is not None:
            frames.append(found[0])
    return frames


def section(size: int) -> messages.Section:
    return messages.Section(BUNDLE, bytes(32), 1, False, bytes(size))


def receiving(turns: Turns) -> Session:
    session = established().answerer
    session.large = LargeIntake(turns, session.grant, lambda: None)
    return session


def drained(session: Session) -> int:
    """How much credit a session gives."""
    assembler, granted = Assembler(1 << 23, 1 << 27), 0
    while (frame := session.next_frame()) is not None:
        for segment in assembler.read(frame):
            if segment.message is not None and segment.message[1] == MessageType.GRANT:
                granted += (
                    int.from_bytes(segment.message[3:], "big")
                    if len(segment.message) > 3
                    else segment.message[2]
                )
    return granted


def fed(session: Session, frames: list[bytes], now: float = 1.0) -> None:
    for frame in frames:
        session.receive_frame(frame, now)


def test_a_large_message_is_granted_as_it_comes_only_in_its_turn() -> None:
    turns = Turns(1)
    first, second = receiving(turns), receiving(turns)
    frames = frames_of(section(LARGE))
    fed(first, frames[:20])
    fed(second, frames[:20])
    assert drained(first) > 15 * limits.MAX_FRAME_BYTES
    assert drained(second) == 0
    fed(first, frames[20:])
    assert drained(second) == 0, "the owner of the first is not done with it"
    assert [event.is_large for event in first.events() if isinstance(event, events.SectionReceived)] == [True]
    first.large.done()
    assert drained(second) > 15 * limits.MAX_FRAME_BYTES


def test_without_its_turn_no_more_than_the_window_is_taken() -> None:
    turns = Turns(1)
    turns.ask(lambda: None)
    session = receiving(turns)
    frames = frames_of(section(LARGE))
    with pytest.raises(RemoteProtocolError) as refused:
        fed(session, frames)
    assert refused.value.code == "quota"


def test_what_becomes_large_when_it_is_unpacked_has_a_turn_too() -> None:
    turns = Turns(1)
    session = receiving(turns)
    packed = Packer()._compressor.compress(bytes(limits.LARGE_MESSAGE_BYTES + 1))
    fed(session, frames_of(messages.Section(BUNDLE, bytes(32), 1, True, packed)))
    assert session.large.is_ready
    turns.ask(lambda: None)
    assert turns.has_waiting
    session.large.done()
    assert not turns.has_waiting


@pytest.mark.parametrize("way", ["closed", "violation", "forgotten"])
def test_a_session_that_is_over_gives_its_turns_back(way: str) -> None:
    turns = Turns(1)
    session = receiving(turns)
    fed(session, frames_of(section(LARGE))[:5])
    if way == "closed":
        session.close()
    elif way == "violation":
        with pytest.raises(RemoteProtocolError):
            session.receive_frame(b"\xff\0\1x", 1.0)
    else:
        fed(session, frames_of(section(LARGE))[5:])
        session.large.forget()
    began: list[bool] = []
    turns.ask(lambda: began.append(True))
    assert began == [True]


def test_a_large_message_that_drips_while_others_wait_ends_its_link() -> None:
    turns = Turns(1)
    session = receiving(turns)
    frames = frames_of(section(LARGE))
    fed(session, frames[:3])
    session.tick(1.0 + limits.LARGE_STALL_SECONDS)
    assert session.state is State.ESTABLISHED, "nobody waits"
    turns.ask(lambda: None)
    fed(session, frames[3:4], 5.0 + limits.LARGE_STALL_SECONDS)
    session.tick(2.0 + 2 * limits.LARGE_STALL_SECONDS)
    assert session.state is State.CLOSED
    assert not turns.has_waiting


def test_a_large_message_that_comes_fast_enough_goes_on_while_others_wait() -> None:
    turns = Turns(1)
    session = receiving(turns)
    frames = frames_of(section(LARGE))
    fed(session, frames[:1])
    turns.ask(lambda: None)
    moment = 1.0
    for start in range(1, len(frames), 5):
        fed(session, frames[start : start + 5], moment)
        session.tick(moment)
        moment += limits.LARGE_STALL_SECONDS
    assert session.state is State.ESTABLISHED


def test_work_beyond_the_rate_is_paid_with_time() -> None:
    work = Workload(0.0)
    for _ in range(limits.WORK_BURST_BYTES // limits.WORK_BYTES_PER_SECOND):
        work.charge(MessageType.VECTOR, limits.WORK_BYTES_PER_SECOND, 0.0)
    assert work.pause(0.0) == 0.0
    work.charge(MessageType.VECTOR, limits.WORK_BYTES_PER_SECOND, 0.0)
    assert work.pause(0.0) == pytest.approx(1.0)
    assert work.pause(0.5) == pytest.approx(0.5)
    assert work.pause(1.5) == 0.0


def test_small_messages_cost_too_and_commits_nothing() -> None:
    work = Workload(0.0)
    for _ in range(100_000):
        work.charge(MessageType.SECTION, 100_000, 0.0)
        work.charge(MessageType.CHANNEL, 100_000, 0.0)
    assert work.pause(0.0) == 0.0
    for _ in range(100_000):
        work.charge(MessageType.ERROR, 10, 0.0)
    assert work.pause(0.0) > 10


# Programs and commits share frames.


def test_programs_get_half_of_each_frame_while_commits_wait() -> None:
    outbox, assembler = Outbox(), Assembler(1 << 23, 1 << 27)
    for _ in range(10):
        outbox.put(Lane.DATA, bytes(200_000))
        outbox.put_program(b"p" * 200_000)
    size = {Lane.CONTROL: 0, Lane.DATA: 0}
    for _ in range(30):
        found = outbox.next_frame(1 << 40)
        assert found is not None
        for segment in assembler.read(found[0]):
            size[segment.lane] += segment.size
    assert size[Lane.DATA] == pytest.approx(size[Lane.CONTROL], rel=0.05)


def test_a_program_has_whole_frames_when_no_commit_may_be_sent() -> None:
    outbox = Outbox()
    outbox.put(Lane.DATA, bytes(200_000))
    outbox.put_program(b"p" * 200_000)
    found = outbox.next_frame(0)
    assert found is not None
    assert len(found[0]) == limits.MAX_FRAME_BYTES
    assert found[1] == 0


def test_control_messages_pass_programs_that_have_not_begun_and_wait_for_one_that_has() -> None:
    outbox, assembler = Outbox(), Assembler(1 << 23, 1 << 27)
    outbox.put_program(b"1" * 100_000)
    outbox.put_program(b"2" * 1000)
    order: list[bytes] = []

    def send() -> None:
        found = outbox.next_frame(1 << 40)
        assert found is not None
        order.extend(one.message[:1] for one in assembler.read(found[0]) if one.message is not None)

    send()
    outbox.put(Lane.CONTROL, b"c")
    send()
    assert order == [b"1", b"c", b"2"]


def test_what_has_not_begun_is_forgotten_when_a_session_closes() -> None:
    wire = established()
    wire.offerer.send_channel(b"x" * 200_000)
    wire.offerer.send_channel(b"y" * 200_000)
    frame = wire.offerer.next_frame()
    assert frame is not None
    wire.answerer.receive_frame(frame, 1.0)
    wire.offerer.close()
    wire.run()
    heard = wire.answerer.events()
    assert [event.data[:1] for event in heard if isinstance(event, events.ChannelReceived)] == [b"x"]
    assert isinstance(heard[-1], events.SessionClosed)
    assert not heard[-1].is_violation


def test_what_other_sides_say_is_printable() -> None:
    wire = established()
    wire.offerer.send_error("internal", "sync", False, "red \x1b[31m\n\0", "bell\a")
    wire.offerer.close("by\be")
    wire.run()
    error, closed = wire.answerer.events()[-2:]
    assert isinstance(error, events.RemoteError)
    assert isinstance(closed, events.SessionClosed)
    assert (error.detail, error.hint, closed.detail) == (
        "red \ufffd[31m\ufffd\ufffd",
        "bell\ufffd",
        "by\ufffde",
    )
