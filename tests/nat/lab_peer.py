"""A peer in the laboratory: a hub client and a `Reach`; commands come on standard input."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from typing import Any

from pgpeer.errors import HubError, PgpeerError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.messages import CIRCUITS
from pgpeer.signaling.signal import (
    LIFETIME_SECONDS,
    ReplayGuard,
    Signal,
    SignalKind,
    read_signal,
    sign_signal,
)
from pgpeer.transport import webrtc
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived, SignalReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.ice import IceServer, IceSettings
from pgpeer.transport.network_watch import watch_network
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.pipe import Pipe
from pgpeer.transport.reach import Reach
from pgpeer.transport.relay import open_relay
from pgpeer.transport.ways import RelayWay, Way, WebRTCWay


def say(event: str, **members: Any) -> None:
    print(json.dumps({"event": event, **members}), flush=True)


class LabPeer:
    """One peer."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.key = PrivateKey.from_seed(bytes([options["seed"]]) * 32)
        self.other = PrivateKey.from_seed(bytes([options["other"]]) * 32).peer_id
        self.url = options["hub"]
        self.ice = IceSettings(tuple(IceServer(*one) for one in options["ice"]))
        self.kinds = options["kinds"]
        self.certificate = Certificate.generate()
        self.hub: HubClient | None = None
        self.reach = Reach(
            self.key,
            self.ways_to,
            lambda peer_id: None if peer_id == self.other else "refused_policy",
            self.use,
            on_change=self.changed,
        )
        self.link: PeerLink | None = None
        self.received = 0
        self.received_bytes = 0
        self.in_order = True
        self.changes: list[str] = []
        self.answers: dict[str, asyncio.Future[str]] = {}
        self.guard = ReplayGuard()
        self.tasks: set[asyncio.Task[Any]] = set()

    def ways_to(self, peer_id: str) -> list[Way]:
        ways: list[Way] = []
        if "relay" in self.kinds:
            ways.append(RelayWay(self.open_circuit, self.url, self.certificate))
        if "webrtc" in self.kinds:
            ways.append(WebRTCWay(self.ice, self.exchange))
        return ways

    async def open_circuit(self) -> Pipe:
        return await self.connected_hub().open_circuit(self.other)

    def connected_hub(self) -> HubClient:
        if self.hub is None or self.hub.is_closed:
            raise HubError("The hub is not connected.", code="peer_offline")
        return self.hub

    # The hub.

    async def stay_at_hub(self) -> None:
        while True:
            self.hub = HubClient(self.url, self.key, "lab", takes=(CIRCUITS,))
            try:
                await self.hub.connect()
                say("hub")
                self.reach.hurry()
                async for event in self.hub:
                    if isinstance(event, CircuitReceived):
                        self.spawn(self.take_circuit(event.circuit))
                    elif isinstance(event, SignalReceived):
                        self.take_signal(event)
            except HubError:
                pass
            await asyncio.sleep(0.5)

    async def take_circuit(self, circuit: HubCircuit) -> None:
        circuit.accept()
        await self.reach.take(
            await open_relay(circuit, self.certificate, hub_url=self.url, is_opener=False), self.other
        )

    async def exchange(self, sdp: str) -> str:
        sid = secrets.token_urlsafe(16)
        self.answers[sid] = asyncio.get_running_loop().create_future()
        await self.connected_hub().send_signal(self.other, sid, self.signed(sid, "offer", sdp))
        async with asyncio.timeout(10):
            return await self.answers[sid]

    def take_signal(self, event: SignalReceived) -> None:
        signal = read_signal(
            event.plaintext,
            sender=event.sender,
            recipient=self.key.peer_id,
            sid=event.sid,
            now=time.time(),
            guard=self.guard,
        )
        if signal.kind == "offer":
            if self.reach.begin_answer(signal.sender):
                self.spawn(self.answer(signal))
        elif signal.sid in self.answers and not self.answers[signal.sid].done():
            self.answers[signal.sid].set_result(signal.sdp)

    async def answer(self, offer: Signal) -> None:
        pending = await webrtc.answer(offer.sdp, self.ice)
        await self.connected_hub().send_signal(
            self.other, offer.sid, self.signed(offer.sid, "answer", pending.sdp)
        )
        await self.reach.take(await pending.opened(), offer.sender)

    def signed(self, sid: str, kind: SignalKind, sdp: str) -> bytes:
        expires = int(time.time()) + LIFETIME_SECONDS
        signal = Signal(sid, self.key.peer_id, self.other, kind, sdp, secrets.token_bytes(16), expires)
        return sign_signal(self.key, signal)

    # The link.

    def use(self, link: PeerLink) -> None:
        self.link = link
        say("linked", kind=link.path.kind)
        self.spawn(self.receive(link))

    def changed(self, link: PeerLink) -> None:
        self.changes.append(link.path.kind if link.is_connected else "none")

    async def receive(self, link: PeerLink) -> None:
        try:
            while True:
                frame = await link.receive()
                self.in_order &= int.from_bytes(frame[:8], "big") == self.received
                self.received += 1
                self.received_bytes += len(frame)
        except TransportError as error:
            say("closed", code=error.code)

    async def connect(self) -> None:
        began = time.monotonic()
        try:
            link = await self.reach.connect(self.other)
        except PgpeerError as error:
            say("failed", code=error.code, phase=error.phase, detail=str(error))
            return
        self.use(link)
        say("connected", seconds=time.monotonic() - began, kind=link.path.kind)

    async def send(self, count: int, size: int, pause: float) -> None:
        assert self.link is not None
        began = time.monotonic()
        for number in range(count):
            await self.link.send(number.to_bytes(8, "big") + bytes(size - 8))
            if pause:
                await asyncio.sleep(pause)
        say("sent", seconds=time.monotonic() - began)

    def obey(self, command: dict[str, Any]) -> None:
        link = self.link
        match command["do"]:
            case "connect":
                self.spawn(self.connect())
            case "send":
                self.spawn(self.send(command["count"], command["size"], command["pause"]))
            case "received":
                say("received", count=self.received, bytes=self.received_bytes, in_order=self.in_order)
            case "path":
                kind = link.path.kind if link is not None and link.is_connected else None
                say(
                    "path",
                    kind=kind,
                    local=link and link.path.local_candidate.type,
                    remote=link and link.path.remote_candidate.type,
                    rtt=link and link.rtt,
                    changes=self.changes,
                )
            case "hurry":
                self.reach.hurry()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            print(f"{error!r}", file=sys.stderr, flush=True)

    def moved(self) -> None:
        self.reach.hurry()
        if self.hub is not None:
            self.spawn(self.hub.close())


async def main() -> None:
    peer = LabPeer(json.loads(sys.argv[1]))
    peer.spawn(peer.stay_at_hub())
    peer.spawn(watch_network(peer.moved, time.time))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        peer.obey(json.loads(line))


asyncio.run(main())
