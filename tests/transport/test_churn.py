"""Peers that join, leave, crash and move for minutes of virtual time: who is up is connected within five seconds."""

import asyncio
import os
import random
from contextlib import suppress

import pytest
from neighbourhood import Neighbourhood, Peer
from virtual_time import in_virtual_time

from pgpeer.errors import PgpeerError
from pgpeer.transport.peer_link import PeerLink

PEERS, MINUTES = (20, 10) if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else (8, 3)
RETRY_SECONDS = 1.0


class Citizen:
    """A peer that wants a link with everybody, as a worker does, and checks what comes over it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.is_up = True
        self.tasks: set[asyncio.Task[None]] = set()
        self.used: set[PeerLink] = set()
        self.wrong = 0
        self.heard = 0

    def begin(self, others: list[str]) -> None:
        self.is_up = True
        for other in others:
            self.spawn(self.pursue(other))
        self.spawn(self.welcome())

    def stop(self) -> None:
        self.is_up = False
        for task in self.tasks:
            task.cancel()

    async def pursue(self, other: str) -> None:
        while True:
            with suppress(PgpeerError):
                self.use(await self.peer.reach.connect(other))
            await asyncio.sleep(RETRY_SECONDS)

    async def welcome(self) -> None:
        while True:
            self.use(await self.peer.incoming.get())

    def use(self, link: PeerLink) -> None:
        if link not in self.used:
            self.used.add(link)
            self.spawn(self.talk(link))
            self.spawn(self.listen(link))

    async def talk(self, link: PeerLink) -> None:
        with suppress(PgpeerError):
            for number in range(10_000):
                await link.send(number.to_bytes(8, "big"))
                await asyncio.sleep(5.0)

    async def listen(self, link: PeerLink) -> None:
        expected = 0
        with suppress(PgpeerError):
            while True:
                number = int.from_bytes(await link.receive(), "big")
                self.wrong += number != expected
                expected += 1
                self.heard += 1

    def spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


@pytest.mark.parametrize("seed", range(1 if PEERS < 20 else 3))
def test_everybody_who_is_up_is_connected_within_five_seconds(seed: int) -> None:
    in_virtual_time(churn)(seed)


async def churn(seed: int) -> None:
    chance = random.Random(seed)
    around = Neighbourhood("relay", "webrtc", count=PEERS, seed=seed)
    citizens = [Citizen(peer) for peer in around.peers]
    ids = [peer.peer_id for peer in around.peers]

    def begin(citizen: Citizen) -> None:
        around.away.discard(citizen.peer.peer_id)
        citizen.begin([one for one in ids if one != citizen.peer.peer_id])

    for citizen in citizens:
        begin(citizen)
    until = asyncio.get_running_loop().time() + 60 * MINUTES
    while asyncio.get_running_loop().time() < until:
        for citizen in chance.sample(citizens, chance.randrange(1, 4)):
            peer_id = citizen.peer.peer_id
            fate = chance.choice(["leave", "crash", "move", "break"])
            if not citizen.is_up:
                begin(citizen)
            elif fate == "leave":
                citizen.stop()
                around.away.add(peer_id)
                await citizen.peer.reach.close()
            elif fate == "crash":
                citizen.stop()
                await vanish(citizen.peer)
                around.disturb(peer_id, silently=False)
                begin(citizen)
            elif fate == "move":
                around.disturb(peer_id, silently=True)
                citizen.peer.reach.hurry()
            else:
                around.disturb(peer_id, silently=False)
        await asyncio.sleep(5.0)
        assert_all_connected(citizens, seed)
        await asyncio.sleep(chance.choice([0.0, 1.0, 30.0]))
    for citizen in citizens:
        citizen.stop()
    assert sum(citizen.wrong for citizen in citizens) == 0
    assert sum(citizen.heard for citizen in citizens) >= 100 * MINUTES
    await around.close()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()


async def vanish(peer: Peer) -> None:
    """The process is killed: nothing of it runs any more, and nobody is told by it."""
    old = peer.reach
    peer.restart()
    for contact in list(old._contacts.values()):
        if contact.link is not None:
            for path in contact.link._paths.values():
                path.link.stall()  # type: ignore[attr-defined]
    await old.close()


def assert_all_connected(citizens: list[Citizen], seed: int) -> None:
    up = [citizen.peer for citizen in citizens if citizen.is_up]
    for peer in up:
        connected = {link.peer_id for link in peer.reach.links() if link.is_connected}
        missing = {other.peer_id for other in up} - connected - {peer.peer_id}
        assert not missing, f"seed {seed}: {peer.peer_id} lacks {missing}"
