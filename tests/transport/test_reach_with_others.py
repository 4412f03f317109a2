"""Strangers and rule breakers at the door of `Reach`, and the worker's conversation on top of it."""

import asyncio
from uuid import UUID

import pytest
from neighbourhood import Neighbourhood, linked, settle
from virtual_time import in_virtual_time

from pgpeer.errors import LinkClosed, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol.events import Authenticated, SectionReceived
from pgpeer.transport.memory import memory_pair
from pgpeer.transport.path_proof import PROOF_FAIL_SECONDS, Hello
from pgpeer.transport.reach import PROVING_LIMIT
from pgpeer.worker.conversation import Conversation


@in_virtual_time
async def test_strangers_who_only_say_hello_leave_nothing_behind_and_are_limited() -> None:
    around = Neighbourhood("relay")
    peer = around.peers[0]
    ends, taking = [], []
    for number in range(PROVING_LIMIT + 1):
        stranger, link = memory_pair()
        key = PrivateKey.from_seed((number + 100).to_bytes(32, "big"))
        hello = Hello(bytes(16), number.to_bytes(32, "big"), key.peer_id, peer.peer_id)
        await stranger.send(hello.encode())
        ends.append(stranger)
        taking.append(asyncio.create_task(peer.reach.take(link)))
    await settle(1)
    assert taking[-1].done()
    error = taking[-1].exception()
    assert isinstance(error, TransportError)
    assert error.code == "target_overloaded"
    await settle(PROOF_FAIL_SECONDS)
    assert all(task.exception() is not None for task in taking)
    assert all(end.closed for end in ends)
    assert peer.reach._contacts == peer.reach._generations == {}
    await around.close()


@in_virtual_time
async def test_a_peer_that_breaks_the_rules_of_the_stream_loses_it_and_may_come_again() -> None:
    around = Neighbourhood("relay")
    here, there = await linked(around)
    around.links[0].other_end.arrive(b"\x09 no such frame")  # reaches b's side
    around.links[0].arrive(b"\x09 no such frame")
    for link in (here, there):
        with pytest.raises(LinkClosed) as closed:
            await link.receive()
        assert closed.value.code == "bad_message"
    renewed, _ = await linked(around)
    assert renewed is not here
    await around.close()


@in_virtual_time
async def test_an_offer_that_is_malformed_ends_the_stream() -> None:
    around = Neighbourhood("relay")
    here, there = await linked(around)
    here.send_signal(b"no offer at all")
    with pytest.raises(LinkClosed) as closed:
        await there.receive()
    assert closed.value.code == "bad_message"
    await around.close()


@in_virtual_time
async def test_a_session_of_the_worker_goes_on_while_its_path_changes() -> None:
    around = Neighbourhood("relay", "webrtc")
    links = await linked(around)
    talks = [
        Conversation(
            link,
            peer.key,
            "offerer" if peer.peer_id < link.peer_id else "answerer",
            expected_peer_id=link.peer_id,
        )
        for link, peer in zip(links, around.peers, strict=True)
    ]
    for talk in talks:
        talk.start()
    for talk in talks:
        assert isinstance(await talk.events.get(), Authenticated)
    bundle = UUID(int=7)
    for number in range(40):
        if number % 4 == 1:
            around.switch_off("webrtc")
        if number % 4 == 3:
            around.up.add("webrtc")
            around.peers[0].reach.hurry()
        await talks[0].send_section(bundle, bytes(32), number + 1, bytes([number]) * 100_000)
        await settle(1)
    for number in range(40):
        event = await asyncio.wait_for(talks[1].events.get(), 5)
        assert isinstance(event, SectionReceived)
        assert (event.section_no, event.data) == (number + 1, bytes([number]) * 100_000)
        talks[1].grant(event.credit)
    assert len(around.peers[0].changes) > 10
    assert all(talk.established for talk in talks)
    await asyncio.gather(*(talk.close() for talk in talks))
    await around.close()
