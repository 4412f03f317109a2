"""Time-outs of the transport room that belong to sockets and so to a real clock; each is short (row B17)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from adversary.hostile_hub import HostileHub, Plot
from stun_server import Stun

from pgpeer.identity.key import PrivateKey
from pgpeer.transport.hub_connection import CLOSE_SECONDS
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.nat_probe import ANSWER_SECONDS, REPEAT_SECONDS, probe_nat

LATE = 1.5
"""What a loaded machine may add."""


class Forgetful(Stun):
    """The first packet is lost."""

    def __init__(self) -> None:
        self._count = 0

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._count += 1
        if self._count > 1:
            super().datagram_received(data, address)


async def test_a_stun_request_that_was_lost_is_repeated_after_half_a_second() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Forgetful, local_addr=("127.0.0.1", 0))
    began = loop.time()
    report = await probe_nat([f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}"])
    assert REPEAT_SECONDS - 0.05 <= loop.time() - began < min(ANSWER_SECONDS, REPEAT_SECONDS + LATE)
    assert report.answers[0].mapped is not None
    transport.close()


async def test_a_hub_that_does_not_answer_a_close_holds_nobody_up() -> None:
    loop = asyncio.get_running_loop()
    async with HostileHub(Plot()) as hostile:
        client = HubClient(hostile.url, PrivateKey.from_seed(b"a" * 32), "")
        await client.connect()
        for visitor in hostile.visitors:
            visitor._socket.transport.pause_reading()
        began = loop.time()
        await client.close()
        assert CLOSE_SECONDS - 0.1 <= loop.time() - began < CLOSE_SECONDS + LATE
        for visitor in hostile.visitors:
            visitor._socket.transport.abort()
        await asyncio.sleep(0.05)


async def test_a_silent_stun_server_is_given_up_after_two_seconds() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    began = loop.time()
    report = await probe_nat([f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}"])
    assert loop.time() - began == pytest.approx(ANSWER_SECONDS, abs=LATE)
    assert report.answers[0].mapped is None
    assert report.answers[0].detail == "no answer within 2 s"
    transport.close()
