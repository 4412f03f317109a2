"""What kind of NAT this host is behind, asked of several STUN servers (the mapping test of RFC 5780)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aioice import stun

from pgpeer.errors import ConfigError
from pgpeer.transport.network_watch import addresses

REPEAT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 2.0
"""How long a STUN server may take; the request is repeated meanwhile, for UDP loses packets."""

DEFAULT_PORT: Final = 3478

Mapping = Literal["none", "endpoint_independent", "symmetric", "unknown", "blocked"]
"""How this host's UDP looks from outside.

`none`: no NAT. `endpoint_independent`: one public port for all peers, STUN is enough. `symmetric`: another
port for every peer, so that two such hosts need a relay or TURN. `unknown`: a NAT, but only one server
answered. `blocked`: nobody answered.
"""


@dataclass(frozen=True, slots=True)
class StunAnswer:
    """What one server said.

    Attributes:
        url: the server as it was given.
        mapped: the public address and port it saw; None when it did not answer.
        seconds: how long it took; None when it did not answer.
        detail: why there is no answer; empty otherwise.
    """

    url: str
    mapped: tuple[str, int] | None
    seconds: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NatReport:
    """What all servers said together."""

    mapping: Mapping
    answers: tuple[StunAnswer, ...]


async def probe_nat(urls: Sequence[str]) -> NatReport:
    """Ask STUN servers from one port which address they see; takes at most a little over `ANSWER_SECONDS`.

    Args:
        urls: `stun:host` or `stun:host:port`; two servers or ports at least tell the kind of NAT.

    Raises:
        ConfigError: a URL is malformed.
    """
    servers = [(url, *_server(url)) for url in urls]
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(_Asker, local_addr=("0.0.0.0", 0))
    try:
        asks = (_ask(transport, asker, url, host, port) for url, host, port in servers)
        answers = tuple(await asyncio.gather(*asks))
        local_port = transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
    return NatReport(_mapping(answers, local_port), answers)


class _Asker(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[tuple[str, int]]] = {}

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        try:
            message = stun.parse_message(data)
        except (ValueError, IndexError, struct.error):
            return  # not STUN
        answer = self.waiting.get(message.transaction_id)
        mapped = message.attributes.get("XOR-MAPPED-ADDRESS")
        if answer is not None and not answer.done() and mapped is not None:
            answer.set_result(mapped)


async def _ask(
    transport: asyncio.DatagramTransport, asker: _Asker, url: str, host: str, port: int
) -> StunAnswer:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except OSError as error:
        return StunAnswer(url, None, None, f"{host} is unknown: {error}")
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    answer: asyncio.Future[tuple[str, int]] = loop.create_future()
    asker.waiting[request.transaction_id] = answer
    began = loop.time()
    while (left := began + ANSWER_SECONDS - loop.time()) > 0:
        transport.sendto(bytes(request), found[0][4])
        done, _ = await asyncio.wait([answer], timeout=min(REPEAT_SECONDS, left))
        if done:
            return StunAnswer(url, answer.result(), loop.time() - began)
    return StunAnswer(url, None, None, f"no answer within {ANSWER_SECONDS:g} s")


def _mapping(answers: Sequence[StunAnswer], local_port: int) -> Mapping:
    local = addresses() | {"127.0.0.1"}
    seen = [answer.mapped for answer in answers if answer.mapped is not None]
    if not seen:
        return "blocked"
    if all(address in local and port == local_port for address, port in seen):
        return "none"
    if len(set(seen)) > 1:
        return "symmetric"
    return "endpoint_independent" if len(seen) > 1 else "unknown"


def _server(url: str) -> tuple[str, int]:
    scheme, _, rest = url.partition(":")
    host, _, port = rest.partition(":")
    if scheme != "stun" or not host or (port and not port.isdecimal()):
        raise ConfigError(
            f"{url!r} is not the URL of a STUN server.",
            remedy="Write it as stun:host or stun:host:port in peer.stun_server.",
        )
    return host, int(port or DEFAULT_PORT)
