"""Every engine that carries links, for the conformance suite: how to make a pair, and how to break it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from pgpeer.hub.server import Hub
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.messages import CIRCUITS
from pgpeer.transport import webrtc
from pgpeer.transport.base import Link, PathKind
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.direct import TcpPipe, dial, listen
from pgpeer.transport.hub_events import CircuitReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.memory import MemoryLink, memory_pair
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.pipe import MemoryPipe, memory_pipe_pair
from pgpeer.transport.relay import open_relay
from pgpeer.transport.tls import TlsLink
from pgpeer.transport.webrtc import WebRTCLink

Pair = tuple[Link, Link]
HUB = "wss://hub.example"
HUBS: WeakKeyDictionary[Link, Hub] = WeakKeyDictionary()
"""The hub of a link, for tests that end it."""


@dataclass(frozen=True)
class Engine:
    """How to make a pair, to break it so that both ends notice, and to make the first end's words vanish."""

    make: Callable[[AsyncExitStack], Awaitable[Pair]]
    cut: Callable[[Link], None] | None = None
    stall: Callable[[Link], None] | None = None


async def memory(_: AsyncExitStack | None = None) -> Pair:
    return memory_pair()


async def slow_memory(_: AsyncExitStack | None = None) -> Pair:
    return memory_pair(latency=0.01)


async def webrtc_loopback(_: AsyncExitStack | None = None) -> Pair:
    offer = await webrtc.offer()
    answer = await webrtc.answer(offer.sdp)
    first, second = await asyncio.gather(offer.accept(answer.sdp), answer.opened())
    return first, second


async def tls_loopback(_: AsyncExitStack | None = None) -> Pair:
    incoming: asyncio.Queue[TlsLink] = asyncio.Queue()
    listener = await listen("127.0.0.1", 0, Certificate.generate(), incoming.put)
    first = await dial(listener.host, listener.port, Certificate.generate())
    second = await incoming.get()
    await listener.close()
    return first, second


async def relayed(_: AsyncExitStack | None = None) -> Pair:
    ends = memory_pipe_pair()
    first, second = await asyncio.gather(
        open_relay(ends[0], Certificate.generate(), hub_url=HUB, is_opener=True),
        open_relay(ends[1], Certificate.generate(), hub_url=HUB, is_opener=False),
    )
    return first, second


async def relayed_by_hub(stack: AsyncExitStack) -> Pair:
    """Through a real hub."""
    hub = await stack.enter_async_context(Hub())
    keys = PrivateKey.generate(), PrivateKey.generate()
    clients = [HubClient(hub.url, key, "", takes=(CIRCUITS,)) for key in keys]
    for client in clients:
        await client.connect()
        stack.push_async_callback(client.close)

    async def take() -> TlsLink:
        async for event in clients[1]:
            if isinstance(event, CircuitReceived):
                event.circuit.accept()
                return await open_relay(
                    event.circuit, Certificate.generate(), hub_url=hub.url, is_opener=False
                )
        raise AssertionError("the hub is gone")

    async def open_one() -> TlsLink:
        circuit = await clients[0].open_circuit(keys[1].peer_id)
        return await open_relay(circuit, Certificate.generate(), hub_url=hub.url, is_opener=True)

    first, second = await asyncio.gather(open_one(), take())
    HUBS[first] = hub
    return first, second


class Unobserved:
    """An observer that looks away."""

    def path_in_use(self, kind: PathKind | None) -> None: ...

    def path_suspect(self, path: int, kind: PathKind) -> None: ...

    def path_trusted(self, path: int, kind: PathKind) -> None: ...

    def path_gone(self, path: int, kind: PathKind, *, is_surpassed: bool) -> None: ...

    def signal(self, message: bytes) -> None: ...

    def ended(self) -> None: ...


def joined(*pairs: Pair) -> Pair:
    """Links over one or several paths, as `Reach` makes them."""
    names = [hashlib.sha256(name).digest() for name in (b"first", b"second")]
    ends = (
        PeerLink("second", (names[0], names[1]), Unobserved()),
        PeerLink("first", (names[1], names[0]), Unobserved()),
    )
    for pair in pairs:
        for end, link in zip(ends, pair, strict=True):
            end.add_path(link, is_preferred=True)
    return ends


async def peer_memory(_: AsyncExitStack | None = None) -> Pair:
    return joined(await slow_memory())


async def peer_relay(_: AsyncExitStack | None = None) -> Pair:
    return joined(await relayed())


async def peer_two_paths(_: AsyncExitStack | None = None) -> Pair:
    return joined(await relayed(), await tls_loopback())


def path_end(link: Link) -> Link:
    """The first path of a link over paths."""
    assert isinstance(link, PeerLink)
    return next(iter(link._paths.values())).link


def cut_memory(link: Link) -> None:
    assert isinstance(link, MemoryLink)
    link.cut()


def stall_memory(link: Link) -> None:
    assert isinstance(link, MemoryLink)
    link.stall()


def reset_tcp(link: Link) -> None:
    assert isinstance(link, TlsLink)
    assert isinstance(link._pipe, TcpPipe)
    link._pipe._writer.transport.abort()


def cut_pipe(link: Link) -> None:
    assert isinstance(link, TlsLink)
    assert isinstance(link._pipe, MemoryPipe)
    link._pipe.cut()


def stall_pipe(link: Link) -> None:
    assert isinstance(link, TlsLink)
    assert isinstance(link._pipe, MemoryPipe)
    link._pipe.stall()


class Mute:
    """A transport that sends nothing any more (uvloop's own takes no other `sendto`)."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def sendto(self, *_: object) -> None:
        """Drop a datagram."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def mute_udp(link: Link) -> None:
    """What this end sends is lost, as behind a firewall that closed."""
    assert isinstance(link, WebRTCLink)
    sctp = link._connection.sctp
    assert sctp is not None
    for protocol in sctp.transport.transport._connection._protocols:
        protocol.transport = Mute(protocol.transport)


def kill_hub(link: Link) -> None:
    server = HUBS[link]._server
    assert server is not None
    server.close()


ENGINES = {
    "memory": Engine(memory, cut_memory, stall_memory),
    "slow_memory": Engine(slow_memory, cut_memory, stall_memory),
    "webrtc": Engine(webrtc_loopback, stall=mute_udp),
    "tls": Engine(tls_loopback, reset_tcp),
    "relay": Engine(relayed, cut_pipe, stall_pipe),
    "hub": Engine(relayed_by_hub, kill_hub),
    "peer_memory": Engine(peer_memory, stall=lambda link: stall_memory(path_end(link))),
    "peer_relay": Engine(peer_relay, stall=lambda link: stall_pipe(path_end(link))),
    "peer_two_paths": Engine(peer_two_paths),
}
