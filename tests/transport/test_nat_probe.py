"""Asking STUN servers which address they see."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from stun_server import Stun

from pgpeer.errors import ConfigError
from pgpeer.transport.nat_probe import ANSWER_SECONDS, StunAnswer, _mapping, probe_nat


class Junk(asyncio.DatagramProtocol):
    """Answers everything with bytes that are no STUN."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for junk in (b"", b"junk", data[:8], b"\x01\x01\x00\x08" + data[4:20] + b"\x00\x20\x00\xff"):
            self.transport.sendto(junk, addr)  # type: ignore[attr-defined]


@pytest.fixture
async def urls(request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    loop = asyncio.get_running_loop()
    transports = [
        (await loop.create_datagram_endpoint(protocol, local_addr=("127.0.0.1", 0)))[0]
        for protocol in request.param
    ]
    yield [f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}" for transport in transports]
    for transport in transports:
        transport.close()


@pytest.mark.parametrize("urls", [[Stun, Stun]], indirect=True)
async def test_a_host_without_nat_is_seen_under_its_own_address(urls: list[str]) -> None:
    report = await probe_nat(urls)
    assert report.mapping == "none"
    assert [answer.url for answer in report.answers] == urls
    assert len({answer.mapped for answer in report.answers}) == 1
    assert all(0 < (answer.seconds or 0) < ANSWER_SECONDS for answer in report.answers)


@pytest.mark.parametrize("urls", [[Junk]], indirect=True)
async def test_servers_that_say_nothing_useful_are_named_with_the_reason(urls: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        report = await probe_nat([*urls, f"stun:127.0.0.1:{silent.getsockname()[1]}", "stun:no-such.invalid"])
    assert report.mapping == "blocked"
    assert [bool(answer.detail) for answer in report.answers] == [True, True, True]
    assert "unknown" in report.answers[2].detail


@pytest.mark.parametrize(
    ("seen", "mapping"),
    [
        ([("192.0.2.1", 1000)], "unknown"),
        ([("192.0.2.1", 1000), ("192.0.2.1", 1000)], "endpoint_independent"),
        ([("192.0.2.1", 1000), ("192.0.2.1", 1001)], "symmetric"),
        ([("192.0.2.1", 1000), ("192.0.2.2", 1000), None], "symmetric"),
        ([None, None], "blocked"),
    ],
)
def test_what_the_servers_see_tells_the_kind_of_nat(seen: list[tuple[str, int] | None], mapping: str) -> None:
    assert _mapping([StunAnswer("stun:x", one, 0.1) for one in seen], 5000) == mapping


@pytest.mark.parametrize("url", ["turn:host", "stun:", "stun:host:port", "host"])
async def test_a_malformed_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await probe_nat([url])
    assert refused.value.remedy
