"""Messages of any size share frames, and frames from outside can do no harm."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits
from pgpeer.protocol.framing import Assembler, Lane, Outbox

sizes = st.one_of(st.integers(1, 300), st.integers(50_000, 200_000))
waiting = st.lists(st.tuples(st.sampled_from(Lane), sizes), max_size=12)


def assembler() -> Assembler:
    return Assembler(limits.MAX_CONTROL_MESSAGE_BYTES, limits.MAX_DATA_MESSAGE_BYTES)


def message(number: int, size: int) -> bytes:
    return bytes([number]) * size


@given(waiting, st.lists(st.integers(0, 400_000), max_size=8))
def test_messages_arrive_whole_in_the_order_of_their_lane_and_never_above_the_credit(
    queue: list[tuple[Lane, int]], grants: list[int]
) -> None:
    outbox, inbox = Outbox(), assembler()
    sent: dict[Lane, list[bytes]] = {Lane.CONTROL: [], Lane.DATA: []}
    for number, (lane, size) in enumerate(queue):
        outbox.put(lane, message(number, size))
        sent[lane].append(message(number, size))
    arrived: dict[Lane, list[bytes]] = {Lane.CONTROL: [], Lane.DATA: []}
    for credit in [*grants, 10**9]:
        left = credit
        while (found := outbox.next_frame(left)) is not None:
            frame, used = found
            assert len(frame) <= limits.MAX_FRAME_BYTES
            data_bytes = 0
            for segment in inbox.read(frame):
                data_bytes += segment.size if segment.lane is Lane.DATA else 0
                if segment.message is not None:
                    arrived[segment.lane].append(segment.message)
            assert data_bytes == used <= left
            left -= used
    assert arrived == sent
    assert outbox.data_bytes == 0


def test_many_small_messages_share_one_frame() -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.put(Lane.DATA, message(number, 300))
    frame = outbox.next_frame(10**6)
    assert frame is not None
    assert [s.message for s in assembler().read(frame[0])] == [message(n, 300) for n in range(100)]
    assert outbox.next_frame(10**6) is None


def test_a_control_message_passes_a_large_one_on_its_way() -> None:
    outbox, inbox = Outbox(), assembler()
    outbox.put(Lane.DATA, message(1, 300_000))
    first = outbox.next_frame(10**6)
    outbox.put(Lane.CONTROL, b"urgent")
    second = outbox.next_frame(10**6)
    assert first is not None
    assert second is not None
    assert all(segment.message is None for segment in inbox.read(first[0]))
    assert [segment.message for segment in inbox.read(second[0])] == [b"urgent", None]


def test_without_credit_only_control_messages_leave() -> None:
    outbox = Outbox()
    outbox.put(Lane.DATA, b"data")
    assert outbox.next_frame(0) is None
    outbox.put(Lane.CONTROL, b"control")
    found = outbox.next_frame(0)
    assert found is not None
    assert found[1] == 0
    assert [segment.message for segment in assembler().read(found[0])] == [b"control"]


@given(st.binary(max_size=400))
def test_any_frame_is_taken_apart_or_refused_by_one_error(frame: bytes) -> None:
    try:
        for segment in assembler().read(frame):
            assert segment.size > 0
    except RemoteProtocolError:
        pass


FIRST, LAST, DATA = 2, 4, 1


def segment(flags: int, payload: bytes, total: int | None = None) -> bytes:
    head = bytes([flags]) + len(payload).to_bytes(2, "big")
    return head + (b"" if total is None else total.to_bytes(4, "big")) + payload


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [bytes(limits.MAX_FRAME_BYTES + 1)],
        [b"\x06\x00"],
        [segment(FIRST | LAST, b"")],
        [segment(FIRST | LAST, b"abc")[:-1]],
        [segment(FIRST | LAST | 8, b"abc")],
        [segment(LAST, b"abc")],
        [segment(0, b"abc")],
        [segment(FIRST, b"abc", 3)],
        [segment(FIRST, b"abc", 2)],
        [segment(FIRST, b"abc", limits.MAX_CONTROL_MESSAGE_BYTES + 1)],
        [segment(FIRST | DATA, b"abc", limits.MAX_DATA_MESSAGE_BYTES + 1)],
        [segment(FIRST, b"abc", 6), segment(FIRST | LAST, b"abc")],
        [segment(FIRST, b"abc", 6), segment(LAST | DATA, b"def")],
        [segment(FIRST, b"abc", 6), segment(LAST, b"de")],
        [segment(FIRST, b"abc", 6), segment(LAST, b"defg")],
        [segment(FIRST, b"abc", 6), segment(0, b"def")],
    ],
)
def test_a_frame_against_the_rules_is_refused(frames: list[bytes]) -> None:
    inbox = assembler()
    for frame in frames[:-1]:
        assert [s.message for s in inbox.read(frame)] == [None]
    with pytest.raises(RemoteProtocolError):
        list(inbox.read(frames[-1]))


def test_an_announced_length_takes_no_memory() -> None:
    inbox = assembler()
    tracemalloc.start()
    list(inbox.read(segment(FIRST | DATA, b"abc", limits.MAX_DATA_MESSAGE_BYTES)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
