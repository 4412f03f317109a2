"""Time-outs of the transport room that no other test measures, on a clock that jumps (row B17)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from neighbourhood import Neighbourhood, linked, settle
from path_world import PathWorld
from virtual_time import in_virtual_time

from pgpeer.errors import PgpeerError, TransportError
from pgpeer.transport import direct, webrtc
from pgpeer.transport.base import Candidate, Link, LinkPath, PathKind
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.contact import ANSWER_SECONDS
from pgpeer.transport.direct import (
    ANOTHER_ADDRESS_SECONDS,
    CONNECT_SECONDS,
    LINGER_SECONDS,
    TcpPipe,
    dial,
)
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.multipath import PathSwitch
from pgpeer.transport.multipath_intake import ACKNOWLEDGE_SECONDS
from pgpeer.transport.peer_link import DRAIN_SECONDS
from pgpeer.transport.pipe import memory_pipe_pair
from pgpeer.transport.pulse import MEASURE_SECONDS
from pgpeer.transport.tls import HANDSHAKE_SECONDS, TlsLink, open_tls
from pgpeer.transport.ways import Exchange

PATH = LinkPath("tls", "openssl", Candidate("host", "a", 1, "tcp"), Candidate("host", "b", 2, "tcp"))


def clock() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_tls_handshake_that_nobody_answers_fails_after_ten_seconds() -> None:
    here, _ = memory_pipe_pair()
    began = clock()
    with pytest.raises(TransportError) as failed:
        await open_tls(here, Certificate.generate(), PATH, is_client=True)
    assert clock() - began == pytest.approx(HANDSHAKE_SECONDS, abs=0.01)
    assert (failed.value.code, failed.value.retryable) == ("timeout", True)
    assert failed.value.phase in ("dtls", "tls")
    assert failed.value.remedy


@in_virtual_time
async def test_a_tls_link_whose_other_side_takes_nothing_is_closed_after_a_second() -> None:
    ends = memory_pipe_pair()
    first, second = await asyncio.gather(
        open_tls(ends[0], Certificate.generate(), PATH, is_client=True),
        open_tls(ends[1], Certificate.generate(), PATH, is_client=False),
    )
    assert isinstance(first, TlsLink)
    ends[0].stall()
    await first.send(b"never arrives")
    began = clock()
    await first.close()
    assert clock() - began == pytest.approx(1.0, abs=0.01)
    ends[1].cut()
    await second.close()


@in_virtual_time
async def test_a_link_whose_other_side_takes_nothing_is_closed_after_a_second_or_two() -> None:
    around = Neighbourhood("relay")
    here, _ = await linked(around)
    await settle()
    for link in around.links:
        link.stall()
    await here.send(b"never acknowledged")
    began = clock()
    await here.close()
    assert DRAIN_SECONDS <= clock() - began <= 2 * DRAIN_SECONDS + 0.1
    await around.close()


@in_virtual_time
async def test_an_offer_over_the_stream_that_is_not_answered_fails_after_ten_seconds() -> None:
    failures: list[tuple[float, PgpeerError]] = []

    class Offering:
        kind: PathKind = "webrtc"

        async def dial(self, exchange: Exchange) -> Link:
            await asyncio.sleep(1.0)  # so that the link is there
            for link in around.links:  # what the other side says from now on is lost
                link.other_end.stall()
            began = clock()
            try:
                await exchange("v=0")
            except PgpeerError as error:
                failures.append((clock() - began, error))
                raise
            raise AssertionError("nobody can have answered")

    around = Neighbourhood("relay")
    ways_to = around.peers[0].ways_to
    around.peers[0].ways_to = lambda peer_id: [*ways_to(peer_id), Offering()]  # type: ignore[method-assign]
    around.peers[0].restart()
    await around.peers[0].reach.connect(around.peers[1].peer_id)
    await settle(ANSWER_SECONDS + 2)
    waited, error = failures[0]
    assert waited == pytest.approx(ANSWER_SECONDS, abs=0.01)
    assert (error.code, error.phase, error.retryable) == ("timeout", "signalling", True)
    await around.close()


class SilentNetwork:
    """Connections to its addresses are tried for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.dialled: list[tuple[str, float]] = []
        self._addresses = addresses
        monkeypatch.setattr(asyncio, "open_connection", self._connect)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", self._resolve)

    async def _resolve(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 1)) for one in self._addresses]

    async def _connect(self, address: str, _: int) -> None:
        self.dialled.append((address, clock()))
        await asyncio.Event().wait()


def test_dialling_tries_the_next_address_soon_and_gives_up_after_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @in_virtual_time
    async def run() -> None:
        network = SilentNetwork(monkeypatch, "192.0.2.1", "192.0.2.2", "192.0.2.3")
        began = clock()
        with pytest.raises(TransportError) as failed:
            await dial("peer.example", 1, Certificate.generate())
        assert clock() - began == pytest.approx(CONNECT_SECONDS, abs=0.01)
        assert [address for address, _ in network.dialled] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        for number, (_, when) in enumerate(network.dialled):
            assert when - began == pytest.approx(number * ANOTHER_ADDRESS_SECONDS, abs=0.01)
        assert (failed.value.code, failed.value.phase, failed.value.retryable) == ("timeout", "resolve", True)

    run()
    assert direct.CONNECT_SECONDS == 10.0


@in_virtual_time
async def test_a_closed_tcp_connection_is_cut_when_it_cannot_be_emptied() -> None:
    aborted: list[float] = []

    class Stuck:
        def close(self) -> None:
            """What was written stays in the buffer."""

        @property
        def transport(self) -> Stuck:
            return self

        def abort(self) -> None:
            aborted.append(clock())

    pipe = TcpPipe(asyncio.StreamReader(), Stuck())  # type: ignore[arg-type]
    began = clock()
    pipe.close()
    await asyncio.sleep(2 * LINGER_SECONDS)
    assert [when - began for when in aborted] == [pytest.approx(LINGER_SECONDS, abs=0.01)]


def test_what_was_received_is_acknowledged_soon_without_an_answer() -> None:
    sender, receiver = PathSwitch(0.0), PathSwitch(0.0)
    for end in (sender, receiver):
        end.add_path(1, 0, 0.0, is_preferred=True)
    for now in (0.0, 0.001):  # what both say about a new path
        for one, other in ((sender, receiver), (receiver, sender)):
            while (frame := one.next_frame(1, now)) is not None:
                other.receive(1, frame, now)
    sender.send(b"message")
    frame = sender.next_frame(1, 1.0)
    assert frame is not None
    receiver.receive(1, frame, 1.0)
    assert [message for message, _ in receiver.messages()] == [b"message"]
    receiver.consumed(len(b"message"), 1.0)
    assert not receiver.has_frame(1, 1.0 + ACKNOWLEDGE_SECONDS - 0.001)
    assert receiver.next_deadline(1.0) == pytest.approx(1.0 + ACKNOWLEDGE_SECONDS)
    receiver.tick(1.0 + ACKNOWLEDGE_SECONDS)
    acknowledgement = receiver.next_frame(1, 1.0 + ACKNOWLEDGE_SECONDS)
    assert acknowledgement is not None
    assert not sender.is_flushed
    sender.receive(1, acknowledgement, 1.1)
    assert sender.is_flushed


def test_the_round_trip_is_measured_again_while_there_is_traffic_all_the_time() -> None:
    world = PathWorld()
    number = world.open(1, latency=0.01)
    world.run(1.0)
    assert world.ends[0].rtt(number) == pytest.approx(0.02, abs=0.005)
    world.wires[number].latency = 0.1
    for second in range(int(MEASURE_SECONDS) + 1):
        world.send(0, b"%d" % second)
        world.send(1, b"%d" % second)
        world.run(1.0)
    assert world.ends[0].rtt(number) == pytest.approx(0.2, abs=0.02)
    assert world.ends[1].rtt(number) == pytest.approx(0.2, abs=0.02)


@in_virtual_time
async def test_a_webrtc_channel_that_does_not_open_is_slow_after_four_seconds_and_fails_after_twenty() -> (
    None
):
    link = webrtc.WebRTCLink(IceSettings())
    told: list[tuple[str, float]] = []
    began = clock()
    with pytest.raises(TransportError) as failed:
        await link.until_open(
            lambda phase: told.append((phase, clock() - began)), webrtc.SLOW_SECONDS, webrtc.FAIL_SECONDS
        )
    assert told == [("ice", pytest.approx(4.0, abs=0.01))]
    assert clock() - began == pytest.approx(20.0, abs=0.1)
    assert (failed.value.code, failed.value.phase, failed.value.retryable) == ("timeout", "ice", True)
    assert failed.value.remedy
