"""A conversation drives a session over a real link."""

import asyncio
import gc
import random
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import LinkClosed, LocalProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, limits
from pgpeer.transport import webrtc
from pgpeer.transport.base import Link
from pgpeer.transport.memory import MemoryLink, memory_pair
from pgpeer.worker import conversation as room
from pgpeer.worker.conversation import Conversation

BUNDLE = UUID(int=7)
DIGEST = b"\x0d" * 32
SIGNATURE = b"\x05" * 64
OFFERER_KEY = PrivateKey.from_seed(b"o" * 32)
ANSWERER_KEY = PrivateKey.from_seed(b"a" * 32)
NOISE = random.Random(1).randbytes(1_000_000)

Pair = tuple[Conversation, Conversation]


async def next_event(conversation: Conversation) -> events.Event:
    return await asyncio.wait_for(conversation.events.get(), 10)


async def talk(first: Link, second: Link) -> Pair:
    """Two started conversations that know each other."""
    pair = (
        Conversation(first, OFFERER_KEY, "offerer", expected_peer_id=ANSWERER_KEY.peer_id, label="ship"),
        Conversation(second, ANSWERER_KEY, "answerer", label="harbour"),
    )
    for one in pair:
        one.start()
    assert await next_event(pair[0]) == events.Authenticated(ANSWERER_KEY.peer_id, "harbour")
    assert await next_event(pair[1]) == events.Authenticated(OFFERER_KEY.peer_id, "ship")
    return pair


async def webrtc_pair() -> tuple[Link, Link]:
    offer = await webrtc.offer()
    answer = await webrtc.answer(offer.sdp)
    return await asyncio.gather(offer.accept(answer.sdp), answer.opened())


@pytest.fixture(params=["memory", "webrtc"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    pair = await talk(*(memory_pair() if request.param == "memory" else await webrtc_pair()))
    yield pair
    for one in pair:
        await one.close()


async def test_a_commit_and_its_sections_travel(pair: Pair) -> None:
    first, second = pair
    await first.send_commit(BUNDLE, b"header", SIGNATURE)
    await first.send_section(BUNDLE, DIGEST, 1, b"1\tAmsterdam\n" * 5000)
    assert await next_event(second) == events.CommitReceived(BUNDLE, b"header", SIGNATURE, 0)
    section = await next_event(second)
    assert isinstance(section, events.SectionReceived)
    assert section.data == b"1\tAmsterdam\n" * 5000
    second.grant(section.credit)
    entry = VectorEntry(bytes(32), 1, 1, DIGEST)
    await second.send_acknowledgement(BUNDLE, [entry])
    assert await next_event(first) == events.AcknowledgementReceived(BUNDLE, (entry,), b"")


async def test_joins_vectors_and_errors_travel(pair: Pair) -> None:
    first, second = pair
    await first.send_join(BUNDLE, bytes(32))
    assert await next_event(second) == events.JoinRequested(BUNDLE, bytes(32))
    await second.accept_join(BUNDLE, {"name": "atlas"})
    await second.refuse_join(BUNDLE, "refused_policy", "used")
    assert await next_event(first) == events.JoinAccepted(BUNDLE, {"name": "atlas"})
    assert await next_event(first) == events.JoinRefused(BUNDLE, "refused_policy", "used")
    await first.send_vector(BUNDLE, [], {DIGEST: [1]})
    assert await next_event(second) == events.VectorReceived(BUNDLE, (), {DIGEST: (1,)})
    await first.send_error("timeout", "sync", True, "slow disk", "wait")
    assert await next_event(second) == events.RemoteError("timeout", "sync", True, "slow disk", "wait")


async def test_a_slow_receiver_holds_the_sender_back(pair: Pair) -> None:
    first, second = pair
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(8):
            await first.send_section(BUNDLE, DIGEST, number + 1, NOISE)
            sent += 1

    sending = asyncio.create_task(send_all())
    arrived = [await next_event(second) for _ in range(4)]
    await asyncio.sleep(0.2)
    assert sent <= (limits.CREDIT_WINDOW_BYTES + limits.OUTBOX_BYTES) // len(NOISE) + 1
    assert second.events.empty()
    for number in range(8):
        section = arrived[number] if number < 4 else await next_event(second)
        assert isinstance(section, events.SectionReceived)
        assert section.section_no == number + 1
        second.grant(section.credit)
    await sending


async def test_many_commits_need_no_grant_but_wait_for_their_reader(pair: Pair) -> None:
    first, second = pair
    count = 40
    header = NOISE[:300_000]

    async def send_all() -> None:
        for _ in range(count):
            await first.send_commit(BUNDLE, header, SIGNATURE)

    sending = asyncio.create_task(send_all())
    await asyncio.sleep(0.3)
    assert second.events.qsize() * len(header) <= limits.CREDIT_WINDOW_BYTES
    for _ in range(count):
        assert isinstance(await next_event(second), events.CommitReceived)
    await sending


async def test_a_close_ends_both_sides(pair: Pair) -> None:
    first, second = pair
    await first.send_commit(BUNDLE, b"last", SIGNATURE)
    await asyncio.sleep(0)
    await first.close("the worker stops")
    await first.close("again")
    assert isinstance(await next_event(first), events.SessionClosed)
    assert isinstance(await next_event(second), events.CommitReceived)
    closed = await next_event(second)
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.detail) == ("remote_closed", "the worker stops")
    await second.wait_closed()
    assert second.link.closed
    with pytest.raises(LinkClosed):
        await second.send_error("internal", "", False, "too late")
    with pytest.raises(LinkClosed):
        await second.send_section(BUNDLE, DIGEST, 1, b"too late")


async def test_the_round_trip_is_known(pair: Pair) -> None:
    first, second = pair
    await first.send_error("timeout", "", True, "")
    await next_event(second)
    await second.send_error("timeout", "", True, "")
    await next_event(first)
    assert first.rtt is not None
    assert 0 <= first.rtt < 1
    assert first.established


async def test_nothing_is_sent_before_the_proof() -> None:
    link, silent = memory_pair()
    one = Conversation(link, OFFERER_KEY, "offerer")
    one.start()
    for early in (one.send_commit(BUNDLE, b"", SIGNATURE), one.send_join(BUNDLE, bytes(32))):
        with pytest.raises(LocalProtocolError):
            await early
    await one.close()
    await silent.close()


async def test_a_waiting_sender_learns_that_the_link_broke() -> None:
    link, other = memory_pair()
    first, second = await talk(link, other)

    async def flood() -> None:
        while True:
            await first.send_section(BUNDLE, DIGEST, 1, NOISE)

    flooding = asyncio.create_task(flood())
    await next_event(second)
    link.cut()
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(flooding, 5)
    closed = await next_event(first)
    assert isinstance(closed, events.SessionClosed)
    assert closed.retryable
    await first.wait_closed()
    await second.wait_closed()


async def test_the_wrong_peer_is_refused_on_both_sides() -> None:
    link, other = memory_pair()
    first = Conversation(link, OFFERER_KEY, "offerer", expected_peer_id=OFFERER_KEY.peer_id)
    second = Conversation(other, ANSWERER_KEY, "answerer")
    first.start()
    second.start()
    here, told, there = await next_event(first), await next_event(second), await next_event(second)
    assert isinstance(here, events.SessionClosed)
    assert isinstance(told, events.RemoteError)
    assert isinstance(there, events.SessionClosed)
    assert here.code == told.code == there.code == "identity_mismatch"
    await first.wait_closed()
    await second.wait_closed()


async def test_a_link_between_other_certificates_is_refused() -> None:
    link, other = memory_pair()
    other.remote_fingerprint = b"\x66" * 32
    first, second = Conversation(link, OFFERER_KEY, "offerer"), Conversation(other, ANSWERER_KEY, "answerer")
    first.start()
    second.start()
    for one in (first, second):
        while not isinstance(closed := await next_event(one), events.SessionClosed):
            pass
        assert closed.code == "bad_signature"
        assert one.peer_id is None
        await one.wait_closed()


async def test_a_dead_peer_is_noticed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PING_SECONDS", 0.1)
    monkeypatch.setattr(limits, "DEAD_SECONDS", 0.5)
    link, other = memory_pair()
    first, second = await talk(link, other)
    await asyncio.sleep(0.7)
    assert first.established, "pings keep an idle conversation alive"
    other.stall()
    closed = await next_event(first)
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.retryable) == ("timeout", True)
    await first.wait_closed()
    await second.wait_closed()


async def test_a_silent_peer_is_slow_and_then_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_SLOW_SECONDS", 0.05)
    monkeypatch.setattr(limits, "HANDSHAKE_FAIL_SECONDS", 0.1)
    link, silent = memory_pair()
    one = Conversation(link, OFFERER_KEY, "offerer")
    one.start()
    assert await next_event(one) == events.SessionSlow("hello")
    closed = await next_event(one)
    assert isinstance(closed, events.SessionClosed)
    assert (closed.code, closed.phase) == ("timeout", "hello")
    await one.wait_closed()
    assert silent.closed


async def test_a_peer_whose_messages_nobody_takes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_WAITING_BYTES", 100_000)
    first, second = await talk(*memory_pair())

    async def flood() -> None:
        while True:
            await first.send_error("timeout", "", True, "x")

    with pytest.raises(LinkClosed):
        await asyncio.wait_for(flood(), 5)
    assert second.events.qsize() < 100
    await first.wait_closed()
    await second.wait_closed()


async def test_sections_that_wait_take_only_their_packed_size() -> None:
    first, second = await talk(*memory_pair())
    zeros = bytes(4_000_000)

    async def send_all() -> None:
        for number in range(50):
            await first.send_section(BUNDLE, DIGEST, number + 1, zeros)

    tracemalloc.start()
    await send_all()
    await asyncio.sleep(0.1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert second.events.qsize() == 50
    assert held < len(zeros)
    for _ in range(50):
        section = await next_event(second)
        assert isinstance(section, events.SectionReceived)
        assert section.data == zeros
        second.grant(section.credit)
    await first.close()
    await second.close()


async def test_a_corrupt_section_ends_the_conversation_when_it_is_taken() -> None:
    first, second = await talk(*memory_pair())
    await first.send_section(BUNDLE, DIGEST, 1, b"1\tAmsterdam\n" * 1000)
    await asyncio.sleep(0.05)
    section = second.events._queue.pop()
    second.events._queue.append(replace(section, data=section.data[:-10] + bytes(10)))
    closed = await next_event(second)
    assert isinstance(closed, events.SessionClosed)
    assert closed.phase == "transfer"
    assert isinstance(await next_event(first), events.RemoteError)
    await first.close()
    await second.close()


async def test_nonsense_on_the_link_ends_the_conversation() -> None:
    link, other = memory_pair()
    one = Conversation(link, OFFERER_KEY, "offerer")
    one.start()
    await other.send(b"GET / HTTP/1.1\r\n\r\n")
    closed = await next_event(one)
    assert isinstance(closed, events.SessionClosed)
    assert closed.code == "bad_message"
    await one.wait_closed()
    last_words = await other.receive()
    assert b"unknown flags" in last_words


async def test_a_dead_link_does_not_hold_up_a_close() -> None:
    link, other = memory_pair()
    first, second = await talk(link, other)
    link.stall()
    other.stall()
    began = asyncio.get_running_loop().time()
    await asyncio.gather(first.close(), second.close())
    assert asyncio.get_running_loop().time() - began < 3


async def test_a_conversation_that_was_never_started_can_be_closed() -> None:
    link, other = memory_pair()
    await Conversation(link, OFFERER_KEY, "offerer").close()
    assert isinstance(link, MemoryLink)
    assert link.closed
    await other.close()


async def test_no_task_stays_behind() -> None:
    before = len(asyncio.all_tasks())
    for _ in range(3):
        first, second = await talk(*memory_pair())
        await first.close()
        await second.close()
    gc.collect()
    assert len(asyncio.all_tasks()) == before
