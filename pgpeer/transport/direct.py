"""Direct TLS between databases that can reach each other: a listener, and dialling it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from pgpeer.errors import ConfigError, LinkClosed, RemoteProtocolError, TransportError
from pgpeer.transport.base import Candidate, LinkPath
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.pipe import CHUNK_BYTES
from pgpeer.transport.tls import TlsLink, open_tls

CONNECT_SECONDS: Final = 10.0
"""How long a TCP connection may take."""

ANOTHER_ADDRESS_SECONDS: Final = 0.25
"""So long one address of a name is tried before the next is tried beside it (RFC 8305)."""

LINGER_SECONDS: Final = 5.0
"""So long a closed connection may take for its last bytes, then it is reset."""

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

OPENING_LIMIT: Final = 64
"""Connections of strangers, whose handshake and proof are under way; more are closed at once."""

OPENING_PER_ADDRESS_LIMIT: Final = 16
"""As many of them may come from one address, so that one stranger cannot keep the others out."""


class TcpPipe:
    """A TCP connection as a pipe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def path(self) -> LinkPath:
        """How a link over this connection describes itself."""
        ends = [self._writer.get_extra_info(name) for name in ("sockname", "peername")]
        return LinkPath("tls", "openssl", *(_candidate(end) for end in ends))

    async def send(self, data: bytes) -> None:
        """See `Pipe.send`."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise LinkClosed("The TCP connection was lost.") from error

    async def receive(self) -> bytes:
        """See `Pipe.receive`."""
        try:
            return await self._reader.read(CHUNK_BYTES)
        except OSError as error:
            raise LinkClosed("The TCP connection was lost.") from error

    def end(self) -> None:
        """See `Pipe.end`."""
        with suppress(OSError, RuntimeError):
            self._writer.write_eof()

    def close(self) -> None:
        """See `Pipe.close`; what was sent may still go out for `LINGER_SECONDS`."""
        self._writer.close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._writer.transport.abort)


class TlsListener:
    """Takes direct TLS connections of peers; made by `listen`. Who they are must be proven on the link.

    Attributes:
        host: the address listened at.
        port: the port; the one chosen when 0 was asked for.
    """

    def __init__(self, server: asyncio.Server, opening: set[asyncio.Task[Any]]) -> None:
        self._server = server
        self._opening = opening
        self.host, self.port = server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Take no more connections; links that are open stay open."""
        self._server.close()
        for task in list(self._opening):
            task.cancel()
        if self._opening:
            await asyncio.wait(list(self._opening))


async def listen(
    host: str, port: int, certificate: Certificate, on_link: Callable[[TlsLink], Awaitable[None]]
) -> TlsListener:
    """Listen for peers.

    Args:
        host: an address of this host; `0.0.0.0` or `::` for all.
        port: 0 picks a free one.
        certificate: this side's.
        on_link: called with every link that has opened, which it owns; until it returns the other side
            counts as a stranger.

    Raises:
        ConfigError: the address cannot be listened at.
    """
    opening: set[asyncio.Task[Any]] = set()
    from_address: Counter[str] = Counter()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = TcpPipe(reader, writer)
        task = asyncio.current_task()
        address = pipe.path.remote_candidate.address
        is_full = len(opening) >= OPENING_LIMIT or from_address[address] >= OPENING_PER_ADDRESS_LIMIT
        if task is None or is_full:
            pipe.close()
            return
        opening.add(task)
        from_address[address] += 1
        try:
            await on_link(await open_tls(pipe, certificate, pipe.path, is_client=False))
        except (TransportError, RemoteProtocolError, asyncio.CancelledError):
            return  # closed already; a stranger's mistakes are not worth more
        finally:
            opening.discard(task)
            from_address[address] -= 1
            if not from_address[address]:
                del from_address[address]

    try:
        server = await asyncio.start_server(take, host, port)
    except OSError as error:
        raise ConfigError(
            f"Peers cannot be listened for at {host} port {port}: {error.strerror or error}.",
            remedy="Choose an address of this host and a port that is free.",
        ) from error
    return TlsListener(server, opening)


async def dial(
    host: str, port: int, certificate: Certificate, *, expected_fingerprint: bytes | None = None
) -> TlsLink:
    """Connect to a peer's listener; all addresses of a name are tried, the first that answers is used.

    Raises:
        TransportError: nothing answers there, or it is not a pgpeer worker.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await _connect(host, port)
    except (OSError, TimeoutError) as error:
        raise TransportError(
            f"Nothing answers at {host} port {port}.",
            code="timeout" if isinstance(error, TimeoutError) else "peer_offline",
            phase="resolve",
            remedy="Check the address, the firewall, and that the peer's worker listens there.",
        ) from error
    pipe = TcpPipe(reader, writer)
    return await open_tls(
        pipe, certificate, pipe.path, is_client=True, expected_fingerprint=expected_fingerprint
    )


async def _connect(host: str, port: int) -> _Streams:
    """Try the addresses of a name one after the other, each with a head start (RFC 8305; uvloop has no own).

    Raises:
        OSError: the name is unknown, or no address answers.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))

    async def attempt(number: int, address: str) -> _Streams:
        await asyncio.sleep(number * ANOTHER_ADDRESS_SECONDS)
        return await asyncio.open_connection(address, port)

    trying = {asyncio.create_task(attempt(*one)) for one in enumerate(addresses)}
    failure: BaseException = OSError("no address")
    try:
        while trying:
            done, trying = await asyncio.wait(trying, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    trying |= done - {task}
                    return task.result()
                failure = error
        raise failure
    finally:
        for task in trying:
            task.cancel()
        for late in await asyncio.gather(*trying, return_exceptions=True):
            if isinstance(late, tuple):
                late[1].close()


def _candidate(end: tuple[Any, ...] | None) -> Candidate:
    if end is None:  # the other side was gone before we looked
        return Candidate("host", "", 0, "tcp")
    return Candidate("host", str(end[0]), int(end[1]), "tcp")
