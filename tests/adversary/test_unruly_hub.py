"""Peers at a hub that pushes what nobody asked for, breaks the rules, or says no to everything."""

from __future__ import annotations

import asyncio
import base64

import psutil
import pytest

from adversary.companions import Companion, Mallory
from adversary.hostile_hub import HostileHub, Message, Plot, Visitor
from pgpeer.errors import CODES, PHASES, HubError, PgpeerError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.client import HubClosed, PeerOffline, PeerOnline
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.path_proof import refusal

ANN = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
MIB = 1024 * 1024
ROUNDS = 3000


async def test_a_hub_that_tells_of_what_nobody_asked_for_takes_no_memory() -> None:
    async with HostileHub(Plot()) as hostile, asyncio.timeout(120):
        client = HubClient(hostile.url, ANN, "")  # takes neither letters nor circuits
        await client.connect()
        await client.watch([BOB.peer_id])
        await client.follow(["followed"])
        async for event in client:  # the hub's own answer, or it could come after the lies
            assert event == PeerOffline(BOB.peer_id)
            break
        visitor = hostile.visitor(ANN.peer_id)
        rss = psutil.Process().memory_info().rss
        box = base64.b64encode(b"x" * 1000).decode()
        for number in range(ROUNDS):
            strangers = {PrivateKey.from_seed(number.to_bytes(32, "big")).peer_id: "x" * 100}
            await visitor.tell({"t": "presence", "online": strangers, "offline": []})
            await visitor.tell({"t": "changes", "ns": f"n{number}", "joined": [], "left": [], "missed": True})
            await visitor.tell({"t": "signal", "from": BOB.peer_id, "sid": "s", "box": box})
        await visitor.tell({"t": "presence", "online": {BOB.peer_id: "the last"}, "offline": []})
        events = []
        async for event in client:
            events.append(event)
            if event == PeerOnline(BOB.peer_id, "the last"):
                break
        assert len(events) <= 2  # of the peer that is watched
        assert psutil.Process().memory_info().rss - rss < 16 * MIB
        assert client.refused_signals == ROUNDS
        await client.close()


@pytest.mark.parametrize(
    "words",
    [
        {"t": "nonsense"},
        {"t": "presence", "online": [], "offline": []},
        {"t": "signal", "from": "nobody", "sid": "s", "box": "eA=="},
        {"t": "signal", "from": BOB.peer_id, "sid": "s" * 65, "box": "eA=="},
        {"t": "hello", "hub_id": "again", "nonce": "eA==", "proto": [1]},
        {"t": "opened", "id": "one", "circuit": 1},
        {"t": "peers", "id": 1, "records": ["!"], "cookie": 0, "more": False},
        {"t": "pong", "padding": "x" * 70_000},
    ],
    ids=lambda words: str(words)[:40],
)
async def test_a_hub_that_breaks_the_rules_is_left_with_a_typed_error(words: Message) -> None:
    async with HostileHub(Plot()) as hostile, Companion(b"a", hostile.url) as ann, asyncio.timeout(10):
        await hostile.visitor(ann.peer_id).tell(words)
        ended = await ann.events.get()
        assert isinstance(ended, HubClosed)
        assert ended.error.code in CODES
        assert ended.error.phase in PHASES
        with pytest.raises(HubError):
            await ann.client.open_circuit(BOB.peer_id)


class Pretend(Plot):
    """A hub that says no to everything, with the words of its choice."""

    def __init__(self, code: str) -> None:
        self._code = code

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        return [message] if message["t"] in ("auth", "ping") else []


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("refused_policy", "relay_refused"),
        ("refused_blocked", "relay_refused"),
        ("identity_mismatch", "relay_refused"),
        ("version_mismatch", "relay_refused"),
        ("made_up", "internal"),
        ("x" * 60, "internal"),
    ],
)
async def test_what_a_hub_says_of_a_peer_is_the_hubs_word_and_no_more(code: str, shown: str) -> None:
    plot = Pretend(code)
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        asyncio.timeout(10),
    ):
        opening = asyncio.create_task(ann.reach.connect(BOB.peer_id))
        await asyncio.sleep(0.1)
        await hostile.visitor(ann.peer_id).tell(
            {"t": "error", "id": 1, "code": code, "detail": "because", "hint": "", "retryable": False}
        )
        with pytest.raises(PgpeerError) as refused:
            await opening
        assert isinstance(refused.value, HubError)
        assert refused.value.code == shown
        assert refused.value.phase in PHASES
        assert refused.value.retryable == (shown == "relay_refused")
        assert not ann.client.is_closed


class CutOff(Plot):
    """A hub that ends a circuit after some of its bytes, with the words of its choice."""

    def __init__(self, code: str, frames: int) -> None:
        self._code = code
        self._left = frames
        self.circuit = 0
        self.ending: asyncio.Task[None] | None = None

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "opened":
            self.circuit = message["circuit"]
        return [message]

    def carried(self, visitor: Visitor, data: bytes) -> list[bytes]:
        self._left -= 1
        if self._left == 0:
            words = {"t": "shut", "circuit": self.circuit, "code": self._code, "detail": "The peer says no."}
            self.ending = asyncio.get_running_loop().create_task(visitor.tell(words))
        return [] if self._left == 0 else [data]


@pytest.mark.parametrize("code", ["refused_policy", "refused_blocked", "bad_signature"])
@pytest.mark.parametrize("frames", [1, 3])
async def test_a_hub_that_cuts_a_circuit_cannot_say_why_in_the_peers_name(code: str, frames: int) -> None:
    plot = CutOff(code, frames)
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.hub.url) as bob,
        asyncio.timeout(20),
    ):
        with pytest.raises(PgpeerError) as refused:
            await ann.reach.connect(bob.peer_id, fail_seconds=5)
        assert plot.ending is not None
        assert refused.value.code == "relay_refused"
        assert refused.value.retryable
        # the next try leads there, for nobody has said no
        here = await ann.reach.connect(bob.peer_id)
        await here.send(b"hello")
        assert await (await bob.links.get()).receive() == b"hello"


class Divert(Plot):
    """Circuits lead to an accomplice of the hub."""

    def __init__(self) -> None:
        self.accomplice = ""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        is_victims = message["t"] == "open" and visitor.peer_id != self.accomplice
        return [{**message, "to": self.accomplice}] if is_victims else [message]


@pytest.mark.parametrize("code", ["refused_policy", "refused_blocked"])
async def test_who_is_put_in_a_peers_place_cannot_refuse_in_its_name(code: str) -> None:
    plot = Divert()
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        Mallory(hostile) as mallory,
        asyncio.timeout(10),
    ):
        plot.accomplice = mallory.peer_id
        connecting = asyncio.create_task(ann.reach.connect(BOB.peer_id, fail_seconds=5))
        link = await mallory.arrival()
        await link.receive()
        await link.send(refusal(code))
        with pytest.raises(PgpeerError) as refused:
            await connecting
        assert refused.value.code == "remote_closed"
        assert refused.value.retryable
        assert not ann.reach.links()
