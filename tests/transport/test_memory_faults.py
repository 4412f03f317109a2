"""The faults that the in-memory engine can play."""

import asyncio

import pytest

from pgpeer.errors import LinkClosed
from pgpeer.transport.base import MAX_FRAME_BYTES, MAX_INBOX_BYTES
from pgpeer.transport.memory import memory_pair


async def test_a_cut_link_fails_on_both_sides_and_loses_what_was_under_way() -> None:
    first, second = memory_pair(latency=0.01)
    await first.send(b"lost")
    first.cut()
    for end in (first, second):
        with pytest.raises(LinkClosed):
            await end.receive()
        with pytest.raises(LinkClosed):
            await end.send(b"no")


async def test_a_stalled_link_carries_nothing_and_tells_nobody() -> None:
    first, second = memory_pair()
    first.stall()
    await first.send(b"never arrives")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.receive(), 0.05)
    assert not second.closed
    await second.send(b"the other direction works")
    assert await first.receive() == b"the other direction works"


async def test_latency_delays_each_frame_without_slowing_the_stream() -> None:
    first, second = memory_pair(latency=0.05)
    began = asyncio.get_running_loop().time()
    for _ in range(10):
        await first.send(b"x")
    for _ in range(10):
        await second.receive()
    assert 0.05 <= asyncio.get_running_loop().time() - began < 0.3


async def test_a_side_that_never_receives_is_cut_off_before_memory_runs_out() -> None:
    first, second = memory_pair()
    for _ in range(2 * MAX_INBOX_BYTES // MAX_FRAME_BYTES):
        await first.send(b"x" * MAX_FRAME_BYTES)
    assert second.closed
    with pytest.raises(LinkClosed) as refused:
        await second.send(b"x")
    assert refused.value.code in ("local_closed", "too_large")
