"""An application cannot tell relay from WebRTC (rows B2 and B14): the same program, the same trace.

Two programs talk over real workers: over the relay alone (UDP blocked), over WebRTC alone (a hub without
relays), over the relay that becomes WebRTC in the middle, and over a link that breaks. What a program sees,
its events with their arguments and the results of its calls, is the same to the letter.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from system.conftest import make_peer
from system.processes import Peer, Program

from pgpeer import ConnectionEnded, PeerConnection, PeerConnectionManager

__all__ = ["make_peer"]

Make = Callable[..., Peer]
Trace = list[tuple[object, ...]]

COUNT = 60
PATHS = "SELECT path FROM peer.connection WHERE kind = 'link'"
CHANGED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'path-changed')"


@pytest.fixture
def hub(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    program = Program(tmp_path / "hub.log", "hub_program.py", "0", *getattr(request, "param", ()))
    program.ready()
    yield program
    program.end(signal.SIGKILL)


def expected() -> tuple[Trace, Trace]:
    here: Trace = [("connected", False, True)]
    there: Trace = [("incoming", True, True)]
    for number in range(COUNT):
        here += [("sent", number, None), ("data", f"echo {number} é")]
        there += [("data", f"{number} é"), ("echoed", number, None)]
    here += [
        ("disconnected", None),
        ("closed", "peer-requested-closed"),
        ("refused", "peer-requested-closed"),
    ]
    there += [("closed", "peer-requested-closed")]
    return here, there


async def program(ann: Peer, bob: Peer, halfway: Callable[[], None]) -> tuple[Trace, Trace]:
    here: Trace = []
    there: Trace = []
    async with (
        PeerConnectionManager(ann.database.dsn) as at_ann,
        PeerConnectionManager(bob.database.dsn) as at_bob,
        asyncio.timeout(120),
    ):
        over = asyncio.Event()

        @at_bob.events.on("incoming_connection")
        def welcome(connection: PeerConnection) -> None:
            there.append(("incoming", connection.is_incoming, connection.confirm_data_receival))

            @connection.events.on("data")
            async def echo(data: str) -> None:
                there.append(("data", data))
                there.append(("echoed", int(data.split()[0]), await connection.send(f"echo {data}")))

        @at_bob.events.on("connection_closed")
        def farewell(_: PeerConnection, reason: str) -> None:
            there.append(("closed", reason))
            over.set()

        at_ann.events.on("connection_closed", lambda _, reason: here.append(("closed", reason)))
        connection = await at_ann.connect_to_peer(bob.peer_id, confirm_data_receival=True)
        here.append(("connected", connection.is_incoming, connection.confirm_data_receival))
        echoes: asyncio.Queue[str] = asyncio.Queue()
        connection.events.on("data", echoes.put_nowait)
        for number in range(COUNT):
            here.append(("sent", number, await connection.send(f"{number} é")))
            here.append(("data", await echoes.get()))
            if number == COUNT // 2:
                await asyncio.to_thread(halfway)
        here.append(("disconnected", await connection.disconnect()))
        await over.wait()
        while here[-1][0] != "closed":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            await connection.send("too late")
        except ConnectionEnded as error:
            here.append(("refused", error.reason))
    return here, there


def strangers(make_peer: Make, *options: str) -> tuple[Peer, Peer]:
    ann, bob = make_peer("ann"), make_peer("bob")
    bob.run("UPDATE peer.config SET accept = 'open'")
    ann.start()
    bob.start(*options)
    return ann, bob


def test_b14_over_the_relay_alone(make_peer: Make) -> None:
    ann, bob = strangers(make_peer, "no-udp")
    seen: list[tuple[str, ...]] = []
    assert asyncio.run(program(ann, bob, lambda: seen.extend(ann.run(PATHS)))) == expected()
    assert seen == [("relay",)]


@pytest.mark.parametrize("hub", [("no-relay",)], indirect=True)
def test_b14_over_webrtc_alone(make_peer: Make) -> None:
    ann, bob = strangers(make_peer)
    seen: list[tuple[str, ...]] = []
    assert asyncio.run(program(ann, bob, lambda: seen.extend(ann.run(PATHS)))) == expected()
    assert seen == [("webrtc",)]


def test_b14_over_the_relay_that_becomes_webrtc_in_the_middle(make_peer: Make) -> None:
    ann, bob = strangers(make_peer)

    def upgraded() -> None:
        ann.wait_until("SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND path = 'webrtc')")

    assert asyncio.run(program(ann, bob, upgraded)) == expected()
    assert ann.value(
        "SELECT detail LIKE 'relay%%' FROM peer.event WHERE kind = 'connected' ORDER BY id LIMIT 1"
    )
    assert ann.value(CHANGED)  # a diagnostic for people; no program was told


def test_b14_over_a_link_that_breaks_and_comes_back(make_peer: Make) -> None:
    ann, bob = strangers(make_peer)

    def broken() -> None:
        bob.end(signal.SIGKILL)
        bob.start()

    assert asyncio.run(program(ann, bob, broken)) == expected()
