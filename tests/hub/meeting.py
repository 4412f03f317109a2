"""A hub and the clients that a test connects to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection

from pgpeer.hub.server import Hub
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.authentication import authenticate
from pgpeer.signaling.messages import CIRCUITS, MAILBOX, Hello
from pgpeer.signaling.record import Registration
from pgpeer.signaling.wire import decode_for_client, encode
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived, HubEvent
from pgpeer.transport.hub_link import HubClient

ALICE = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
CAROL = PrivateKey.from_seed(b"c" * 32)
BOTH = (MAILBOX, CIRCUITS)

Kind = TypeVar("Kind")


class Meeting:
    """A hub and the clients that a test connects to it; everything is closed at the end."""

    def __init__(self, hub: Hub, stack: AsyncExitStack) -> None:
        self.hub = hub
        self._stack = stack

    async def join(self, key: PrivateKey, label: str = "", **options: Any) -> HubClient:
        client = HubClient(options.pop("url", "") or self.hub.url, key, label, **options)
        self._stack.push_async_callback(client.close)
        await client.connect()
        return client


Meet = Callable[..., Awaitable[Meeting]]


async def next_event(client: HubClient, seconds: float = 5) -> HubEvent:
    async with asyncio.timeout(seconds):
        async for event in client:
            return event
    raise AssertionError("no event")


async def next_of(client: HubClient, kind: type[Kind], seconds: float = 10) -> Kind:
    """The next event of a kind; others are passed over."""
    async with asyncio.timeout(seconds):
        async for event in client:
            if isinstance(event, kind):
                return event
    raise AssertionError("no event")


async def authenticate_raw(
    raw: ClientConnection,
    key: PrivateKey,
    url: str,
    label: str = "",
    features: tuple[str, ...] = (),
    visitor: bool = False,
) -> dict:
    """Answer the hello of a plain WebSocket connection and give the hub's reply."""
    hello = decode_for_client(str(await raw.recv()), 65_536)
    assert isinstance(hello, Hello)
    await raw.send(encode(authenticate(key, hello, label, url, features, visitor)))
    return json.loads(await raw.recv())


async def pipe(opener: HubClient, target: HubClient, target_key: PrivateKey) -> tuple[HubCircuit, HubCircuit]:
    """A circuit between two clients: both its ends."""
    opening = asyncio.create_task(opener.open_circuit(target_key.peer_id))
    incoming = (await next_of(target, CircuitReceived)).circuit
    incoming.accept()
    return await opening, incoming


async def read_all(circuit: HubCircuit) -> bytes:
    pieces = []
    while piece := await circuit.receive():
        pieces.append(piece)
    return b"".join(pieces)


async def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


def listed(
    key: PrivateKey, namespace: str, seq: int = 1, body: str = "", seconds: int = 3600
) -> Registration:
    return Registration(key.peer_id, namespace, seq, int(time.time()) + seconds, body)
