"""Makes links to the peers that this database shares something with, by whatever way leads to them.

The peer with the lower id tries at once, the other one a moment later if nothing came. Who wants to join
tries at once. All paths that two peers open to each other become one link (`Reach`), whoever opened them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Final

import structlog

from pgpeer.errors import HubError, PgpeerError, RemoteProtocolError, TransportError
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
from pgpeer.worker.contacts import FAILING, Contact
from pgpeer.worker.crew import Crew
from pgpeer.worker.doorway import Doorway
from pgpeer.worker.exchange import Direction, Exchange
from pgpeer.worker.hubs import Hubs
from pgpeer.worker.links import Links
from pgpeer.worker.listener import Listener
from pgpeer.worker.negotiator import Negotiator
from pgpeer.worker.office import Office
from pgpeer.worker.places import OVERLOADED, Places
from pgpeer.worker.routes import Routes

FORGIVE_SECONDS: Final = 3.0
"""A peer that comes online is tried at once, but no more often than this."""

STEADY_SECONDS: Final = 10.0

CLOSE_SECONDS: Final = 2.0
END_SECONDS: Final = 0.5
"""Closing takes at most the former, and twice the latter for what does not close."""

CHOOSE_SECONDS: Final = 0.05

UNREACHABLE_PHASES: Final = frozenset({"ice", "dtls", "tls"})
"""Where an attempt has failed when the network is to blame."""


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
            office.key,
            self._ways_to,
            self._admit,
            self._arrived,
            on_change=lambda link: self._links.path_changed(link),
        )
        self._doorway = Doorway(office, negotiator, self._routes, self.reach, certificate)
        self._listener = Listener(office, certificate, self.reach.take, self._look_at_addresses)
        office.records.addresses = self._listener.told_addresses
        self._contacts: dict[str, Contact] = {}
        self._crew = Crew(office.lost, "pgpeer.linker")
        self._places = Places(office, self._routes.has_way, self._is_failing)
        self._links = Links(
            office,
            self._places,
            self._crew,
            begun=self._begun_with,
            ended=self._ended_with,
            freed=self._choose_soon,
        )
        self._choosing: asyncio.TimerHandle | None = None
        self._wanted: set[str] = set()
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
        self._links.stop()
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
        self._wanted = wanted
        self._choose()
        for peer_id in self._places.excess():
            self._crew.spawn(self._links.dismiss(peer_id))
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
        self._choose_soon()

    def peer_offline(self, url: str, peer_id: str) -> None:
        """See `Audience`."""
        self._tell_presence()
        self._choose_soon()

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

    def _is_failing(self, peer_id: str) -> bool:
        contact = self._contacts.get(peer_id)
        return contact is not None and contact.failures >= FAILING

    def _choose_soon(self) -> None:
        """Choose again whom to link with; once for all that happens together."""
        if self._choosing is None and not self._stopping:
            self._choosing = self._loop.call_later(CHOOSE_SECONDS, self._choose)

    def _choose(self) -> None:
        self._choosing = None
        self._places.look_again(self._wanted)
        for peer_id in self._wanted:
            self._consider(peer_id, self._contacts.setdefault(peer_id, Contact()))

    def _consider(self, peer_id: str, contact: Contact) -> None:
        """Begin or plan an attempt when a link is wanted and there is none."""
        if self._is_content(peer_id, contact) or contact.timer is not None:
            return
        view = self._office.view
        is_joining = bool(view.joins_at(peer_id))
        delay = contact.pause_seconds(
            self._random,
            longest=view.reconnect_delay_max,
            is_mutual=bool(view.shared_with(peer_id)) and not is_joining,
            is_joining=is_joining,
            is_second=self._office.key.peer_id > peer_id,
        )
        contact.timer = self._loop.call_later(delay, self._begin_attempt, peer_id)

    def _is_content(self, peer_id: str, contact: Contact) -> bool:
        """Whether nothing is to be done about a peer now."""
        return (
            self._stopping
            or contact.attempt is not None
            or peer_id in self._office.exchanges
            or not self._office.wants(peer_id)
            or not self._routes.has_way(peer_id)
            or not self._places.allows(peer_id)
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
            self._choose_soon()

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
        is_answer = is_refusal or error.code == OVERLOADED
        is_said = is_answer and error.code == contact.refusal
        contact.refusal = error.code if is_answer else ""
        is_online = self._hubs.where(peer_id) is not None
        self._hubs.take_turns(peer_id)
        if is_refusal:
            self._office.postman.refused(peer_id, error.code)
        if not is_online and not is_answer:
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
        return self._doorway.refusal(peer_id) or self._places.refusal(peer_id)

    def _arrived(self, link: PeerLink) -> None:
        """A peer has opened a link."""
        if self._stopping:
            self._crew.spawn(link.close())
        else:
            self._contacts.setdefault(link.peer_id, Contact())
            self._crew.spawn(self._try(link.peer_id, self._converse(link.peer_id, link, "incoming")))

    async def _converse(self, peer_id: str, link: PeerLink, direction: Direction) -> None:
        if not await self._links.converse(peer_id, link, direction):
            self._log.info("no place for a link", peer=peer_id)
            self._contacts.setdefault(peer_id, Contact()).failures += 1

    def _begun_with(self, peer_id: str) -> None:
        self._contacts.setdefault(peer_id, Contact()).refusal = ""

    def _ended_with(self, peer_id: str, exchange: Exchange) -> None:
        contact = self._contacts.get(peer_id)
        if contact is not None:
            code = "internal" if exchange.closed is None else exchange.closed.code
            if self._loop.time() - exchange.began > STEADY_SECONDS:
                contact.failures = 0
            elif code not in ("remote_closed", OVERLOADED) and not self._places.is_leaving(peer_id):
                contact.failures += 1
            if code == OVERLOADED:
                contact.refusal = code
            self._consider(peer_id, contact)
