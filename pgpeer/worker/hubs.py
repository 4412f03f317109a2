"""Keeps a connection to every hub, and hears there which peers are online."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Final, Protocol

import structlog

from pgpeer.errors import HubError, PgpeerError
from pgpeer.signaling.backoff import next_delay
from pgpeer.signaling.client import HubClosed, HubSlow, PeerOffline, PeerOnline
from pgpeer.signaling.messages import MAILBOX
from pgpeer.transport.hub_events import LetterReceived, SignalReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.worker.correspondence import Correspondence
from pgpeer.worker.office import Office

STEADY_SECONDS: Final = 10.0
"""A connection that lasted so long is not counted as a failure."""


class Audience(Protocol):
    """Who hears what the hubs tell."""

    def peer_online(self, url: str, peer_id: str) -> None:
        """A peer can be reached through this hub."""

    def peer_offline(self, url: str, peer_id: str) -> None:
        """A peer cannot be reached through this hub any more."""

    def hub_lost(self, url: str) -> None:
        """Nobody can be reached through this hub any more."""

    def signal(self, url: str, signal: SignalReceived) -> None:
        """A peer sends a signal through this hub."""


class Hubs:
    """The hubs of the view; each has a task that connects again and again."""

    def __init__(self, office: Office, audience: Audience) -> None:
        self._office = office
        self._audience = audience
        self._clients: dict[str, HubClient] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watched: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._random = random.Random()
        self._correspondence = Correspondence(office)
        self._log = structlog.get_logger("pgpeer.hubs")

    def watch(self, peer_ids: Iterable[str]) -> None:
        """Hear of these peers from now on, and follow the hubs of the view."""
        self._watched = frozenset(peer_ids)
        self._changed.set()

    async def send(self, url: str, peer_id: str, sid: str, plaintext: bytes) -> bool:
        """Send a signal through a hub; False when the peer is not online there.

        Raises:
            HubError: the hub is not connected or refused.
        """
        client = self._clients.get(url)
        if client is None:
            raise HubError(f"The hub {url} is not connected.", phase="signalling")
        return await client.send_signal(peer_id, sid, plaintext)

    async def run(self) -> None:
        """Work until cancelled; then every connection is closed.

        Raises:
            StoreError: the database is lost.
        """
        watched: dict[str, tuple[HubClient, frozenset[str]]] = {}
        try:
            while True:
                await self._wait_for_change()
                for url in self._office.view.hubs:
                    if url not in self._tasks:
                        self._tasks[url] = asyncio.get_running_loop().create_task(self._keep(url))
                for url in [one for one in self._tasks if one not in self._office.view.hubs]:
                    await self._stop(self._tasks.pop(url))
                    await self._office.reporter.solved("hub_unreachable", url)
                for url, client in list(self._clients.items()):
                    if watched.get(url) != (client, self._watched):
                        watched[url] = (client, self._watched)
                        try:
                            await client.watch(sorted(self._watched))
                        except HubError:
                            pass  # its task finds out as well
                    if self._office.view.trust.has_notices:
                        await self._correspondence.post(client)
        finally:
            for task in self._tasks.values():
                await self._stop(task)

    async def _wait_for_change(self) -> None:
        """Wait until there is something to follow; raises what ended a task that never ends by itself."""
        waiter = asyncio.get_running_loop().create_task(self._changed.wait())
        try:
            done, _ = await asyncio.wait([waiter, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            waiter.cancel()
        self._changed.clear()

    @staticmethod
    async def _stop(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def _keep(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                error = await self._visit(url)
            except PgpeerError as problem:
                if not isinstance(problem, HubError):
                    raise
                error = problem
            self._audience.hub_lost(url)
            if loop.time() - began > STEADY_SECONDS:
                failures = 0
            if error.code == "replaced":
                # perhaps by a standby: this worker goes on only when it still has its database
                await self._office.look()
            await self._office.reporter.problem("hub_unreachable", url, str(error), error.remedy)
            await asyncio.sleep(
                next_delay(failures, self._random.random(), longest=self._office.view.reconnect_delay_max)
            )
            failures += 1

    async def _visit(self, url: str) -> HubError:
        """Be connected until the connection ends, and give the reason."""
        client = HubClient(url, self._office.key, self._office.view.label, takes=(MAILBOX,))
        try:
            await client.connect()
            self._log.info("hub connected", url=url)
            self._clients[url] = client
            self._changed.set()
            await self._office.reporter.solved("hub_unreachable", url)
            async for event in client:
                match event:
                    case PeerOnline(peer_id):
                        self._audience.peer_online(url, peer_id)
                    case PeerOffline(peer_id):
                        self._audience.peer_offline(url, peer_id)
                    case SignalReceived():
                        self._audience.signal(url, event)
                    case LetterReceived():
                        await self._correspondence.received(client, event)
                    case HubSlow():
                        self._log.info("the hub is slow", url=url)
                    case HubClosed(error):
                        return error
            return HubError(f"The hub {url} has closed the connection.")
        finally:
            self._clients.pop(url, None)
            await client.close()
