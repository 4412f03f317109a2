"""Faults are injected into every phase of reaching a peer: first slow, then failed, and always typed.

Rows B16 and B17. The clock is virtual; what hangs is the network, and everything above it is real. The phases
of a hub connection are in tests/signaling/test_conversation_times.py, those of a session in
tests/protocol/test_session.py, those of an application's connection in tests/channel/test_patience.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from virtual_time import in_virtual_time

from pgpeer.errors import CODES, PHASES, HubError, PgpeerError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport import webrtc
from pgpeer.transport.base import Link, PathKind
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.path_proof import Hello, PathProof, read_hello
from pgpeer.transport.pipe import MemoryPipe, Pipe, memory_pipe_pair
from pgpeer.transport.reach import FAIL_SECONDS, SLOW_SECONDS, Reach
from pgpeer.transport.relay import open_relay
from pgpeer.transport.ways import Exchange, RelayWay, TlsWay, Way
from requirements.test_times_of_links import SilentNetwork, clock

ANN = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
MALLORY = PrivateKey.from_seed(b"m" * 32)
HUB = "ws://hub.example"


class World:
    """What ann's ways lead to; bob answers as far as a phase lets him."""

    def __init__(self) -> None:
        self.certificate = Certificate.generate()
        self.pipes: list[MemoryPipe] = []
        self.tasks: list[asyncio.Task[None]] = []

    def relay(self, answer: Callable[[MemoryPipe], Awaitable[None]]) -> Way:
        async def open_circuit() -> Pipe:
            here, there = memory_pipe_pair()
            self.pipes.append(there)

            async def run() -> None:
                await answer(there)

            self.tasks.append(asyncio.create_task(run()))
            return here

        return RelayWay(open_circuit, HUB, self.certificate)

    async def nothing(self, _: MemoryPipe) -> None:
        """The other side says nothing at all."""

    async def only_tls(self, pipe: MemoryPipe) -> None:
        """The other side opens the encryption, and that is all."""
        await open_relay(pipe, Certificate.generate(), hub_url=HUB, is_opener=False)

    async def garbage(self, pipe: MemoryPipe) -> None:
        await pipe.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40)

    async def hello_of_the_future(self, pipe: MemoryPipe) -> None:
        link = await open_relay(pipe, Certificate.generate(), hub_url=HUB, is_opener=False)
        hello = Hello(bytes(16), bytes(32), BOB.peer_id, ANN.peer_id).encode()
        await link.send(hello[:1] + (999).to_bytes(2, "big") + hello[3:])

    async def no_proof(self, pipe: MemoryPipe) -> None:
        """The other side says that it is bob, and signs with the only key that it has."""
        link = await open_relay(pipe, Certificate.generate(), hub_url=HUB, is_opener=False)
        hello = Hello(bytes(16), bytes(32), BOB.peer_id, ANN.peer_id)
        proof = PathProof(MALLORY, "taker", "relay", link.local_fingerprint, link.remote_fingerprint, hello)
        proof.take_hello(read_hello(await link.receive()))
        await link.send(hello.encode())
        await link.send(proof.proof())


class Offer:
    """A WebRTC way whose offer has nobody to carry it."""

    kind: PathKind = "webrtc"

    async def dial(self, exchange: Exchange) -> Link:
        await exchange("v=0")
        raise AssertionError("nobody can have answered")


class NoCandidates:
    """A WebRTC way on a network that lets no UDP through: the real engine, which hears nothing."""

    kind: PathKind = "webrtc"

    async def dial(self, _: Exchange) -> Link:
        link = webrtc.WebRTCLink(IceSettings())
        await link.until_open(None, webrtc.SLOW_SECONDS, webrtc.FAIL_SECONDS)
        return link


def refused_by_the_hub(code: str, *, retryable: bool) -> Way:
    async def open_circuit() -> Pipe:
        raise HubError("No.", code=code, phase="signalling", remedy="Wait.", retryable=retryable)

    return RelayWay(open_circuit, HUB, Certificate.generate())


@dataclass(frozen=True)
class Hang:
    """A phase in which nothing more comes: when it fails, and how."""

    phase: str
    way: Callable[[World], Way]
    fails_after: float
    code: str = "timeout"


HANGS = [
    Hang("resolve", lambda world: TlsWay([("192.0.2.1", 1)], world.certificate), 10.0),
    Hang("signalling", lambda _: Offer(), 10.0),
    Hang("ice", lambda _: NoCandidates(), 20.0),
    Hang("tls", lambda world: world.relay(world.nothing), 10.0),
    Hang("identity", lambda world: world.relay(world.only_tls), 10.0),
]


def in_words(value: object) -> str | None:
    return getattr(value, "phase", None)


async def failure(world: World, way: Way, on_slow: Callable[[], None] | None = None) -> PgpeerError:
    reach = Reach(ANN, lambda _: [way], lambda _: None, lambda _: None)
    with pytest.raises(PgpeerError) as failed:
        await reach.connect(BOB.peer_id, on_slow=on_slow, fail_seconds=FAIL_SECONDS + 1)
    await reach.close()
    for pipe in world.pipes:
        pipe.cut()
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    return failed.value


def assert_typed(error: PgpeerError, phases: tuple[str, ...]) -> None:
    assert error.phase in phases
    assert error.phase in PHASES
    assert error.code in CODES
    assert str(error).endswith(".")


@pytest.mark.parametrize("hang", HANGS, ids=in_words)
def test_a_phase_that_hangs_is_slow_after_four_seconds_and_then_fails(
    hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    @in_virtual_time
    async def run() -> None:
        SilentNetwork(monkeypatch, "192.0.2.1")
        world = World()
        slow: list[float] = []
        began = clock()
        error = await failure(world, hang.way(world), lambda: slow.append(clock() - began))
        assert slow == [pytest.approx(SLOW_SECONDS, abs=0.01)]
        assert clock() - began == pytest.approx(hang.fails_after, abs=1.2)
        assert_typed(error, (hang.phase, "dtls") if hang.phase == "tls" else (hang.phase,))
        assert (error.code, error.retryable) == (hang.code, True)

    run()


@dataclass(frozen=True)
class Break:
    """A phase that goes wrong at once."""

    phase: str
    way: Callable[[World], Way]
    code: str
    retryable: bool


BREAKS = [
    Break("resolve", lambda world: TlsWay([], world.certificate), "id_unknown", True),
    Break("signalling", lambda _: refused_by_the_hub("peer_offline", retryable=True), "peer_offline", True),
    Break("signalling", lambda _: refused_by_the_hub("quota", retryable=True), "quota", True),
    Break(
        "signalling", lambda _: refused_by_the_hub("refused_policy", retryable=False), "relay_refused", True
    ),
    Break("tls", lambda world: world.relay(world.garbage), "version_mismatch", False),
    Break("hello", lambda world: world.relay(world.hello_of_the_future), "version_mismatch", False),
    Break("identity", lambda world: world.relay(world.no_proof), "bad_signature", False),
]


@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: f"{fault.phase}-{fault.code}")
def test_a_phase_that_breaks_fails_at_once_with_its_code(fault: Break) -> None:
    @in_virtual_time
    async def run() -> None:
        world = World()
        began = clock()
        error = await failure(world, fault.way(world))
        assert clock() - began < 1.0
        assert_typed(error, (fault.phase, "dtls") if fault.phase == "tls" else (fault.phase,))
        assert (error.code, error.retryable) == (fault.code, fault.retryable)

    run()


@in_virtual_time
async def test_without_any_way_reaching_fails_at_once() -> None:
    reach = Reach(ANN, lambda _: [], lambda _: None, lambda _: None)
    with pytest.raises(PgpeerError) as failed:
        await reach.connect(BOB.peer_id)
    assert_typed(failed.value, ("resolve",))
    assert failed.value.code == "peer_offline"
    assert failed.value.remedy
