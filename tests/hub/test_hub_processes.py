"""Several hub processes on one database serve one community, and a restart loses nothing durable.

Answers the complaint "hub state in process memory; no scale-out, lost on restart" (anchors, section 5); rows E1
(no single point of failure), E6 (peers registered at different hubs find each other), B10 (newest connection)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from meeting import ALICE, BOB, BOTH, CAROL, Meeting, eventually, listed, next_event, next_of, pipe, read_all

from pgpeer.embedded import Cluster
from pgpeer.errors import HubError
from pgpeer.hub.postgres import PostgresStore
from pgpeer.hub.server import Hub
from pgpeer.signaling.client import HubClosed, PeerOffline, PeerOnline
from pgpeer.signaling.letter import Letter, sign_letter
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.signal import Signal, sign_signal
from pgpeer.transport.hub_events import LetterReceived, MembersChanged, SignalReceived
from pgpeer.transport.hub_link import HubClient

SPACE = "bundle:one"


def letter(body: str) -> bytes:
    expires = int(time.time()) + 3600
    return sign_letter(
        ALICE, Letter(secrets.token_bytes(16), ALICE.peer_id, BOB.peer_id, "note", body, expires)
    )


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def start(stack: AsyncExitStack, dsn: str, limits: HubLimits | None = None) -> Meeting:
    hub = Hub(store=PostgresStore(dsn, limits or HubLimits()))
    return Meeting(await stack.enter_async_context(hub), stack)


async def test_peers_of_two_processes_see_signal_and_find_each_other(
    stack: AsyncExitStack, hub_dsn: str
) -> None:
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    alice = await first.join(ALICE, "alice")
    bob = await second.join(BOB, "bob")
    assert alice.hub_id == bob.hub_id
    await alice.watch([BOB.peer_id])
    assert await next_of(alice, PeerOnline) == PeerOnline(BOB.peer_id, "bob")

    for size in (10, 30_000):  # in the notice itself, and too long for it
        plaintext = sign_signal(
            ALICE,
            Signal(
                "s", ALICE.peer_id, BOB.peer_id, "offer", "x" * size, secrets.token_bytes(16), 2_000_000_000
            ),
        )
        assert await alice.send_signal(BOB.peer_id, "s", plaintext)
        assert (await next_of(bob, SignalReceived)).plaintext == plaintext

    await alice.follow([SPACE])
    await alice.discover(SPACE)
    await bob.register(listed(BOB, SPACE, body="here"), 60)
    assert [one.body for one in (await next_of(alice, MembersChanged)).joined] == ["here"]
    assert [one.body for one in (await alice.discover(SPACE)).registrations] == ["here"]

    await bob.close()
    assert await next_of(alice, PeerOffline) == PeerOffline(BOB.peer_id)
    assert not await alice.send_signal(BOB.peer_id, "s", b"x")


async def test_a_letter_posted_at_one_process_comes_at_another(stack: AsyncExitStack, hub_dsn: str) -> None:
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    alice, bob = await first.join(ALICE), await second.join(BOB, takes=BOTH)
    await alice.post_letter(BOB.peer_id, letter("across"))
    assert b"across" in (await next_of(bob, LetterReceived)).plaintext


async def test_a_circuit_to_a_peer_at_another_process_is_opened_there(
    stack: AsyncExitStack, hub_dsn: str
) -> None:
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    alice, bob = await first.join(ALICE, takes=BOTH), await second.join(BOB, takes=BOTH)
    await alice.watch([BOB.peer_id])
    await next_of(alice, PeerOnline)
    here, there = await pipe(alice, bob, BOB)
    whole = asyncio.create_task(read_all(there))
    await here.send(b"x" * 1_000_000)
    here.end()
    assert len(await whole) == 1_000_000
    assert there.peer_id == ALICE.peer_id
    again, _ = await pipe(alice, bob, BOB)
    assert first.hub.online_count == second.hub.online_count == 1  # a visitor is not online, nor replaces
    assert len(alice._visits) == 1
    await alice.close()
    assert again.closed


async def test_b10_the_newest_connection_counts_whichever_process_it_is_at(
    stack: AsyncExitStack, hub_dsn: str
) -> None:
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    carol = await first.join(CAROL)
    await carol.watch([ALICE.peer_id])
    await next_of(carol, PeerOffline)
    older = await first.join(ALICE, "older")
    assert await next_of(carol, PeerOnline) == PeerOnline(ALICE.peer_id, "older")
    await asyncio.sleep(0.2)
    newer = await second.join(ALICE, "newer")
    closed = await next_of(older, HubClosed)
    assert closed.error.code == "replaced"
    assert (await next_of(carol, PeerOnline)).label == "newer"
    assert await carol.send_signal(ALICE.peer_id, "s", b"x")
    assert isinstance(await next_event(newer), SignalReceived)
    back = await first.join(ALICE, "back")
    assert (await next_of(newer, HubClosed)).error.code == "replaced"
    assert await carol.send_signal(ALICE.peer_id, "s", b"x")
    assert isinstance(await next_event(back), SignalReceived)


async def test_a_restarted_hub_has_registrations_and_letters_and_its_id(
    stack: AsyncExitStack, hub_dsn: str
) -> None:
    before = Hub(store=PostgresStore(hub_dsn, HubLimits()))
    async with before:
        alice = HubClient(before.url, ALICE, "")
        await alice.connect()
        await alice.register(listed(ALICE, SPACE, body="still here"), 600)
        await alice.post_letter(BOB.peer_id, letter("for later"))
        hub_id = alice.hub_id
        await alice.close()
    meeting = await start(stack, hub_dsn)
    bob = await meeting.join(BOB, takes=BOTH)
    assert bob.hub_id == hub_id
    assert [one.body for one in (await bob.discover(SPACE)).registrations] == ["still here"]
    assert b"for later" in (await next_of(bob, LetterReceived)).plaintext
    await bob.watch([ALICE.peer_id])
    assert await next_event(bob) == PeerOffline(ALICE.peer_id)


async def test_e1_a_process_that_is_killed_takes_its_peers_offline_and_nothing_else(
    stack: AsyncExitStack, hub_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpeer.hub.chores.SWEEP_SECONDS", 0.2)
    meeting = await start(stack, hub_dsn)
    command = [sys.executable, str(Path(__file__).with_name("hub_process.py")), hub_dsn]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[1]
    alice = await meeting.join(ALICE)
    bob = await meeting.join(BOB, "bob", url=url)
    await alice.watch([BOB.peer_id])
    await next_of(alice, PeerOnline)
    await bob.register(listed(BOB, SPACE), 600)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    with psycopg.connect(hub_dsn, autocommit=True) as connection:  # instead of waiting for 20 s
        connection.execute("UPDATE hub.process SET seen_at = seen_at - interval '20 s' WHERE url = %s", [url])
    assert await next_of(alice, PeerOffline) == PeerOffline(BOB.peer_id)
    assert len((await alice.discover(SPACE)).registrations) == 1
    bob = await meeting.join(BOB, "bob again")
    assert (await next_of(alice, PeerOnline)).label == "bob again"


async def test_a_hub_outlives_a_restart_of_its_database(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpeer.hub.postgres.RETRY_SECONDS", 0.1)
    directory = Path("/tmp") / f"pgpeer-hub-test-{os.getpid()}-{secrets.token_hex(4)}"
    cluster = Cluster(directory, settings={"fsync": "off"}).start()
    try:
        first, second = await start(stack, cluster.dsn()), await start(stack, cluster.dsn())
        alice, bob = await first.join(ALICE, takes=BOTH), await first.join(BOB, "bob", takes=BOTH)
        carol = await second.join(CAROL)
        await carol.watch([BOB.peer_id])
        await next_of(carol, PeerOnline)
        await alice.register(listed(ALICE, SPACE), 600)
        await carol.follow([SPACE])
        await carol.discover(SPACE)
        await asyncio.to_thread(cluster.stop)
        store = first.hub._store
        await eventually(lambda: not store.reachable)
        with pytest.raises(HubError) as caught:
            await alice.register(listed(ALICE, SPACE, 2), 600)
        assert (caught.value.code, caught.value.retryable) == ("internal", True)
        assert await alice.send_signal(BOB.peer_id, "s", b"x")  # both are here
        here, there = await pipe(alice, bob, BOB)
        await here.send(b"goes on")
        assert await there.receive() == b"goes on"
        await bob.close()
        await asyncio.to_thread(cluster.start)
        await eventually(lambda: store.reachable and second.hub._store.reachable, 30)
        assert await next_of(carol, PeerOffline, 30) == PeerOffline(BOB.peer_id)
        assert len((await alice.discover(SPACE)).registrations) == 1
        await alice.register(listed(ALICE, SPACE, 3), 600)
        change = await next_of(carol, MembersChanged)
        assert change.missed or change.joined
    finally:
        await stack.aclose()
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_process_that_was_taken_for_dead_comes_back(
    stack: AsyncExitStack, hub_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpeer.hub.chores.SWEEP_SECONDS", 0.1)
    monkeypatch.setattr("pgpeer.hub.postgres.RETRY_SECONDS", 0.1)
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    alice = await first.join(ALICE)
    await second.join(BOB, "bob")
    await alice.watch([BOB.peer_id])
    await next_of(alice, PeerOnline)
    old = second.hub._store.process
    with psycopg.connect(hub_dsn, autocommit=True) as connection:
        connection.execute("SELECT hub.leave(%s)", [old])
    assert await next_of(alice, PeerOffline) == PeerOffline(BOB.peer_id)
    assert await next_of(alice, PeerOnline) == PeerOnline(BOB.peer_id, "bob")
    assert second.hub._store.process != old


@pytest.mark.parametrize(
    "notice", ["not JSON", '{"k":"presence","p":7,"on":[1],"off":[]}', '{"k":"later"}', "#999999"]
)
async def test_a_notice_that_cannot_be_read_stops_no_process(
    stack: AsyncExitStack, hub_dsn: str, monkeypatch: pytest.MonkeyPatch, notice: str
) -> None:
    monkeypatch.setattr("pgpeer.hub.postgres.RETRY_SECONDS", 0.1)
    first, second = await start(stack, hub_dsn), await start(stack, hub_dsn)
    alice = await first.join(ALICE)
    with psycopg.connect(hub_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('hub_all', %s)", [notice])
    await alice.watch([BOB.peer_id])
    await second.join(BOB, "bob")
    assert await next_of(alice, PeerOnline) == PeerOnline(BOB.peer_id, "bob")


async def test_a_peer_may_use_several_hubs_that_know_nothing_of_each_other(
    stack: AsyncExitStack, hub_dsn: str
) -> None:
    one, other = await start(stack, hub_dsn), Meeting(await stack.enter_async_context(Hub()), stack)
    at_one, at_other = await one.join(ALICE), await other.join(ALICE)
    bob = await other.join(BOB)
    assert at_one.hub_id != at_other.hub_id
    assert not await at_one.send_signal(BOB.peer_id, "s", b"x")
    assert await at_other.send_signal(BOB.peer_id, "s", b"x")
    assert isinstance(await next_event(bob), SignalReceived)


async def test_a_hub_sends_its_clients_to_no_other_host(stack: AsyncExitStack, hub_dsn: str) -> None:
    """Threat 10: a hint must not make a client connect anywhere it pleases somebody else."""
    first = await start(stack, hub_dsn)
    store = PostgresStore(hub_dsn, HubLimits())
    second = Meeting(
        await stack.enter_async_context(Hub(store=store, public_url="ws://169.254.169.254:80")), stack
    )
    alice = await first.join(ALICE)
    await second.join(BOB, takes=BOTH)
    await alice.watch([BOB.peer_id])
    await next_of(alice, PeerOnline)
    with pytest.raises(HubError) as caught:
        await alice.open_circuit(BOB.peer_id)
    assert caught.value.code == "relay_refused"
    assert "169.254.169.254" in str(caught.value)
    assert alice._visits == {}
