"""Peers whose ways to each other are links in memory, with networks that can be switched off."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from pgpeer.errors import PgpeerError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import Link, PathKind
from pgpeer.transport.memory import MemoryLink, memory_pair
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.reach import Reach
from pgpeer.transport.ways import Exchange, Way

LATENCY: dict[PathKind, float] = {"relay": 0.05, "webrtc": 0.01, "tls": 0.005}


class Neighbourhood:
    """All peers and the networks between them.

    Attributes:
        up: the kinds of network that work; on others dialling hangs until it fails after `patience` seconds.
        open: the links that are open, each by its opener's end.
        dialled: what was tried, with its time.
    """

    def __init__(self, *kinds: PathKind, count: int = 2, seed: int = 1) -> None:
        self.up: set[PathKind] = set(kinds)
        self.kinds = kinds
        self.patience = 5.0
        self.open_time: dict[PathKind, float] = {"relay": 0.1, "webrtc": 0.5, "tls": 0.2}
        self.links: list[MemoryLink] = []
        self.ends: list[tuple[str, str, MemoryLink]] = []
        self.dialled: list[tuple[float, str, PathKind]] = []
        self.blocked: dict[str, str] = {}
        self.away: set[str] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        keys = [PrivateKey.from_seed(bytes([number + 1]) * 32) for number in range(count)]
        self.peers = [Peer(self, key, Random(seed)) for key in sorted(keys, key=lambda key: key.peer_id)]
        self.by_id = {peer.peer_id: peer for peer in self.peers}

    def of_kind(self, kind: PathKind) -> list[MemoryLink]:
        return [link for link in self.links if link.path.kind == kind and not link.closed]

    def switch_off(self, kind: PathKind, *, silently: bool = False) -> None:
        """A network goes away: its links break, or carry nothing any more and nobody is told."""
        self.up.discard(kind)
        for link in self.of_kind(kind):
            if silently:
                link.stall()
                link.other_end.stall()
            else:
                link.cut()

    def disturb(self, peer_id: str, *, silently: bool) -> None:
        """All links of one peer break, or carry nothing any more and nobody is told."""
        for source, target, link in self.ends:
            if peer_id in (source, target) and not link.closed:
                if silently:
                    link.stall()
                    link.other_end.stall()
                else:
                    link.cut()
        self.ends = [one for one in self.ends if not one[2].closed]

    async def close(self) -> None:
        for peer in self.peers:
            await peer.reach.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


class Peer:
    """One peer with its `Reach`."""

    def __init__(self, around: Neighbourhood, key: PrivateKey, chance: Random) -> None:
        self.around = around
        self.key = key
        self.peer_id = key.peer_id
        self.incoming: asyncio.Queue[PeerLink] = asyncio.Queue()
        self.changes: list[tuple[float, PathKind | None]] = []
        self.failures: list[PgpeerError] = []
        self._chance = chance
        self.reach = self._new_reach()

    def _new_reach(self) -> Reach:
        return Reach(
            self.key,
            self.ways_to,
            self.around.blocked.get,
            self.incoming.put_nowait,
            on_change=self._changed,
            chance=self._chance,
        )

    def restart(self) -> None:
        """Forget everything, as a process that was killed; the network breaks its links."""
        self.reach = self._new_reach()

    def ways_to(self, peer_id: str) -> list[Way]:
        return [MemoryWay(self.around, kind, self.peer_id, peer_id) for kind in self.around.kinds]

    async def take(self, link: Link) -> None:
        try:
            await self.reach.take(link)
        except PgpeerError as error:
            self.failures.append(error)

    def _changed(self, link: PeerLink) -> None:
        kind = link.path.kind if link.is_connected else None
        self.changes.append((asyncio.get_running_loop().time(), kind))


class MemoryWay:
    """A way over a link in memory."""

    def __init__(self, around: Neighbourhood, kind: PathKind, source: str, target: str) -> None:
        self.kind = kind
        self._around = around
        self._source = source
        self._target = target

    async def dial(self, exchange: Exchange) -> Link:
        around = self._around
        if self._target in around.away:
            raise TransportError("The peer is not online.", code="peer_offline", phase="signalling")
        around.dialled.append((asyncio.get_running_loop().time(), self._source, self.kind))
        if self.kind not in around.up:
            await asyncio.sleep(around.patience)
            raise TransportError(f"The {self.kind} network is off.", code="timeout")
        await asyncio.sleep(around.open_time[self.kind])
        if self.kind not in around.up or self._target in around.away:
            raise TransportError(f"The {self.kind} network is off.", code="timeout")
        first, second = memory_pair(latency=LATENCY[self.kind])
        for end in (first, second):
            end.path = replace(end.path, kind=self.kind)
        around.links.append(first)
        around.ends.append((self._source, self._target, first))
        task = asyncio.create_task(around.by_id[self._target].take(second))
        around.tasks.add(task)
        task.add_done_callback(around.tasks.discard)
        return first


async def linked(around: Neighbourhood, first: int = 0, second: int = 1) -> tuple[PeerLink, PeerLink]:
    a, b = around.peers[first], around.peers[second]
    link = await a.reach.connect(b.peer_id)
    return link, await asyncio.wait_for(b.incoming.get(), 5)


async def settle(seconds: float = 2.0) -> None:
    await asyncio.sleep(seconds)
