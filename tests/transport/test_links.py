"""What every link promises, whatever carries it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from engines import ENGINES, Engine, Pair

from pgpeer.errors import FrameTooLarge, LinkClosed
from pgpeer.transport.base import HIGH_WATER_BYTES, MAX_FRAME_BYTES, Link


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
async def pair(engine: Engine) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        links = await engine.make(stack)
        yield links
        await asyncio.gather(*(link.close() for link in links))


async def test_frames_arrive_whole_and_in_order_in_both_directions(pair: Pair) -> None:
    frames = [bytes([number % 256]) * (1 + number * 997 % MAX_FRAME_BYTES) for number in range(40)]

    async def send_all(link: Link) -> None:
        for frame in frames:
            await link.send(frame)

    async def receive_all(link: Link) -> list[bytes]:
        return [await link.receive() for _ in frames]

    first, second = pair
    _, _, at_first, at_second = await asyncio.gather(
        send_all(first), send_all(second), receive_all(first), receive_all(second)
    )
    assert at_first == frames
    assert at_second == frames
    total = sum(map(len, frames))
    assert (first.bytes_sent, first.bytes_received) == (total, total)
    assert (second.bytes_sent, second.bytes_received) == (total, total)


async def test_the_largest_frame_passes_and_larger_or_empty_ones_are_refused(pair: Pair) -> None:
    first, second = pair
    for refused in (b"", b"x" * (MAX_FRAME_BYTES + 1)):
        with pytest.raises(FrameTooLarge):
            await first.send(refused)
    await first.send(b"y" * MAX_FRAME_BYTES)
    assert await second.receive() == b"y" * MAX_FRAME_BYTES


async def test_a_sender_is_held_back_while_much_is_buffered(pair: Pair) -> None:
    first, second = pair
    frame = b"z" * MAX_FRAME_BYTES
    count = 3 * HIGH_WATER_BYTES // len(frame)
    highest = 0

    async def send_all() -> None:
        nonlocal highest
        for _ in range(count):
            await first.send(frame)
            highest = max(highest, first.buffered)

    async def receive_all() -> None:
        for _ in range(count):
            await second.receive()

    await asyncio.gather(send_all(), receive_all())
    assert 0 < highest <= HIGH_WATER_BYTES


async def test_each_side_knows_the_certificate_of_the_other(pair: Pair) -> None:
    first, second = pair
    assert len(first.local_fingerprint) == 32
    assert first.local_fingerprint == second.remote_fingerprint
    assert second.local_fingerprint == first.remote_fingerprint
    assert first.local_fingerprint != second.local_fingerprint


async def test_both_sides_agree_on_the_path(pair: Pair) -> None:
    first, second = pair
    assert first.path.local_candidate.address == second.path.remote_candidate.address
    assert first.path.local_candidate.port == second.path.remote_candidate.port
    assert str(first.path.remote_candidate) in str(first.path)


async def test_a_close_delivers_what_was_sent_before_and_ends_the_other_side(pair: Pair) -> None:
    first, second = pair
    for number in range(10):
        await first.send(b"%d" % number * 10_000)
    await first.close()
    assert [await second.receive() for _ in range(10)] == [b"%d" % number * 10_000 for number in range(10)]
    with pytest.raises(LinkClosed) as there:
        await second.receive()
    assert there.value.code == "remote_closed"
    assert second.closed
    with pytest.raises(LinkClosed):
        await second.send(b"too late")


async def test_both_sides_may_close_at_the_same_time(pair: Pair) -> None:
    await asyncio.wait_for(asyncio.gather(*(link.close() for link in pair)), 5)
    assert all(link.closed for link in pair)


@pytest.mark.parametrize("engine", [one for one in ENGINES.values() if one.cut])
async def test_a_cut_ends_both_sides_and_can_be_tried_again(engine: Engine, pair: Pair) -> None:
    assert engine.cut is not None
    first, second = pair
    waiting = asyncio.create_task(second.receive())
    await asyncio.sleep(0)
    engine.cut(first)
    with pytest.raises(LinkClosed) as there:
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(LinkClosed) as here:
        await asyncio.wait_for(first.receive(), 5)
    for closed in (here.value, there.value):
        assert (closed.code, closed.phase, closed.retryable) == ("remote_closed", "transfer", True)
    for link in pair:
        with pytest.raises(LinkClosed):
            await link.send(b"too late")


@pytest.mark.parametrize("engine", [one for one in ENGINES.values() if one.stall])
async def test_a_stall_tells_nobody_and_does_not_hold_up_a_close(engine: Engine, pair: Pair) -> None:
    assert engine.stall is not None
    first, second = pair
    engine.stall(first)
    await first.send(b"never arrives")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.receive(), 0.05)
    assert not second.closed
    await second.send(b"the other direction works")
    assert await first.receive() == b"the other direction works"
    await asyncio.wait_for(first.close(), 3)


async def test_a_slow_reader_gets_everything_in_order(pair: Pair) -> None:
    first, second = pair
    count = 2 * HIGH_WATER_BYTES // MAX_FRAME_BYTES
    frames = [bytes([number]) * MAX_FRAME_BYTES for number in range(count)]

    async def send_all() -> None:
        for frame in frames:
            await first.send(frame)

    sending = asyncio.create_task(send_all())
    await asyncio.sleep(0.2)
    for frame in frames:
        assert await asyncio.wait_for(second.receive(), 20) == frame
        await asyncio.sleep(0)
    await sending


async def test_a_cancelled_send_has_taken_its_frame_and_leaves_the_link_usable(pair: Pair) -> None:
    first, second = pair
    frame = b"f" * MAX_FRAME_BYTES
    taken = 0

    async def flood() -> None:
        nonlocal taken
        while taken < 2 * HIGH_WATER_BYTES // len(frame):
            taken += 1
            await first.send(frame)

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0.05)
    flooding.cancel()
    await asyncio.wait([flooding])
    last = asyncio.create_task(first.send(b"last"))
    received = [await asyncio.wait_for(second.receive(), 20)]
    while received[-1] != b"last":
        received.append(await asyncio.wait_for(second.receive(), 20))
    await last
    assert received == [frame] * taken + [b"last"]


async def test_after_a_close_here_nothing_can_be_sent_or_received(pair: Pair) -> None:
    first, _ = pair
    await first.close()
    await first.close()
    assert first.closed
    with pytest.raises(LinkClosed) as on_send:
        await first.send(b"too late")
    with pytest.raises(LinkClosed) as on_receive:
        await first.receive()
    assert (on_send.value.code, on_receive.value.code) == ("local_closed", "local_closed")


async def test_a_close_wakes_a_waiting_receiver(pair: Pair) -> None:
    first, second = pair
    waiting = asyncio.create_task(second.receive())
    await asyncio.sleep(0)
    await first.close()
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(waiting, 5)


async def test_a_cancelled_receive_loses_no_frame(pair: Pair) -> None:
    first, second = pair
    waiting = asyncio.create_task(second.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await first.send(b"still here")
    assert await second.receive() == b"still here"
