"""Peers at a hub that swaps, repeats, drops, delays, changes and lies: typed errors, and nothing leaks.

The hub is `hostile_hub.HostileHub`: the real one, with somebody hostile in front of it. The peers are real ones
(`HubClient`, `Reach`, TLS, proofs); the same with whole workers is in `test_hostile_hub_and_workers.py`.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import Callable

import pytest

from adversary.companions import Companion, Mallory
from adversary.hostile_hub import HostileHub, Message, Plot, Visitor
from pgpeer.errors import CODES, PHASES, HubError, PgpeerError
from pgpeer.identity.key import PrivateKey, seal_to
from pgpeer.signaling.client import PeerOffline, PeerOnline

SECRET = b"the row that nobody else may read"
MIB = 1024 * 1024


def assert_typed(error: PgpeerError, code: str, phase: str) -> None:
    assert (error.code, error.phase) == (code, phase)
    assert error.code in CODES
    assert error.phase in PHASES


class Redirect(Plot):
    """Circuits from the victim lead to Mallory, whose circuits seem to come from the victim."""

    def __init__(self) -> None:
        self.victim = self.accomplice = ""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "open" and visitor.peer_id == self.victim:
            return [{**message, "to": self.accomplice}]
        return [message]

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "circuit" and message["from"] == self.accomplice:
            return [{**message, "from": self.victim}]
        return [message]


async def test_who_stands_between_two_peers_is_found_out_by_both_and_has_read_nothing() -> None:
    plot = Redirect()
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        Mallory(hostile) as mallory,
    ):
        plot.victim, plot.accomplice = ann.peer_id, mallory.peer_id
        connecting = asyncio.create_task(ann.reach.connect(bob.peer_id, fail_seconds=5))
        near = await mallory.arrival()
        far = await mallory.call(bob.peer_id)
        mallory.pump(near, far)
        mallory.pump(far, near)
        with pytest.raises(PgpeerError) as refused:
            await connecting
        assert_typed(refused.value, "identity_mismatch", "identity")
        assert "stands between" in str(refused.value)
        async with asyncio.timeout(5):
            while not bob.refused:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert_typed(bob.refused[0], "identity_mismatch", "identity")
        assert bob.links.empty()
        assert not ann.reach.links()
        assert 0 < len(mallory.heard) <= 4  # hellos, a proof that is worth nothing, and the refusal
        assert SECRET not in b"".join(mallory.heard)


async def test_who_is_put_in_a_peers_place_cannot_prove_to_be_it() -> None:
    plot = Redirect()
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"m", hostile.hub.url) as mallory,
    ):
        plot.victim, plot.accomplice = ann.peer_id, mallory.peer_id
        with pytest.raises(PgpeerError) as refused:
            await ann.reach.connect(BOB.peer_id, fail_seconds=5)
        assert_typed(refused.value, "identity_mismatch", "identity")
        assert mallory.links.empty()


class Spoil(Plot):
    """Every so many frames of a circuit something is done to one."""

    def __init__(self, every: int, spoil: Callable[[bytes, bytes], list[bytes]]) -> None:
        self._count = itertools.count(1)
        self._every = every
        self._spoil = spoil
        self._before = b""
        self.spoilt = 0

    def carried(self, visitor: Visitor, data: bytes) -> list[bytes]:
        if next(self._count) % self._every or not self._before:
            self._before = data
            return [data]
        self.spoilt += 1
        return self._spoil(data, self._before)


def flipped(data: bytes, _: bytes) -> list[bytes]:
    return [data[:-1] + bytes([data[-1] ^ 1])]


def dropped(_: bytes, __: bytes) -> list[bytes]:
    return []


def repeated(data: bytes, _: bytes) -> list[bytes]:
    return [data, data]


def swapped_with_former(data: bytes, before: bytes) -> list[bytes]:
    return [before[:8] + data[8:][::-1]]


@pytest.mark.parametrize("spoil", [flipped, dropped, repeated, swapped_with_former])
async def test_what_a_hub_changes_on_the_way_costs_the_path_and_no_message(
    spoil: Callable[[bytes, bytes], list[bytes]],
) -> None:
    plot = Spoil(12, spoil)
    async with (
        HostileHub(plot) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        asyncio.timeout(60),
    ):
        here = await ann.reach.connect(bob.peer_id)
        there = await bob.links.get()
        count = 150

        async def speak() -> None:
            for number in range(count):
                await here.send(SECRET + b" %d" % number)
                await asyncio.sleep(0.005)

        speaking = asyncio.create_task(speak())
        received = [await there.receive() for _ in range(count)]
        await speaking
        assert received == [SECRET + b" %d" % number for number in range(count)]
        assert plot.spoilt
        while max(ann.circuits_opened, bob.circuits_opened) < 2:  # noqa: ASYNC110 - what was changed is not taken
            await asyncio.sleep(0.01)
        assert SECRET not in hostile.seen


class Forge(Plot):
    """Signals are tampered with on their way to the recipient."""

    def __init__(self, forge: Callable[[Message], list[Message]]) -> None:
        self._forge = forge

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        return self._forge(message) if message["t"] == "signal" and "from" in message else [message]


ANN = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
CARL = PrivateKey.from_seed(b"c" * 32)


def in_anns_name(message: Message) -> list[Message]:
    forged = Mallory.forged_signal.__get__(_Keyed())(ANN.peer_id, BOB.peer_id, message["sid"])
    return [{**message, "box": base64.b64encode(seal_to(BOB.public_key, forged)).decode()}]


class _Keyed:
    key = PrivateKey.from_seed(b"m" * 32)


def as_carls(message: Message) -> list[Message]:
    return [{**message, "from": CARL.peer_id}]


def of_another_attempt(message: Message) -> list[Message]:
    return [{**message, "sid": "another"}]


def twice(message: Message) -> list[Message]:
    return [message, message]


@pytest.mark.parametrize(
    ("forge", "code", "taken"),
    [
        (in_anns_name, "bad_signature", 0),
        (as_carls, "bad_signature", 0),
        (of_another_attempt, "identity_mismatch", 0),
        (twice, "replay", 1),
    ],
)
async def test_a_signal_that_is_not_what_its_sender_signed_is_refused(
    forge: Callable[[Message], list[Message]], code: str, taken: int
) -> None:
    async with (
        HostileHub(Forge(forge)) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        asyncio.timeout(10),
    ):
        sid, text = ann.signal(bob.peer_id, sdp=f"v=0 {SECRET.decode()}")
        assert await ann.client.send_signal(bob.peer_id, sid, text)
        while not bob.refused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert_typed(bob.refused[0], code, "signalling")
        assert bob.offers.qsize() == taken
        assert SECRET not in hostile.seen
        assert base64.b64encode(SECRET[:30]) not in hostile.seen


async def test_a_box_that_is_given_to_somebody_else_does_not_open() -> None:
    async with (
        HostileHub(Plot()) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        asyncio.timeout(10),
    ):
        sid, text = ann.signal(bob.peer_id)
        box = base64.b64encode(seal_to(bob.key.public_key, text)).decode()
        await hostile.visitor(ann.peer_id).tell({"t": "signal", "from": bob.peer_id, "sid": sid, "box": box})
        while not ann.client.refused_signals:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert ann.offers.empty()


class Swallow(Plot):
    """Whatever peers ask for vanishes; signals are said to be delivered."""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        return [] if message["t"] in ("open", "signal", "register", "post") else [message]


async def test_a_hub_that_drops_everything_is_slow_and_then_fails_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgpeer.signaling.client_requests.SIGNAL_FAIL_SECONDS", 1.0)
    async with (
        HostileHub(Swallow()) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
    ):
        slow: list[float] = []
        began = time.monotonic()
        with pytest.raises(PgpeerError) as refused:
            await ann.reach.connect(
                bob.peer_id, on_slow=lambda: slow.append(1.0), slow_seconds=0.2, fail_seconds=5
            )
        assert slow == [1.0]
        assert time.monotonic() - began < 4
        assert_typed(refused.value, "timeout", "signalling")
        assert refused.value.retryable
        sid, text = ann.signal(bob.peer_id)
        with pytest.raises(HubError) as lost:
            await ann.client.send_signal(bob.peer_id, sid, text)
        assert_typed(lost.value, "timeout", "signalling")


class Hold(Plot):
    """Every word of the hub is late."""

    def delay(self, visitor: Visitor, message: Message) -> float:
        return 0.4


async def test_a_hub_that_delays_is_slow_and_that_is_all() -> None:
    async with (
        HostileHub(Hold()) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        asyncio.timeout(20),
    ):
        slow: list[float] = []
        here = await ann.reach.connect(bob.peer_id, on_slow=lambda: slow.append(1.0), slow_seconds=0.2)
        there = await bob.links.get()
        await here.send(SECRET)
        assert await there.receive() == SECRET
        assert slow == [1.0]
        assert SECRET not in hostile.seen


class Lie(Plot):
    """Who is here is said to be away, and who never came to be here."""

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] != "presence":
            return [message]
        return [
            {
                "t": "presence",
                "online": dict.fromkeys(message["offline"], "a lie"),
                "offline": list(message["online"]),
            }
        ]


async def test_lies_about_presence_lead_nowhere_and_keep_nobody_away() -> None:
    async with (
        HostileHub(Lie()) as hostile,
        Companion(b"a", hostile.url) as ann,
        Companion(b"b", hostile.url) as bob,
        asyncio.timeout(20),
    ):
        await ann.client.watch([bob.peer_id, CARL.peer_id])
        told = [await ann.events.get(), await ann.events.get()]
        assert {type(one) for one in told} == {PeerOnline, PeerOffline}
        with pytest.raises(PgpeerError) as refused:
            await ann.reach.connect(CARL.peer_id, fail_seconds=5)
        assert_typed(refused.value, "peer_offline", "signalling")
        here = await ann.reach.connect(bob.peer_id)
        await here.send(SECRET)
        assert await (await bob.links.get()).receive() == SECRET
