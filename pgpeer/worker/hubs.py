"""Keeps a connection to every hub, hears there which peers are online, and is listed there for members."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Final, Protocol

import structlog

from pgpeer.errors import HubError, PgpeerError
from pgpeer.signaling.backoff import next_delay
from pgpeer.signaling.client import HubClosed, HubSlow, PeerOffline, PeerOnline
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import CIRCUITS, MAILBOX, NAMESPACES, TURN
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import CircuitReceived, LetterReceived, MembersChanged, SignalReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.ice import IceServer
from pgpeer.worker.attendance import Attendance
from pgpeer.worker.correspondence import Correspondence
from pgpeer.worker.office import Office
from pgpeer.worker.registrations import Registrations

STEADY_SECONDS: Final = 10.0
"""A connection that lasted so long is not counted as a failure."""

ALONE_SECONDS: Final = 60.0
"""After this long without being replaced, nobody else signs in with this key any more."""

TURN_RETRY_SECONDS: Final = 60.0
"""After this long a hub that gave no TURN credentials is asked again."""

WATCHED_LIMIT: Final = HubLimits().watched_peers
"""So many peers are watched at a hub; of others it tells when they are listed and when they are no more."""


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

    def circuit(self, url: str, circuit: HubCircuit) -> None:
        """A peer asks for a circuit through this hub; it waits ten seconds for an answer."""


class Hubs:
    """The hubs of the view; each has a task that connects again and again."""

    def __init__(self, office: Office, audience: Audience) -> None:
        self._office = office
        self._audience = audience
        self._clients: dict[str, HubClient] = {}
        self._online: dict[str, set[str]] = {}
        self._turn: dict[str, tuple[IceServer, ...]] = {}
        self._turns: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._watched: frozenset[str] = frozenset()
        self._asked: dict[str, frozenset[str]] = {}
        self._attendance = Attendance(office, self)
        self._registrations: dict[str, Registrations] = {}
        self._changed = asyncio.Event()
        self._random = random.Random()
        self._correspondence = Correspondence(office)
        self._log = structlog.get_logger("pgpeer.hubs")

    def watch(self, peer_ids: Iterable[str]) -> None:
        """Hear of these peers from now on, and follow the hubs of the view."""
        self._watched = frozenset(peer_ids)
        self._changed.set()
        self._attendance.follow_view()
        for one in self._registrations.values():
            one.look_again()

    def listed(self, url: str, peer_id: str) -> None:
        """See `Watcher`."""
        if peer_id not in self._asked.get(url, self._watched):
            self._audience.peer_online(url, peer_id)

    def unlisted(self, url: str, peer_id: str) -> None:
        """See `Watcher`."""
        if peer_id not in self._asked.get(url, self._watched):
            self._audience.peer_offline(url, peer_id)

    def where(self, peer_id: str) -> str | None:
        """Give the URL of the hub whose turn it is, of those where a peer is online; None: it is at none."""
        found = [url for url in self._office.view.hubs if url in self._clients and self._is_at(url, peer_id)]
        return found[self._turns[peer_id] % len(found)] if found else None

    def take_turns(self, peer_id: str) -> None:
        """A peer was not reached: another hub is used next, for this one may be broken or hostile."""
        self._turns[peer_id] += 1

    def online(self) -> set[str]:
        """Give the peers that are online at any hub."""
        listed = (
            self._attendance.members(url) - self._asked.get(url, self._watched) for url in self._clients
        )
        return set().union(*self._online.values(), *listed)

    def features(self, url: str) -> frozenset[str]:
        """Give what a hub offers; nothing while it is not connected."""
        client = self._clients.get(url)
        return frozenset() if client is None else client.features

    def turn_servers(self, peer_id: str) -> tuple[IceServer, ...]:
        """Give the STUN and TURN servers of the hub where a peer is, or of any, with fresh credentials."""
        url = self.where(peer_id)
        found = [self._turn[url]] if url in self._turn else list(self._turn.values())
        return found[0] if found else ()

    def client(self, url: str) -> HubClient:
        """Give the connection to a hub.

        Raises:
            HubError: there is none now.
        """
        client = self._clients.get(url)
        if client is None or client.is_closed:
            raise HubError(f"The hub {url} is not connected.", phase="signalling")
        return client

    def connect_again(self) -> None:
        """The network has changed: connections made before it are dead or soon will be."""
        for client in list(self._clients.values()):
            self._spawn(client.close())

    async def send(self, url: str, peer_id: str, sid: str, plaintext: bytes) -> bool:
        """Send a signal through a hub; False when the peer is not online there.

        Raises:
            HubError: the hub is not connected or refused.
        """
        return await self.client(url).send_signal(peer_id, sid, plaintext)

    async def run(self) -> None:
        """Work until cancelled; then every connection is closed.

        Raises:
            StoreError: the database is lost.
        """
        watched: dict[str, tuple[HubClient, frozenset[str]]] = {}
        attending = asyncio.get_running_loop().create_task(self._attendance.run())
        try:
            while True:
                await self._wait_for_change(attending)
                for url in self._office.view.hubs:
                    if url not in self._tasks:
                        self._tasks[url] = asyncio.get_running_loop().create_task(self._keep(url))
                for url in [one for one in self._tasks if one not in self._office.view.hubs]:
                    await self._stop([self._tasks.pop(url)])
                    await self._office.reporter.solved("hub_unreachable", url)
                for url, client in list(self._clients.items()):
                    if watched.get(url) != (client, self._watched):
                        watched[url] = (client, self._watched)
                        asked = sorted(self._watched)[:WATCHED_LIMIT]
                        self._asked[url] = frozenset(asked)
                        self._online.get(url, set()).intersection_update(asked)
                        try:
                            await client.watch(asked)
                        except HubError:
                            pass  # its task finds out as well
                    if self._office.view.trust.has_notices:
                        await self._correspondence.post(client)
        finally:
            await self._stop([attending, *self._tasks.values()])
            await self._stop(list(self._others))

    def _is_at(self, url: str, peer_id: str) -> bool:
        """Whether a peer can be reached through a hub, as its presence says or, unwatched, its listing."""
        if peer_id in self._asked.get(url, self._watched):
            return peer_id in self._online.get(url, ())
        return self._attendance.is_listed(url, peer_id)

    async def _wait_for_change(self, attending: asyncio.Task[None]) -> None:
        """Wait until there is something to follow; raises what ended a task that never ends by itself."""
        waiter = asyncio.get_running_loop().create_task(self._changed.wait())
        try:
            done, _ = await asyncio.wait(
                [waiter, attending, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            waiter.cancel()
        self._changed.clear()

    @staticmethod
    async def _stop(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

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
                await self._office.reporter.problem(
                    "key_in_use_elsewhere",
                    url,
                    f"Somebody else has signed in at the hub {url} with the key of this database.",
                    "If a copy of this database runs elsewhere, give it an identity of its own: pgpeer init "
                    "--identity NEWFILE. If two rows of peer.hub name one hub, delete one. If neither, the "
                    "key was stolen: pgpeer identity rotate.",
                )
            await self._office.reporter.problem("hub_unreachable", url, str(error), error.remedy)
            await asyncio.sleep(
                next_delay(failures, self._random.random(), longest=self._office.view.reconnect_delay_max)
            )
            failures += 1

    async def _visit(self, url: str) -> HubError:
        """Be connected until the connection ends, and give the reason."""
        client = HubClient(url, self._office.key, self._office.view.label, takes=(MAILBOX, CIRCUITS))
        asking = alone = listing = registrations = None
        try:
            await client.connect()
            self._log.info("hub connected", url=url)
            self._clients[url] = client
            self._changed.set()
            if CIRCUITS in client.features:
                self._log.info("relay found", url=url)
            if TURN in client.features:
                asking = self._spawn(self._keep_turn(url, client))
            await self._office.reporter.solved("hub_unreachable", url)
            alone = self._spawn(self._be_alone(url))
            online = self._online[url] = set()
            if NAMESPACES in client.features:
                registrations = Registrations(self._office, self._attendance, url, client)
                self._registrations[url] = registrations
                listing = self._spawn(registrations.run())
            async for event in client:
                match event:
                    case PeerOnline(peer_id):
                        online.add(peer_id)
                        self._audience.peer_online(url, peer_id)
                    case PeerOffline(peer_id):
                        online.discard(peer_id)
                        self._audience.peer_offline(url, peer_id)
                    case SignalReceived():
                        self._audience.signal(url, event)
                    case CircuitReceived(circuit):
                        self._audience.circuit(url, circuit)
                    case MembersChanged() if registrations is not None:
                        registrations.take(event)
                    case LetterReceived():
                        await self._correspondence.received(client, event)
                    case HubSlow():
                        self._log.info("the hub is slow", url=url)
                    case HubClosed(error):
                        return error
            return HubError(f"The hub {url} has closed the connection.")
        finally:
            self._clients.pop(url, None)
            self._online.pop(url, None)
            self._asked.pop(url, None)
            self._turn.pop(url, None)
            self._registrations.pop(url, None)
            self._attendance.lost(url)
            for task in (asking, alone, listing):
                if task is not None:
                    task.cancel()
            if registrations is not None:
                await registrations.withdraw()
            await client.close()

    async def _be_alone(self, url: str) -> None:
        await asyncio.sleep(ALONE_SECONDS)
        await self._office.reporter.solved("key_in_use_elsewhere", url)

    async def _keep_turn(self, url: str, client: HubClient) -> None:
        """Have credentials for the hub's TURN servers that hold for a while yet."""
        while not client.is_closed:
            pause = TURN_RETRY_SECONDS
            try:
                offer = await client.turn_credentials()
            except HubError as error:
                self._log.info("no TURN credentials", url=url, reason=str(error))
            else:
                servers = (IceServer(one, offer.username, offer.credential) for one in offer.urls)
                if self._clients.get(url) is client:
                    self._turn[url] = tuple(servers)
                pause = max(offer.ttl_seconds / 2, 1.0)
            await asyncio.sleep(pause)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        return task
