"""Makes links to the peers that this database shares something with, by whatever way leads to them.

The peer with the lower id tries at once, the other one a moment later if nothing came. Who wants to join
tries at once. All paths that two peers open to each other become one link (`Reach`), whoever opened them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

import structlog

from pgpeer.errors import HubError, PgpeerError, RemoteProtocolError, TransportError
from pgpeer.signaling.backoff import next_delay
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.contact import REFUSALS
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import SignalReceived
from pgpeer.transport.network_watch import watch_network
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.reach import Reach
from pgpeer.transport.ways import Way
from pgpeer.worker.addresses import AddressBook
from pgpeer.worker.clock import unix_time
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.crew import Crew
from pgpeer.worker.doorway import Doorway
from pgpeer.worker.exchange import Direction, Exchange
from pgpeer.worker.hubs import Hubs
from pgpeer.worker.listener import Listener
from pgpeer.worker.negotiator import Negotiator
from pgpeer.worker.office import Office
from pgpeer.worker.routes import Routes

GRACE_SECONDS: Final = 1.5
"""So long the peer with the higher id leaves the first try to the other one."""

FORGIVE_SECONDS: Final = 3.0
"""A peer that comes online is tried at once, but no more often than this."""

STEADY_SECONDS: Final = 10.0

REFUSED_SECONDS: Final = 300.0
"""A friend that does not want this database is asked again after so long."""

CLOSE_SECONDS: Final = 2.0
END_SECONDS: Final = 0.5
"""Closing takes at most the former, and twice the latter for what does not close."""

UNREACHABLE_PHASES: Final = frozenset({"ice", "dtls", "tls"})
"""Where an attempt has failed when the network is to blame."""


@dataclass(slots=True)
class Contact:
    """What is known about reaching one peer.

    Attributes:
        attempt: the attempt under way.
        failures: how often connecting has failed since it worked last.
        timer: when to try next.
        refusal: the code with which the peer refused the last time; empty when it did not.
        forgiven_at: when its failures were forgotten because it came online.
    """

    attempt: asyncio.Task[None] | None = None
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    refusal: str = ""
    forgiven_at: float = float("-inf")


class Linker:
    """Links this worker to peers; what happens on a link is the business of its `Exchange`."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._loop = asyncio.get_running_loop()
        certificate = Certificate.generate()
        self._hubs = Hubs(office, self)
        self._book = AddressBook(self._address_tried)
        negotiator = Negotiator(office, self._hubs.send)
        self._routes = Routes(office, self._hubs, negotiator, self._book, certificate)
        self.reach = Reach(
            office.key, self._ways_to, self._admit, self._arrived, on_change=self._path_changed
        )
        self._doorway = Doorway(office, negotiator, self._routes, self.reach, certificate)
        self._listener = Listener(office, certificate, self.reach.take, self._look_at_addresses)
        office.records.addresses = self._listener.told_addresses
        self._contacts: dict[str, Contact] = {}
        self._connections: dict[PeerLink, Exchange] = {}
        self._crew = Crew(office.lost, "pgpeer.linker")
        self._random = random.Random()
        self._stopping = False
        self._before = office.view
        self._log = structlog.get_logger("pgpeer.linker")
        office.followers.append(self.follow_view)
        office.postman.follow = self.follow_view

    async def run(self) -> None:
        """Be reachable until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        work = (
            self._hubs.run(),
            self._listener.run(),
            self._office.records.run(),
            watch_network(self._moved, unix_time),
        )
        tasks = [self._loop.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def close(self, detail: str) -> None:
        """Make no more links and end those that are; takes about three seconds at most."""
        self._stopping = True
        for contact in self._contacts.values():
            if contact.timer is not None:
                contact.timer.cancel()
            if contact.attempt is not None:
                contact.attempt.cancel()
        closing = [self._loop.create_task(one.close(detail)) for one in self._office.exchanges.values()]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)
        ending = [self._loop.create_task(self.reach.close()), self._loop.create_task(self._doorway.close())]
        await asyncio.wait([*ending, *self._crew.tasks()], timeout=END_SECONDS)
        late = [task for task in (*closing, *ending, *self._crew.tasks()) if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=END_SECONDS)

    # What the hubs and the office tell.

    def follow_view(self) -> None:
        """The office has a new view."""
        view = self._office.view
        wanted = {one for one in view.members if view.shared_with(one)}
        wanted |= {one.inviter for one in view.joins} | self._office.postman.wanted()
        wanted |= {one for one in view.trust.friends if view.trust.admits(one)}
        wanted -= view.trust.blocked
        self._hubs.watch(wanted)
        self._listener.follow_view()
        self._office.records.look_again()
        self._book.keep(wanted)
        for peer_id in wanted:
            contact = self._contacts.setdefault(peer_id, Contact())
            self._consider(peer_id, contact)
        for peer_id in [one for one in self._contacts if one not in wanted]:
            contact = self._contacts[peer_id]
            if contact.timer is not None:
                contact.timer.cancel()
                contact.timer = None
            if contact.attempt is None and peer_id not in self._office.exchanges:
                del self._contacts[peer_id]
        self._hurry_where_ways_changed()

    def _hurry_where_ways_changed(self) -> None:
        """Links use new servers and addresses without waiting for their next try."""
        reach, before = self._office.view.reach, self._before.reach
        if self._office.view.ice != self._before.ice:
            self.reach.hurry(afresh=True)
        for peer_id in reach.ice.keys() | before.ice.keys():
            if reach.ice.get(peer_id) != before.ice.get(peer_id):
                self.reach.hurry(peer_id, afresh=True)
        for peer_id, addresses in reach.addresses.items():
            if addresses != before.addresses.get(peer_id):
                self.reach.hurry(peer_id)
        self._before = self._office.view

    def peer_online(self, url: str, peer_id: str) -> None:
        """See `Audience`."""
        contact = self._contacts.setdefault(peer_id, Contact())
        self._tell_presence()
        now = self._loop.time()
        if now >= contact.forgiven_at + FORGIVE_SECONDS:  # a hub may say so without end
            contact.forgiven_at = now
            contact.failures = 0
            contact.refusal = ""
            if contact.timer is not None:  # it may be a long one
                contact.timer.cancel()
                contact.timer = None
            self.reach.hurry(peer_id)
        self._consider(peer_id, contact)

    def peer_offline(self, url: str, peer_id: str) -> None:
        """See `Audience`."""
        self._tell_presence()

    def hub_lost(self, url: str) -> None:
        """See `Audience`."""
        self._tell_presence()

    def signal(self, url: str, signal: SignalReceived) -> None:
        """See `Audience`."""
        if not self._stopping:
            self._doorway.signal(url, signal)

    def circuit(self, url: str, circuit: HubCircuit) -> None:
        """See `Audience`."""
        if not self._stopping:
            self._doorway.circuit(url, circuit)

    def _tell_presence(self) -> None:
        self._office.postman.online(self._hubs.online())

    def _moved(self) -> None:
        """The network has changed, or the machine was asleep."""
        self._log.info("the network has changed")
        self._hubs.connect_again()
        self._look_at_addresses()
        self.reach.hurry(afresh=True)

    def _look_at_addresses(self) -> None:
        self._office.records.look_again()

    def _address_tried(self, peer_id: str, address: str, succeeded: bool) -> None:
        self._crew.spawn(self._office.reporter.address_tried(peer_id, address, succeeded))

    # When to try.

    def _ways_to(self, peer_id: str) -> list[Way]:
        return self._routes.ways_to(peer_id, is_linked=self.reach.is_linked(peer_id))

    def _consider(self, peer_id: str, contact: Contact) -> None:
        """Begin or plan an attempt when a link is wanted and there is none."""
        if self._is_content(peer_id, contact) or contact.timer is not None:
            return
        view = self._office.view
        delay = self._random.uniform(0.0, 0.05)
        if contact.failures:
            delay = next_delay(contact.failures - 1, self._random.random(), longest=view.reconnect_delay_max)
        is_mutual = bool(view.shared_with(peer_id)) and not view.joins_at(peer_id)
        if contact.refusal and not is_mutual and not view.joins_at(peer_id):
            delay = max(delay, REFUSED_SECONDS * self._random.uniform(0.75, 1.25))
        elif is_mutual and self._office.key.peer_id > peer_id:
            delay += GRACE_SECONDS
        contact.timer = self._loop.call_later(delay, self._begin_attempt, peer_id)

    def _is_content(self, peer_id: str, contact: Contact) -> bool:
        """Whether nothing is to be done about a peer now."""
        return (
            self._stopping
            or contact.attempt is not None
            or peer_id in self._office.exchanges
            or not self._office.wants(peer_id)
            or not self._routes.has_way(peer_id)
        )

    def _begin_attempt(self, peer_id: str) -> None:
        contact = self._contacts[peer_id]
        contact.timer = None
        if not self._is_content(peer_id, contact):
            contact.attempt = task = self._crew.spawn(self._try(peer_id, self._connect(peer_id)))
            task.add_done_callback(lambda _: self._attempt_ended(peer_id, contact, task))

    def _attempt_ended(self, peer_id: str, contact: Contact, task: asyncio.Task[None]) -> None:
        if contact.attempt is task:
            contact.attempt = None
            if self._contacts.get(peer_id) is contact:
                self._consider(peer_id, contact)

    async def _try(self, peer_id: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (TransportError, HubError, RemoteProtocolError) as error:
            await self._failed(peer_id, error)

    async def _failed(self, peer_id: str, error: PgpeerError) -> None:
        contact = self._contacts.setdefault(peer_id, Contact())
        contact.failures += 1
        reporter = self._office.reporter
        is_refusal = error.code in REFUSALS
        is_said = is_refusal and error.code == contact.refusal
        contact.refusal = error.code if is_refusal else ""
        is_online = self._hubs.where(peer_id) is not None
        self._hubs.take_turns(peer_id)
        if is_refusal:
            self._office.postman.refused(peer_id, error.code)
        if not is_online and not is_refusal:
            # it may be off: its addresses are tried now and then, which is nobody's business
            self._log.info("not reached", peer=peer_id, code=error.code, reason=str(error))
        elif not is_said:
            await reporter.failure("connect-failed", error, peer_id=peer_id)
            if error.phase in UNREACHABLE_PHASES:
                await reporter.problem(
                    "peer_unreachable", peer_id, f"Peer {peer_id} cannot be reached: {error}", error.remedy
                )

    async def _connect(self, peer_id: str) -> None:
        def slow() -> None:
            error = TransportError("Reaching the peer takes long.", code="slow", phase="resolve")
            self._crew.spawn(self._office.reporter.failure("connect-slow", error, peer_id=peer_id))

        link = await self.reach.connect(peer_id, on_slow=slow, fail_seconds=self._office.view.connect_timeout)
        await self._converse(peer_id, link, "outgoing")

    # Links in use.

    def _admit(self, peer_id: str) -> str | None:
        return self._doorway.refusal(peer_id)

    def _arrived(self, link: PeerLink) -> None:
        """A peer has opened a link."""
        if self._stopping:
            self._crew.spawn(link.close())
        else:
            self._contacts.setdefault(link.peer_id, Contact())
            self._crew.spawn(self._try(link.peer_id, self._converse(link.peer_id, link, "incoming")))

    def _path_changed(self, link: PeerLink) -> None:
        exchange = self._connections.get(link)
        if exchange is not None and link.is_connected:
            self._crew.spawn(self._office.reporter.path_changed(exchange.connection_id, link.path, link.rtt))

    async def _converse(self, peer_id: str, link: PeerLink, direction: Direction) -> None:
        """Return when the peer has proven who it is; the exchange goes on by itself."""
        if link in self._connections:
            return  # it came while this side was about to connect, and is in use already
        conversation = Conversation(
            link,
            self._office.key,
            "offerer" if self._office.key.peer_id < peer_id else "answerer",
            expected_peer_id=peer_id,
            label=self._office.view.label,
        )
        exchange = self._connections[link] = Exchange(self._office, conversation, direction)
        task = self._crew.spawn(self._run(peer_id, link, exchange))
        try:
            proven = await asyncio.shield(exchange.authenticated)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not proven:
            await asyncio.wait([task])
            closed = exchange.closed
            if closed is not None:
                raise TransportError(
                    closed.detail,
                    code=closed.code,
                    phase=closed.phase or "identity",
                    retryable=closed.retryable,
                )

    async def _run(self, peer_id: str, link: PeerLink, exchange: Exchange) -> None:
        admission = self._crew.spawn(self._take_up(peer_id, exchange))
        try:
            await exchange.run()
        finally:
            admission.cancel()
            del self._connections[link]
            self._office.postman.link_down(peer_id, exchange)
            if self._office.exchanges.get(peer_id) is exchange:
                del self._office.exchanges[peer_id]
                self._ended_with(peer_id, exchange)
            closed = exchange.closed
            if exchange.peer_id and closed is not None and not self._stopping:
                await self._office.reporter.disconnected(
                    exchange.connection_id,
                    peer_id,
                    closed.code,
                    closed.phase,
                    closed.retryable,
                    closed.detail,
                )

    def _ended_with(self, peer_id: str, exchange: Exchange) -> None:
        contact = self._contacts.get(peer_id)
        if contact is not None:
            if self._loop.time() - exchange.began > STEADY_SECONDS:
                contact.failures = 0
            elif exchange.closed is None or exchange.closed.code != "remote_closed":
                contact.failures += 1
            self._consider(peer_id, contact)

    async def _take_up(self, peer_id: str, exchange: Exchange) -> None:
        """Take an authenticated exchange into use; the one before is over, or will be at once."""
        if not await asyncio.shield(exchange.authenticated):
            return
        other = self._office.exchanges.get(peer_id)
        self._office.exchanges[peer_id] = exchange
        self._contacts.setdefault(peer_id, Contact()).refusal = ""
        self._office.postman.link_up(peer_id, exchange)
        exchange.view_changed()
        if other is not None:
            await other.close("A newer link takes its place.")
