"""Listens for direct TLS connections of peers where peer.config says so, and follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from pgpeer.errors import ConfigError
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.direct import TlsListener, listen
from pgpeer.transport.network_watch import addresses
from pgpeer.transport.tls import TlsLink
from pgpeer.worker.addresses import read_endpoint, write_address
from pgpeer.worker.office import Office

RETRY_SECONDS: Final = 10.0
"""So often an address that cannot be listened at is tried again."""

EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})
TOLD_LIMIT: Final = 8
"""So many addresses of this host are told at most."""


class Listener:
    """The listener of one worker.

    Args:
        office: whose view says where to listen.
        certificate: this worker's.
        take: takes the links of peers (`Reach.take`).
        told: called when what others are to be told may have changed.
    """

    def __init__(
        self,
        office: Office,
        certificate: Certificate,
        take: Callable[[TlsLink], Awaitable[None]],
        told: Callable[[], None],
    ) -> None:
        self._office = office
        self._certificate = certificate
        self._take = take
        self._told = told
        self._changed = asyncio.Event()
        self._listener: TlsListener | None = None
        self._wanted: str | None = None
        self._log = structlog.get_logger("pgpeer.listener")

    def follow_view(self) -> None:
        """The office has a new view."""
        if self._office.view.reach.listen != self._wanted:
            self._changed.set()

    def told_addresses(self) -> list[str]:
        """Give the addresses at which others can reach this worker directly; none when it does not listen."""
        if self._listener is None:
            return []
        public = self._office.view.reach.public
        if public is not None:
            return [write_address(*read_endpoint(public))]
        host, port = self._listener.host, self._listener.port
        if host not in EVERYWHERE:
            return [write_address(host, port)]
        is_ipv4 = host == "0.0.0.0"
        found = sorted(one for one in addresses() if (":" not in one) == is_ipv4 or not is_ipv4)
        return [write_address(one, port) for one in found[:TOLD_LIMIT]]

    async def run(self) -> None:
        """Listen until cancelled; links that were taken stay open.

        Raises:
            StoreError: the database is lost.
        """
        try:
            while True:
                self._changed.clear()
                self._wanted = self._office.view.reach.listen
                is_done = await self._open(self._wanted)
                self._told()
                try:
                    async with asyncio.timeout(None if is_done else RETRY_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                await self._close()
        finally:
            await self._close()

    async def _open(self, wanted: str | None) -> bool:
        """Listen where it is wanted; False: it has to be tried again."""
        reporter = self._office.reporter
        if wanted is None:
            await reporter.solved("cannot_listen", "")
            return True
        try:
            self._listener = await listen(*read_endpoint(wanted), self._certificate, self._take)
        except ConfigError as error:
            await reporter.problem(
                "cannot_listen",
                "",
                str(error),
                f"{error.remedy} Then: UPDATE peer.config SET listen_address = …",
            )
            return False
        self._log.info("listening", host=self._listener.host, port=self._listener.port)
        await reporter.solved("cannot_listen", "")
        return True

    async def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
