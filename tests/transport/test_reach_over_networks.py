"""Reaching over real sockets: TLS in a circuit, WebRTC negotiated over the stream itself, direct TLS."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pgpeer.errors import TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import PathKind
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.direct import TlsListener, listen
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.pipe import MemoryPipe, Pipe, memory_pipe_pair
from pgpeer.transport.reach import Reach
from pgpeer.transport.relay import open_relay
from pgpeer.transport.tls import TlsLink
from pgpeer.transport.ways import RelayWay, TlsWay, Way, WebRTCWay

HUB = "ws://hub.example"


class Peer:
    """One peer; circuits are pipes in memory, everything else goes through the kernel."""

    def __init__(self, seed: int, kinds: tuple[PathKind, ...]) -> None:
        self.key = PrivateKey.from_seed(bytes([seed]) * 32)
        self.certificate = Certificate.generate()
        self.kinds = kinds
        self.incoming: asyncio.Queue[PeerLink] = asyncio.Queue()
        self.reach = Reach(
            self.key, lambda peer_id: self.ways_to(peer_id), lambda _: None, self.incoming.put_nowait
        )
        self.circuits: list[MemoryPipe] = []
        self.listener: TlsListener | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.other = self

    async def listen(self) -> None:
        self.listener = await listen("127.0.0.1", 0, self.certificate, self._take)

    def ways_to(self, _: str) -> list[Way]:
        ways: dict[PathKind, Way] = {
            "relay": RelayWay(self._open_circuit, HUB, self.certificate),
            "webrtc": WebRTCWay(IceSettings()),
        }
        if self.other.listener is not None:
            ways["tls"] = TlsWay([("127.0.0.1", self.other.listener.port)], self.certificate)
        return [ways[kind] for kind in self.kinds if kind in ways]

    async def _open_circuit(self) -> Pipe:
        here, there = memory_pipe_pair()
        self.circuits.append(here)
        self.other.tasks.add(asyncio.create_task(self.other._accept_circuit(there)))
        return here

    async def _accept_circuit(self, circuit: Pipe) -> None:
        await self._take(await open_relay(circuit, self.certificate, hub_url=HUB, is_opener=False))

    async def _take(self, link: TlsLink) -> None:
        await self.reach.take(link)

    async def close(self) -> None:
        await self.reach.close()
        if self.listener is not None:
            await self.listener.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Peer, Peer]]:
    peers = Peer(1, request.param), Peer(2, request.param)
    peers[0].other, peers[1].other = peers[1], peers[0]
    for peer in peers:
        await peer.listen()
    yield peers
    await asyncio.gather(*(peer.close() for peer in peers))


async def until(link: PeerLink, kind: PathKind, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while link.path.kind != kind or not link.is_connected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def linked(pair: tuple[Peer, Peer]) -> tuple[PeerLink, PeerLink]:
    here = await pair[0].reach.connect(pair[1].key.peer_id)
    return here, await asyncio.wait_for(pair[1].incoming.get(), 10)


@pytest.mark.parametrize("pair", [("relay", "webrtc")], indirect=True)
async def test_webrtc_is_negotiated_over_the_relay_and_takes_over_with_nothing_lost(
    pair: tuple[Peer, Peer],
) -> None:
    here, there = await linked(pair)
    count = 400

    async def send() -> None:
        for number in range(count):
            await here.send(b"%d" % number)
            await asyncio.sleep(0.002)

    sending = asyncio.create_task(send())
    received = [int(await asyncio.wait_for(there.receive(), 10)) for _ in range(count)]
    await sending
    assert received == list(range(count))
    await asyncio.gather(until(here, "webrtc"), until(there, "webrtc"))
    assert here.path.local_candidate == there.path.remote_candidate
    assert here.path.local_candidate.protocol == "udp"
    assert 0 < (here.rtt or 0) < 1
    plain = b"the application's own words " * 100
    await here.send(plain)
    assert await there.receive() == plain
    assert all(plain[:20] not in circuit.carried for circuit in pair[0].circuits)


@pytest.mark.parametrize("pair", [("relay", "webrtc")], indirect=True)
async def test_the_relay_carries_on_when_the_webrtc_path_is_closed(pair: tuple[Peer, Peer]) -> None:
    here, there = await linked(pair)
    await asyncio.gather(until(here, "webrtc"), until(there, "webrtc"))
    webrtc = [path.link for path in here._paths.values() if path.link.path.kind == "webrtc"]
    await webrtc[0].close()
    await here.send(b"by relay")
    assert await asyncio.wait_for(there.receive(), 5) == b"by relay"
    assert not here.closed


@pytest.mark.parametrize("pair", [("relay", "webrtc", "tls")], indirect=True)
async def test_direct_tls_takes_over_where_the_peers_reach_each_other(pair: tuple[Peer, Peer]) -> None:
    here, there = await linked(pair)
    await asyncio.gather(until(here, "tls"), until(there, "tls"))
    assert here.path.remote_candidate.address == "127.0.0.1"
    payload = b"p" * 60_000
    for _ in range(200):
        await here.send(payload)
        assert await there.receive() == payload


@pytest.mark.parametrize("pair", [("tls",)], indirect=True)
async def test_peers_that_know_an_address_need_no_hub(pair: tuple[Peer, Peer]) -> None:
    here, there = await linked(pair)
    await there.send(b"no hub")
    assert await here.receive() == b"no hub"
    assert not pair[0].circuits


@pytest.mark.parametrize("pair", [("relay", "webrtc")], indirect=True)
async def test_of_two_offers_that_cross_one_counts_and_both_sides_use_its_path(
    pair: tuple[Peer, Peer],
) -> None:
    here, there = await asyncio.gather(
        pair[0].reach.connect(pair[1].key.peer_id), pair[1].reach.connect(pair[0].key.peer_id)
    )
    await asyncio.gather(until(here, "webrtc"), until(there, "webrtc"))
    assert here.path.local_candidate == there.path.remote_candidate
    await here.send(b"one")
    await there.send(b"two")
    assert (await there.receive(), await here.receive()) == (b"one", b"two")
    assert [path.kind for path in here.paths].count("webrtc") == 1


@pytest.mark.parametrize("pair", [("relay",)], indirect=True)
async def test_an_address_that_becomes_known_is_used_live_and_a_stranger_s_is_told_apart(
    pair: tuple[Peer, Peer],
) -> None:
    here, _ = await linked(pair)
    stranger = Peer(3, ())
    await stranger.listen()
    assert stranger.listener is not None
    assert pair[1].listener is not None
    wrong, right = ("127.0.0.1", stranger.listener.port), ("127.0.0.1", pair[1].listener.port)
    noted: list[tuple[tuple[str, int], str]] = []
    addresses = [wrong]
    relay_only = pair[0].ways_to

    def ways_to(peer_id: str) -> list[Way]:
        note = TlsWay(list(addresses), pair[0].certificate, lambda *result: noted.append(result))
        return [*relay_only(peer_id), note]

    pair[0].ways_to = ways_to  # type: ignore[method-assign]
    pair[0].reach.hurry(pair[1].key.peer_id)
    async with asyncio.timeout(10):
        while not noted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert noted == [(wrong, "misled")]
    assert here.path.kind == "relay"
    addresses[:] = [right]
    await until(here, "tls")
    assert noted[-1] == (right, "led")
    await stranger.close()


@pytest.mark.parametrize("pair", [("tls",)], indirect=True)
async def test_an_address_where_nobody_listens_is_told(pair: tuple[Peer, Peer]) -> None:
    listener = pair[1].listener
    assert listener is not None
    dead = ("127.0.0.1", listener.port)
    await listener.close()
    noted: list[tuple[tuple[str, int], str]] = []
    way = TlsWay([dead], pair[0].certificate, lambda *result: noted.append(result))
    pair[0].ways_to = lambda _: [way]  # type: ignore[method-assign]
    with pytest.raises(TransportError) as refused:
        await pair[0].reach.connect(pair[1].key.peer_id)
    assert (refused.value.code, refused.value.phase) == ("peer_offline", "resolve")
    assert noted == [(dead, "silent")]
