"""Reaching peers by several ways, in virtual time."""

import asyncio

import pytest
from neighbourhood import Neighbourhood, linked, settle
from virtual_time import in_virtual_time

from pgpeer.errors import LinkClosed, TransportError
from pgpeer.transport.base import PathKind
from pgpeer.transport.memory import memory_pair
from pgpeer.transport.multipath import PATHLESS_SECONDS, WARM_SECONDS
from pgpeer.transport.path_proof import PROOF_FAIL_SECONDS
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.pulse import DEAD_SECONDS, PING_SECONDS, SUSPECT_SECONDS
from pgpeer.transport.race import LONGEST_DELAY_SECONDS


def kinds(*links: PeerLink) -> list[PathKind]:
    return [link.path.kind for link in links]


@in_virtual_time
async def test_the_relay_is_used_at_once_and_a_better_path_takes_over() -> None:
    around = Neighbourhood("relay", "webrtc")
    began = asyncio.get_running_loop().time()
    here, there = await linked(around)
    assert asyncio.get_running_loop().time() - began < 0.5
    assert kinds(here, there) == ["relay", "relay"]
    assert {kind for at, _, kind in around.dialled if at - began < 0.001} == {"relay", "webrtc"}
    await here.send(b"one")
    await settle()
    assert kinds(here, there) == ["webrtc", "webrtc"]
    await here.send(b"two")
    assert [await there.receive(), await there.receive()] == [b"one", b"two"]
    assert here.rtt == pytest.approx(0.02, abs=0.001)
    assert here.remote_fingerprint == there.local_fingerprint != here.local_fingerprint
    await around.close()


@in_virtual_time
async def test_the_relay_stays_warm_for_half_a_minute_and_goes_then() -> None:
    around = Neighbourhood("relay", "webrtc")
    await linked(around)
    await settle(WARM_SECONDS - 1)
    assert around.of_kind("relay")
    await settle(4)
    assert not around.of_kind("relay")
    assert len(around.of_kind("webrtc")) == 1
    await around.close()


@in_virtual_time
async def test_direct_tls_wins_over_everything_else() -> None:
    around = Neighbourhood("relay", "webrtc", "tls")
    here, there = await linked(around)
    await settle()
    assert kinds(here, there) == ["tls", "tls"]
    await around.close()


@in_virtual_time
async def test_the_stream_falls_back_live_when_the_better_path_breaks() -> None:
    around = Neighbourhood("relay", "webrtc")
    here, there = await linked(around)
    await settle(40)
    assert not around.of_kind("relay")
    around.switch_off("webrtc")
    await here.send(b"after the break")
    assert await asyncio.wait_for(there.receive(), 3) == b"after the break"
    assert kinds(here, there) == ["relay", "relay"]
    await around.close()


@in_virtual_time
async def test_a_path_that_goes_silent_is_replaced_within_fifteen_seconds() -> None:
    around = Neighbourhood("relay", "webrtc")
    here, there = await linked(around)
    await settle(40)
    around.switch_off("webrtc", silently=True)
    began = asyncio.get_running_loop().time()
    await here.send(b"into the void")
    assert await asyncio.wait_for(there.receive(), 15) == b"into the void"
    took = asyncio.get_running_loop().time() - began
    assert took <= PING_SECONDS + SUSPECT_SECONDS + 1.0 < DEAD_SECONDS
    await settle(30)
    assert kinds(here, there) == ["relay", "relay"]
    assert not here.closed
    await around.close()


@in_virtual_time
async def test_a_blocked_network_is_used_soon_after_it_opens() -> None:
    around = Neighbourhood("relay", "webrtc")
    around.up.discard("webrtc")
    here, there = await linked(around)
    await settle(300)
    assert kinds(here, there) == ["relay", "relay"]
    tries = [at for at, _, kind in around.dialled if kind == "webrtc"]
    assert len(tries) < 24, "it is tried ever more seldom"
    around.up.add("webrtc")
    await settle(1.25 * LONGEST_DELAY_SECONDS + around.patience + 2)
    assert kinds(here, there) == ["webrtc", "webrtc"]
    await around.close()


@in_virtual_time
async def test_a_change_of_the_network_is_acted_on_at_once() -> None:
    around = Neighbourhood("relay", "webrtc")
    around.up.discard("webrtc")
    around.patience = 0.5
    here, _ = await linked(around)
    await settle(300)
    around.up.add("webrtc")
    around.peers[0].reach.hurry()
    await settle(2)
    assert kinds(here) == ["webrtc"]
    around.switch_off("webrtc", silently=True)
    around.peers[0].reach.hurry()
    await settle(SUSPECT_SECONDS + 1)
    assert kinds(here) == ["relay"]
    await around.close()


@in_virtual_time
async def test_messages_survive_every_change_of_path_once_and_in_order() -> None:
    around = Neighbourhood("relay", "webrtc", "tls")
    here, there = await linked(around)
    count = 3000

    async def send(link: PeerLink) -> None:
        for number in range(count):
            await link.send(b"%d" % number + b"." * (number % 500))
            await asyncio.sleep(0.02)

    async def receive(link: PeerLink) -> list[int]:
        return [int((await link.receive()).rstrip(b".")) for _ in range(count)]

    async def disturb() -> None:
        networks: tuple[PathKind, ...] = ("tls", "webrtc", "relay", "webrtc", "tls", "relay")
        for step, kind in enumerate(networks * 3):
            around.switch_off(kind, silently=bool(step % 2) and kind != "relay")
            await asyncio.sleep(1.0)
            around.up.add(kind)
            for peer in around.peers:
                peer.reach.hurry()
            await asyncio.sleep(9.0)

    results = await asyncio.gather(send(here), send(there), receive(there), receive(here), disturb())
    assert results[2] == results[3] == list(range(count))
    assert len(around.peers[0].changes) > 6
    await around.close()


@in_virtual_time
async def test_both_sides_may_connect_at_once_and_get_one_stream() -> None:
    around = Neighbourhood("relay", "webrtc")
    a, b = around.peers
    here, there = await asyncio.gather(a.reach.connect(b.peer_id), b.reach.connect(a.peer_id))
    await settle()
    await here.send(b"from a")
    await there.send(b"from b")
    assert (await there.receive(), await here.receive()) == (b"from a", b"from b")
    assert a.incoming.empty()
    assert b.incoming.empty()
    await settle(WARM_SECONDS + 10)
    open_links = [link for link in around.links if not link.closed]
    assert [link.path.kind for link in open_links] == ["webrtc"]
    assert kinds(here, there) == ["webrtc", "webrtc"]
    assert not here.closed
    assert not there.closed
    await around.close()


@in_virtual_time
async def test_connecting_again_gives_the_same_link() -> None:
    around = Neighbourhood("relay")
    here, _ = await linked(around)
    assert await around.peers[0].reach.connect(around.peers[1].peer_id) is here
    assert around.peers[0].reach.links() == [here]
    await around.close()


@in_virtual_time
async def test_without_any_network_connecting_fails_with_the_reason() -> None:
    around = Neighbourhood("relay", "webrtc")
    around.up.clear()
    a, b = around.peers
    slow: list[bool] = []
    with pytest.raises(TransportError) as refused:
        await a.reach.connect(b.peer_id, on_slow=lambda: slow.append(True))
    assert "network is off" in str(refused.value)
    assert refused.value.retryable
    assert slow == [True]
    around.up.add("relay")
    await linked(around)
    await around.close()


@in_virtual_time
async def test_connecting_that_takes_too_long_fails_and_can_be_tried_again() -> None:
    around = Neighbourhood("relay")
    around.patience = 1000.0
    around.up.clear()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransportError) as refused:
        await around.peers[0].reach.connect(around.peers[1].peer_id)
    assert asyncio.get_running_loop().time() - began == pytest.approx(20.0)
    assert refused.value.code == "timeout"
    assert refused.value.remedy
    around.up.add("relay")
    await linked(around)
    await around.close()


@in_virtual_time
async def test_a_peer_with_no_way_to_it_is_refused_at_once() -> None:
    around = Neighbourhood()
    with pytest.raises(TransportError) as refused:
        await around.peers[0].reach.connect(around.peers[1].peer_id)
    assert refused.value.phase == "resolve"


@in_virtual_time
async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    around = Neighbourhood("relay")
    around.up.clear()
    before = len(asyncio.all_tasks())
    connecting = asyncio.create_task(around.peers[0].reach.connect(around.peers[1].peer_id))
    await settle(1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await settle(0.1)
    assert len(asyncio.all_tasks()) == before
    await around.close()


@in_virtual_time
async def test_a_close_ends_the_other_side_after_the_last_message_and_a_new_link_can_follow() -> None:
    around = Neighbourhood("relay", "webrtc")
    for _ in range(3):
        here, there = await linked(around)
        await here.send(b"last word")
        await here.close()
        assert await there.receive() == b"last word"
        with pytest.raises(LinkClosed) as closed:
            await there.receive()
        assert closed.value.code == "remote_closed"
    await settle(5)
    assert not [link for link in around.links if not link.closed]
    await around.close()


@in_virtual_time
async def test_a_peer_that_was_killed_and_comes_back_begins_anew() -> None:
    around = Neighbourhood("relay")
    a, b = around.peers
    here, old = await linked(around)
    b.restart()
    there = await b.reach.connect(a.peer_id)
    renewed = await asyncio.wait_for(a.incoming.get(), 5)
    with pytest.raises(LinkClosed) as closed:
        await here.receive()
    assert closed.value.code == "replaced"
    await there.send(b"hello again")
    assert await renewed.receive() == b"hello again"
    await old.close()
    await around.close()


@in_virtual_time
async def test_when_everything_is_gone_the_link_ends_in_time() -> None:
    around = Neighbourhood("relay", "webrtc")
    here, there = await linked(around)
    await settle(40)
    for kind in ("relay", "webrtc"):
        around.switch_off(kind)
    began = asyncio.get_running_loop().time()
    with pytest.raises(LinkClosed) as closed:
        await here.receive()
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATHLESS_SECONDS, abs=0.1)
    assert (closed.value.code, closed.value.retryable) == ("timeout", True)
    assert there.closed or await settle(1) is None
    await around.close()


@in_virtual_time
async def test_who_may_not_connect_is_told_so() -> None:
    around = Neighbourhood("relay")
    a, b = around.peers
    around.blocked[a.peer_id] = "refused_blocked"
    link = await a.reach.connect(b.peer_id)
    with pytest.raises(LinkClosed) as closed:
        await asyncio.wait_for(link.receive(), 5)
    assert closed.value.code == "refused_blocked"
    assert b.incoming.empty()
    assert [error.code for error in b.failures] == ["refused_blocked"]
    await around.close()


@in_virtual_time
async def test_somebody_else_at_the_other_end_is_refused() -> None:
    around = Neighbourhood("relay", count=3)
    a, b, c = around.peers
    around.by_id[b.peer_id] = c  # the hub leads a's circuit to c
    with pytest.raises(TransportError) as refused:
        await a.reach.connect(b.peer_id)
    assert refused.value.code == "identity_mismatch"
    assert c.failures[0].code == "identity_mismatch"
    await around.close()


@in_virtual_time
async def test_a_side_that_never_proves_itself_is_closed_after_ten_seconds() -> None:
    around = Neighbourhood("relay")
    silent, link = memory_pair()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransportError) as refused:
        await around.peers[0].reach.take(link)
    assert asyncio.get_running_loop().time() - began == pytest.approx(PROOF_FAIL_SECONDS)
    assert (refused.value.code, refused.value.phase) == ("timeout", "identity")
    assert link.closed
    await silent.close()
    await around.close()


@in_virtual_time
async def test_many_peers_find_each_other_and_nobody_waits_long() -> None:
    around = Neighbourhood("relay", "webrtc", count=8)
    pairs = [(a, b) for a in around.peers for b in around.peers if a.peer_id < b.peer_id]
    await asyncio.gather(*(a.reach.connect(b.peer_id) for a, b in pairs))
    await settle(2)
    for peer in around.peers:
        links = peer.reach.links()
        assert len(links) == 7
        assert set(kinds(*links)) == {"webrtc"}
    await around.close()


@in_virtual_time
async def test_attempts_that_rest_on_what_is_no_more_begin_again_at_once() -> None:
    around = Neighbourhood("relay", "webrtc")
    around.up.discard("webrtc")
    await linked(around)
    began = asyncio.get_running_loop().time()
    around.up.add("webrtc")
    around.peers[0].reach.hurry()
    await settle(1)
    assert not around.of_kind("webrtc"), "the attempt that began before is not over yet"
    around.peers[0].reach.hurry(afresh=True)
    await settle(1)
    assert around.of_kind("webrtc")
    assert asyncio.get_running_loop().time() - began < around.patience
    await around.close()
