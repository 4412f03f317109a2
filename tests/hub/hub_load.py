"""Many peers in pairs at one hub: URL, number of peers. Prints one JSON document.

Every peer connects, registers in the namespace of its pair and follows it; the pair finds each other, exchanges
a signed offer and answer, opens a circuit and sends 1 KiB each way: then it is paired. Peers come from many
addresses of the loopback network, as they would in the world, for limits count by address. When all are paired
they renew their registrations as workers do, and else are idle.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import resource
import secrets
import sys
import time
from typing import Any

import psutil
import uvloop
from meeting import BOTH, listed
from websockets.asyncio.client import connect

from pgpeer.errors import HubError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.signal import LIFETIME_SECONDS, ReplayGuard, Signal, read_signal, sign_signal
from pgpeer.transport import hub_connection
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived, MembersChanged, SignalReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.worker.registrations import LEASE_SECONDS

ADDRESSES = 50
_source = contextvars.ContextVar("source", default="127.0.0.1")


def connect_from_source(url: str, **options: Any) -> Any:
    return connect(url, local_addr=(_source.get(), 0), **options)


class Peer:
    """One of a pair; the first of the two makes the offer."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self.key = PrivateKey.from_seed(number.to_bytes(32, "big"))
        self.partner = PrivateKey.from_seed((number ^ 1).to_bytes(32, "big")).peer_id
        self.space = f"pair:{number // 2}"
        self.client = HubClient(url, self.key, f"peer {number}", takes=BOTH)
        self.guard = ReplayGuard()
        self.url = url
        self.listing = listed(self.key, self.space, time.time_ns() // 1000)

    async def reach(self) -> None:
        _source.set(f"127.0.1.{1 + self.number % ADDRESSES}")
        for attempt in range(20):
            try:
                await self.client.connect()
                return
            except HubError:
                await asyncio.sleep(0.2 * (1 + attempt))
                self.client = HubClient(self.url, self.key, f"peer {self.number}", takes=BOTH)
        raise AssertionError("the hub does not let us in")

    async def pair(self) -> None:
        await self.reach()
        await self.client.follow([self.space])
        await self.client.register(self.listing, LEASE_SECONDS)
        known = {one.peer_id for one in (await self.client.discover(self.space)).registrations}
        if self.number % 2 == 0:
            while self.partner not in known:
                known |= {one.peer_id for one in (await self.next_of(MembersChanged)).joined}
            assert await self.client.send_signal(self.partner, "s", self.signal("offer"))
            await self.next_signal("answer")
            circuit = await self.client.open_circuit(self.partner)
        else:
            await self.next_signal("offer")
            assert await self.client.send_signal(self.partner, "s", self.signal("answer"))
            circuit = (await self.next_of(CircuitReceived)).circuit
            circuit.accept()
        await self.exchange(circuit)

    async def next_of(self, kind: type) -> Any:
        async for event in self.client:
            if isinstance(event, kind):
                return event
        raise AssertionError("the hub has gone")

    async def next_signal(self, kind: str) -> None:
        event = await self.next_of(SignalReceived)
        read = read_signal(
            event.plaintext,
            sender=self.partner,
            recipient=self.key.peer_id,
            sid="s",
            now=time.time(),
            guard=self.guard,
        )
        assert read.kind == kind

    def signal(self, kind: Any) -> bytes:
        expires = int(time.time()) + LIFETIME_SECONDS
        sdp = "v=0\r\n" + "a=candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host\r\n" * 10
        return sign_signal(
            self.key,
            Signal("s", self.key.peer_id, self.partner, kind, sdp, secrets.token_bytes(16), expires),
        )

    @staticmethod
    async def exchange(circuit: HubCircuit) -> None:
        await circuit.send(b"x" * 1024)
        got = 0
        while got < 1024:
            got += len(await circuit.receive())


async def be_idle(peers: list[Peer], seconds: float) -> int:
    """Let time pass in which peers renew one after the other, as often as workers do; gives how many did."""
    ends, renewed = time.monotonic() + seconds, 0
    pause = 0.45 * LEASE_SECONDS / len(peers)
    while time.monotonic() < ends:
        peer = peers[renewed % len(peers)]
        assert await peer.client.register(peer.listing, LEASE_SECONDS) == LEASE_SECONDS
        renewed += 1
        await asyncio.sleep(pause)
    return renewed


def processor_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes)


async def main(url: str, count: int, hub_pid: int, idle_seconds: float) -> None:
    hub_connection.connect = connect_from_source  # type: ignore[assignment]
    hub = psutil.Process(hub_pid)
    peers = [Peer(url, number) for number in range(count)]
    cold, began = hub.cpu_times(), time.monotonic()
    async with asyncio.timeout(120):
        await asyncio.gather(*(peer.pair() for peer in peers))
    paired = time.monotonic() - began
    await asyncio.sleep(2)
    before, since = hub.cpu_times(), time.monotonic()
    servers = hub.children(recursive=True)
    servers_before = processor_seconds(servers)
    renewed = await be_idle(peers, idle_seconds)
    after, passed = hub.cpu_times(), time.monotonic() - since
    used = after.user + after.system - before.user - before.system
    figures = {
        "peers": count,
        "paired_seconds": round(paired, 2),
        "pairing_hub_cpu_seconds": round(sum(before[:2]) - sum(cold[:2]), 2),
        "pairing_peers_cpu_seconds": round(time.process_time(), 2),
        "hub_rss_mib": round(hub.memory_info().rss / 2**20, 1),
        "database_pss_mib": round(
            sum(child.memory_full_info().pss for child in hub.children(recursive=True)) / 2**20, 1
        ),
        "idle_cores": round(used / passed, 3),
        "idle_database_cores": round((processor_seconds(servers) - servers_before) / passed, 3),
        "renewed_per_second": round(renewed / passed, 2),
        "closed": sum(peer.client.is_closed for peer in peers),
    }
    await asyncio.gather(*(peer.client.close() for peer in peers))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
