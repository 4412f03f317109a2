"""Real peers without a database: a connection to a hub, and `Reach` over it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from adversary.hostile_hub import HostileHub
from pgpeer.errors import PgpeerError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey, seal_to
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.messages import CIRCUITS
from pgpeer.signaling.signal import (
    LIFETIME_SECONDS,
    SIGNAL_DOMAIN,
    ReplayGuard,
    Signal,
    read_signal,
    sign_signal,
)
from pgpeer.transport.base import Link
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived, HubEvent, SignalReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.reach import Reach
from pgpeer.transport.relay import open_relay
from pgpeer.transport.ways import RelayWay, Way


class Companion:
    """One peer that is reached through one hub.

    Attributes:
        links: that others have opened.
        refused: why what came was not taken.
        events: what the hub told beside signals and circuits.
        offers: signals that were good.
    """

    def __init__(self, seed: bytes, url: str) -> None:
        self.key = PrivateKey.from_seed(seed * 32)
        self.peer_id = self.key.peer_id
        self.url = url
        self.client = HubClient(url, self.key, "", takes=(CIRCUITS,))
        self.certificate = Certificate.generate()
        self.reach = Reach(self.key, self._ways_to, lambda _: None, self._linked)
        self.links: asyncio.Queue[PeerLink] = asyncio.Queue()
        self.refused: list[PgpeerError] = []
        self.events: asyncio.Queue[HubEvent] = asyncio.Queue()
        self.offers: asyncio.Queue[Signal] = asyncio.Queue()
        self.circuits_opened = 0
        self._guard = ReplayGuard()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Companion:
        await self.client.connect()
        self.spawn(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reach.close()
        await self.client.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def signal(self, to: str, sdp: str = "v=0", sid: str = "") -> tuple[str, bytes]:
        """An offer that is signed as it should be: its session and its text."""
        sid = sid or secrets.token_urlsafe(8)
        expires = int(time.time()) + LIFETIME_SECONDS
        return sid, sign_signal(
            self.key, Signal(sid, self.peer_id, to, "offer", sdp, secrets.token_bytes(16), expires)
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ways_to(self, peer_id: str) -> list[Way]:
        async def open_circuit() -> HubCircuit:
            self.circuits_opened += 1
            return await self.client.open_circuit(peer_id)

        return [RelayWay(open_circuit, self.url, self.certificate)]

    def _linked(self, link: PeerLink) -> None:
        self.links.put_nowait(link)

    async def _listen(self) -> None:
        async for event in self.client:
            if isinstance(event, CircuitReceived):
                self.spawn(self._accept(event.circuit))
            elif isinstance(event, SignalReceived):
                self._read(event)
            else:
                self.events.put_nowait(event)

    async def _accept(self, circuit: HubCircuit) -> None:
        try:
            circuit.accept()
            link = await open_relay(circuit, self.certificate, hub_url=self.url, is_opener=False)
            await self.reach.take(link, circuit.peer_id)
        except PgpeerError as error:
            self.refused.append(error)

    def _read(self, event: SignalReceived) -> None:
        try:
            signal = read_signal(
                event.plaintext,
                sender=event.sender,
                recipient=self.peer_id,
                sid=event.sid,
                now=time.time(),
                guard=self._guard,
            )
        except RemoteProtocolError as error:
            self.refused.append(error)
        else:
            self.offers.put_nowait(signal)


class Mallory:
    """Whom a hostile hub puts between two peers: it ends the encryption of both, and passes on what it reads.

    Attributes:
        heard: every frame that it could read.
    """

    def __init__(self, hostile: HostileHub) -> None:
        self.key = PrivateKey.from_seed(b"m" * 32)
        self.peer_id = self.key.peer_id
        self.heard: list[bytes] = []
        self._url = hostile.hub.url
        self._client = HubClient(self._url, self.key, "", takes=(CIRCUITS,))
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Mallory:
        await self._client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def arrival(self) -> Link:
        """The next peer that the hub leads here instead of where it wanted to go."""
        async for event in self._client:
            if isinstance(event, CircuitReceived):
                event.circuit.accept()
                return await open_relay(
                    event.circuit, Certificate.generate(), hub_url=self._url, is_opener=False
                )
        raise AssertionError("the hub is gone")

    async def call(self, peer_id: str) -> Link:
        circuit = await self._client.open_circuit(peer_id)
        return await open_relay(circuit, Certificate.generate(), hub_url=self._url, is_opener=True)

    def pump(self, source: Link, target: Link) -> None:
        async def pass_on() -> None:
            with suppress(PgpeerError):
                while True:
                    frame = await source.receive()
                    self.heard.append(frame)
                    await target.send(frame)

        task = asyncio.create_task(pass_on())
        self._tasks.add(task)

    def forged_box(self, message: dict[str, Any], recipient: str) -> dict[str, Any]:
        """A signal under way, with another one in its place."""
        forged = self.forged_signal(message["from"], recipient, message["sid"])
        box = seal_to(public_key_from_peer_id(recipient), forged)
        return {**message, "box": base64.b64encode(box).decode()}

    def forged_signal(self, sender: str, recipient: str, sid: str) -> bytes:
        """An offer in the name of somebody else, signed with the only key that Mallory has."""
        body = json.dumps(
            {
                "sid": sid,
                "from": sender,
                "to": recipient,
                "kind": "offer",
                "sdp": "v=0 mallory",
                "nonce": secrets.token_hex(16),
                "expires": int(time.time()) + LIFETIME_SECONDS,
            }
        ).encode()
        return self.key.sign(SIGNAL_DOMAIN, body) + body
