"""Circuits through a real hub. Rows B2 and B14 (the relay is always there), B6, B7 (each reason), B12 (order)."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

import pytest
from meeting import ALICE, BOB, BOTH, CAROL, Meet, next_of, pipe, read_all

from pgpeer.errors import HubError, IdentityError, LinkClosed
from pgpeer.hub.server import Hub
from pgpeer.signaling.client import HubClosed
from pgpeer.signaling.limits import HubLimits
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived
from pgpeer.transport.hub_link import HubClient


async def send_all(circuit: HubCircuit, data: bytes, pieces: random.Random) -> None:
    start = 0
    while start < len(data):
        size = pieces.choice([1, 100, 5_000, 100_000, 700_000])
        await circuit.send(data[start : start + size])
        start += size
    circuit.end()


async def test_b12_bytes_go_both_ways_at_once_in_order_none_lost_or_doubled(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    assert (here.peer_id, there.peer_id) == (BOB.peer_id, ALICE.peer_id)
    assert (here.incoming, there.incoming) == (False, True)
    chance = random.Random(5)
    to_bob, to_alice = chance.randbytes(6_000_000), chance.randbytes(3_000_000)
    async with asyncio.timeout(60):
        _, _, at_bob, at_alice = await asyncio.gather(
            send_all(here, to_bob, chance),
            send_all(there, to_alice, chance),
            read_all(there),
            read_all(here),
        )
    assert hashlib.sha256(at_bob).digest() == hashlib.sha256(to_bob).digest()
    assert hashlib.sha256(at_alice).digest() == hashlib.sha256(to_alice).digest()
    assert (here.bytes_sent, there.bytes_received) == (len(to_bob), len(to_bob))
    assert await here.receive() == b""
    desk = meeting.hub._desk
    assert desk is not None
    assert (desk.relay.count, desk.relay.waiting_bytes, desk.relay.relayed_bytes) == (0, 0, 9_000_000)
    assert alice._circuits == {}
    assert bob._circuits == {}


async def test_a_sender_waits_for_a_reader_and_others_do_not(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    carol = await meeting.join(CAROL, takes=BOTH)
    stuck, _unread = await pipe(alice, bob, BOB)
    free, read = await pipe(carol, bob, BOB)
    sending = asyncio.create_task(stuck.send(b"x" * 5_000_000))
    await asyncio.sleep(0.5)
    assert not sending.done()
    assert stuck.bytes_sent <= 4 * 256 * 1024
    whole = asyncio.create_task(read_all(read))
    await free.send(b"y" * 2_000_000)
    free.end()
    assert len(await asyncio.wait_for(whole, 20)) == 2_000_000
    assert await alice.send_signal(BOB.peer_id, "s", b"passes by")
    stuck.close()
    with pytest.raises(LinkClosed):
        await sending


async def test_each_reason_for_the_end_reaches_the_other_side(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    await here.send(b"read before the end")
    assert await there.receive() == b"read before the end"
    here.close()
    here.close()
    for action in (there.receive(), here.receive()):
        with pytest.raises(LinkClosed) as caught:
            await action
        assert caught.value.code in {"remote_closed", "local_closed"}
    with pytest.raises(LinkClosed):
        await there.send(b"x")

    here, there = await pipe(alice, bob, BOB)
    await bob.close()
    with pytest.raises(LinkClosed) as caught:
        await here.receive()
    assert (caught.value.code, caught.value.retryable) == ("peer_offline", True)
    with pytest.raises(LinkClosed) as caught:
        await there.send(b"x")
    assert caught.value.code == "local_closed"


async def test_a_hub_that_dies_ends_its_circuits() -> None:
    async with Hub() as hub:
        alice, bob = HubClient(hub.url, ALICE, "", takes=BOTH), HubClient(hub.url, BOB, "", takes=BOTH)
        await alice.connect()
        await bob.connect()
        here, _ = await pipe(alice, bob, BOB)
        await hub.stop()
        with pytest.raises(LinkClosed):
            await here.receive()
        assert isinstance(await next_of(alice, HubClosed), HubClosed)
        await alice.close()
        await bob.close()


async def test_a_circuit_is_refused_with_the_reason(meet: Meet) -> None:
    meeting = await meet(HubLimits(circuit_accept_seconds=1.0))
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    await meeting.join(CAROL)

    async def refusal(peer_id: str) -> HubError:
        with pytest.raises(HubError) as caught:
            await alice.open_circuit(peer_id)
        return caught.value

    opening = asyncio.create_task(refusal(BOB.peer_id))
    (await next_of(bob, CircuitReceived)).circuit.refuse("refused_blocked", "Go away.")
    error = await opening
    assert (error.code, "Go away." in str(error)) == ("refused_blocked", True)

    assert (await refusal(BOB.peer_id)).code == "timeout"
    late = (await next_of(bob, CircuitReceived)).circuit
    with pytest.raises(LinkClosed):
        await late.receive()
    late.accept()
    assert late.closed

    assert (await refusal(CAROL.peer_id)).code == "relay_refused"
    assert (await refusal(ALICE.peer_id)).code == "refused_policy"
    with pytest.raises(IdentityError):
        await alice.open_circuit("nobody")
    await bob.close()
    assert (await refusal(BOB.peer_id)).code == "peer_offline"
    assert not alice.is_closed


async def test_a_cancelled_opening_leaves_no_circuit(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    opening = asyncio.create_task(alice.open_circuit(BOB.peer_id))
    incoming = (await next_of(bob, CircuitReceived)).circuit
    opening.cancel()
    await asyncio.wait([opening])
    incoming.accept()
    with pytest.raises(LinkClosed) as caught:
        await asyncio.wait_for(incoming.receive(), 5)
    assert caught.value.code == "local_closed"
    desk = meeting.hub._desk
    assert desk is not None
    assert desk.relay.count == 0


async def test_the_quota_of_a_pair_slows_it_down_and_loses_nothing(meet: Meet) -> None:
    meeting = await meet(HubLimits(pair_bytes_per_second=400_000.0, pair_burst_bytes=100_000))
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    began = time.monotonic()
    whole = asyncio.create_task(read_all(there))
    await here.send(b"x" * 500_000)
    here.end()
    assert len(await whole) == 500_000
    assert 0.9 <= time.monotonic() - began <= 5.0
