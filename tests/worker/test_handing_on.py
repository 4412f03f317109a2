"""What programs say does not wait behind commits, large sections wait for their turn, and floods are read slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from test_conversation import ANSWERER_KEY, BUNDLE, DIGEST, OFFERER_KEY, Pair, next_event, talk

from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, limits
from pgpeer.protocol.turns import Turns
from pgpeer.transport.memory import memory_pair
from pgpeer.worker.conversation import Conversation


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = await talk(*memory_pair())
    yield pair
    for one in pair:
        await one.close()


async def meet(*sides: Conversation) -> None:
    for side in sides:
        side.start()
    for side in sides:
        assert isinstance(await next_event(side), events.Authenticated)


async def until(said: list[bytes], count: int) -> None:
    async with asyncio.timeout(10):
        while len(said) < count:  # noqa: ASYNC110 - nothing tells when it is handed on
            await asyncio.sleep(0.005)


async def test_what_programs_say_is_handed_on_before_commits_that_nobody_takes(pair: Pair) -> None:
    first, second = pair
    said: list[bytes] = []
    await first.send_channel(b"early 1")
    await first.send_channel(b"early 2")
    for number in range(1, 30):
        await first.send_section(BUNDLE, DIGEST, number, bytes(50_000))
    await asyncio.sleep(0.1)
    second.hand_on(said.append)
    assert said == [b"early 1", b"early 2"], "what waited comes first"
    for number in range(20):
        await first.send_channel(b"late %d" % number)
    await until(said, 22)
    assert said[2:] == [b"late %d" % number for number in range(20)]
    taken = [await next_event(second) for _ in range(29)]
    assert [event.section_no for event in taken if isinstance(event, events.SectionReceived)] == [
        *range(1, 30)
    ]


async def test_what_a_program_says_and_nobody_can_read_ends_the_conversation_as_a_violation(
    pair: Pair,
) -> None:
    first, second = pair

    def refuse(data: bytes) -> None:
        raise RemoteProtocolError("That is no message.", code="bad_message")

    second.hand_on(refuse)
    await first.send_channel(b"?")
    closed = await next_event(second)
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.is_violation, closed.phase) == ("bad_message", True, "transfer")
    assert second.closed == closed
    assert isinstance(await next_event(first), events.RemoteError)


async def test_of_links_with_large_sections_one_at_a_time_has_its_turn() -> None:
    turns = Turns(1)
    pairs = []
    for number in (1, 2):
        one, other = memory_pair()
        sender = Conversation(one, PrivateKey.from_seed(bytes([number]) * 32), "offerer")
        receiver = Conversation(other, ANSWERER_KEY, "answerer", turns=turns)
        await meet(sender, receiver)
        pairs.append((sender, receiver))
    data = bytes(limits.LARGE_MESSAGE_BYTES + 1)
    for sender, _ in pairs:
        await sender.send_section(BUNDLE, DIGEST, 1, data)
    first = await next_event(pairs[0][1])
    assert isinstance(first, events.SectionReceived)
    waiting = asyncio.create_task(pairs[1][1].events.get())
    await asyncio.sleep(0.2)
    assert not waiting.done(), "the first is not taken care of"
    asking = asyncio.create_task(pairs[0][1].events.get())
    second = await asyncio.wait_for(waiting, 10)
    assert isinstance(second, events.SectionReceived)
    assert second.data == data
    asking.cancel()
    for sender, receiver in pairs:
        receiver.forget()
        await sender.close()
        await receiver.close()
    assert not turns.has_waiting
    turns.ask(lambda: None)
    assert not turns.has_waiting, "all places were given back"


async def test_a_conversation_that_ends_before_the_turn_of_its_message_says_so() -> None:
    turns = Turns(1)
    turns.ask(lambda: None)
    one, other = memory_pair()
    sender, receiver = (
        Conversation(one, OFFERER_KEY, "offerer"),
        Conversation(other, ANSWERER_KEY, "answerer", turns=turns),
    )
    await meet(sender, receiver)
    await sender.send_section(BUNDLE, DIGEST, 1, bytes(limits.LARGE_MESSAGE_BYTES + 1))
    asking = asyncio.create_task(receiver.events.get())
    await asyncio.sleep(0.1)
    assert not asking.done()
    await sender.close()
    assert isinstance(await asyncio.wait_for(asking, 10), events.SessionClosed)
    await receiver.close()


async def test_a_peer_that_asks_for_too_much_work_is_read_slowly_and_not_cut_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WORK_BURST_BYTES", 20_000)
    monkeypatch.setattr(limits, "WORK_BYTES_PER_SECOND", 40_000)
    first, second = pair
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(120):
        await first.send_error("internal", "sync", False, f"error {number}")
    for number in range(120):
        event = await next_event(second)
        assert isinstance(event, events.RemoteError)
        assert event.detail == f"error {number}"
    assert loop.time() - began > 0.5, "60 kB of work at 40 kB a second"
    assert second.established
