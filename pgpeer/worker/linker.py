"""Makes links to the peers that this database shares something with, as long as they are online.

The peer with the lower id offers at once; the other one does so a moment later if nothing came, so that a
link that only one side knows to be dead is replaced. Who wants to join offers at once. Of two offers that
cross, the one of the lower id counts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

import structlog

from pgpeer.errors import HubError, PgpeerError, RemoteProtocolError, StoreError, TransportError
from pgpeer.signaling.backoff import next_delay
from pgpeer.signaling.signal import (
    Signal,
)
from pgpeer.transport.hub_events import SignalReceived
from pgpeer.transport.webrtc import WebRTCLink
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.exchange import Direction, Exchange
from pgpeer.worker.hubs import Hubs
from pgpeer.worker.negotiator import Negotiator
from pgpeer.worker.office import Office

GRACE_SECONDS: Final = 1.5
"""So long the peer with the higher id waits for an offer before it makes one itself."""

FRESH_SECONDS: Final = 5.0
"""Two links younger than this are the result of crossed offers, not of a loss that one side has not seen."""

STEADY_SECONDS: Final = 10.0
OFFERS_AT_ONCE: Final = 32
CLOSE_SECONDS: Final = 3.0


@dataclass(slots=True)
class Contact:
    """What is known about reaching one peer.

    Attributes:
        hubs: where it is online.
        attempt: the offer or answer under way.
        is_offering: whether that is an offer of ours.
        failures: how often connecting has failed since it worked last.
        timer: when to try next.
    """

    hubs: set[str] = field(default_factory=set)
    attempt: asyncio.Task[None] | None = None
    is_offering: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None


class Linker:
    """Links this worker to peers; what happens on a link is the business of its `Exchange`."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self.hubs = Hubs(office, self)
        self._negotiator = Negotiator(office, self.hubs.send)
        self._contacts: dict[str, Contact] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._last_look = -1.0
        self._log = structlog.get_logger("pgpeer.linker")
        office.followers.append(self.follow_view)
        office.postman.follow = self.follow_view

    # What the hubs and the office tell.

    def follow_view(self) -> None:
        """The office has a new view."""
        view = self._office.view
        wanted = {one for one in view.members if view.shared_with(one)}
        wanted |= {one.inviter for one in view.joins} | self._office.postman.wanted()
        wanted -= view.trust.blocked
        self.hubs.watch(wanted)
        for peer_id in wanted:
            self._contacts.setdefault(peer_id, Contact())
            self._consider(peer_id)
        for peer_id in [one for one in self._contacts if one not in wanted]:
            contact = self._contacts[peer_id]
            if contact.timer is not None:
                contact.timer.cancel()
            if contact.attempt is None and peer_id not in self._office.exchanges:
                del self._contacts[peer_id]

    def peer_online(self, url: str, peer_id: str) -> None:
        """See `Audience`."""
        contact = self._contacts.setdefault(peer_id, Contact())
        if url not in contact.hubs:
            contact.hubs.add(url)
            contact.failures = 0
        self._tell_presence()
        self._consider(peer_id)

    def peer_offline(self, url: str, peer_id: str) -> None:
        """See `Audience`."""
        if peer_id in self._contacts:
            self._contacts[peer_id].hubs.discard(url)
            self._tell_presence()

    def hub_lost(self, url: str) -> None:
        """See `Audience`."""
        for contact in self._contacts.values():
            contact.hubs.discard(url)
        self._tell_presence()

    def _tell_presence(self) -> None:
        self._office.postman.online(one for one, contact in self._contacts.items() if contact.hubs)

    def signal(self, url: str, signal: SignalReceived) -> None:
        """See `Audience`."""
        try:
            offer = self._negotiator.take(signal)
        except RemoteProtocolError:
            self._spawn(self._tell_misdated(signal.sender))
            return
        if offer is not None:
            self._spawn(self._take_offer(url, offer))

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
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS / 3)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSE_SECONDS / 3)

    # When to try.

    def _consider(self, peer_id: str) -> None:
        """Begin or plan an attempt when a link is wanted and there is none."""
        contact = self._contacts[peer_id]
        if self._is_content(peer_id, contact) or contact.timer is not None:
            return
        delay = self._random.uniform(0.0, 0.05)
        if contact.failures:
            delay = next_delay(
                contact.failures - 1, self._random.random(), longest=self._office.view.reconnect_delay_max
            )
        view = self._office.view
        is_mutual = bool(view.shared_with(peer_id)) and not view.joins_at(peer_id)
        if is_mutual and self._office.key.peer_id > peer_id:
            delay += GRACE_SECONDS
        contact.timer = self._loop.call_later(delay, self._begin_offer, peer_id)

    def _is_content(self, peer_id: str, contact: Contact) -> bool:
        """Whether nothing is to be done about a peer now."""
        return (
            self._stopping
            or not contact.hubs
            or contact.attempt is not None
            or peer_id in self._office.exchanges
            or not self._office.wants(peer_id)
        )

    def _begin_offer(self, peer_id: str) -> None:
        contact = self._contacts[peer_id]
        contact.timer = None
        if not self._is_content(peer_id, contact):
            url = next((one for one in self._office.view.hubs if one in contact.hubs), None)
            if url is not None:
                self._attempt(peer_id, contact, self._offer(url, peer_id), is_offering=True)

    def _attempt(
        self, peer_id: str, contact: Contact, work: Coroutine[None, None, None], *, is_offering: bool
    ) -> None:
        contact.is_offering = is_offering
        contact.attempt = task = self._spawn(self._try(peer_id, work))

        def ended(_: asyncio.Task[None]) -> None:
            if contact.attempt is task:
                contact.attempt = None
                if peer_id in self._contacts:
                    self._consider(peer_id)

        task.add_done_callback(ended)

    async def _try(self, peer_id: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (TransportError, HubError, RemoteProtocolError) as error:
            await self._failed(peer_id, error)
        except StoreError as error:
            if error.code == "unreachable":
                self._office.lost.set()  # ends the worker's shift

    async def _failed(self, peer_id: str, error: PgpeerError) -> None:
        contact = self._contacts.setdefault(peer_id, Contact())
        contact.failures += 1
        reporter = self._office.reporter
        await reporter.failure("connect-failed", error, peer_id=peer_id)
        if error.code in ("refused_policy", "refused_blocked"):
            self._office.postman.refused(peer_id, error.code)
        if error.phase in ("ice", "dtls"):
            await reporter.problem(
                "peer_unreachable", peer_id, f"Peer {peer_id} cannot be reached: {error}", error.remedy
            )

    async def _tell_misdated(self, peer_id: str) -> None:
        if peer_id in self._contacts:
            await self._office.reporter.problem(
                "clock_differs",
                peer_id,
                f"No link can be made with peer {peer_id}: the clocks of its machine and this one differ by "
                "more than five minutes.",
                "Set both clocks right, best by a time server.",
            )

    # Offers and answers.

    async def _offer(self, url: str, peer_id: str) -> None:
        await self._converse(peer_id, await self._negotiator.offer(url, peer_id), "outgoing")

    async def _answer(self, url: str, offer: Signal) -> None:
        await self._converse(offer.sender, await self._negotiator.answer(url, offer), "incoming")

    async def _take_offer(self, url: str, offer: Signal) -> None:
        peer_id = offer.sender
        if not await self._may_come(peer_id):
            await self._negotiator.reject(url, offer)
            return
        contact = self._contacts.setdefault(peer_id, Contact())
        if contact.attempt is not None:
            if contact.is_offering and self._office.key.peer_id < peer_id:
                return  # ours counts
            contact.attempt.cancel()
            await asyncio.wait([contact.attempt])
        under_way = sum(one.attempt is not None for one in self._contacts.values())
        if not self._stopping and contact.attempt is None and under_way < OFFERS_AT_ONCE:
            self._attempt(peer_id, contact, self._answer(url, offer), is_offering=False)

    async def _may_come(self, peer_id: str) -> bool:
        """Whether a peer may connect; an invite that was made a moment ago counts."""
        view = self._office.view
        if not view.may_come(peer_id):
            if self._loop.time() - self._last_look < 1.0:
                return False
            self._last_look = self._loop.time()
            await self._office.look()
            view = self._office.view
        return view.may_come(peer_id)

    # Links in use.

    async def _converse(self, peer_id: str, link: WebRTCLink, direction: Direction) -> None:
        """Return when the peer has proven who it is; the exchange goes on by itself."""
        conversation = Conversation(
            link,
            self._office.key,
            "offerer" if direction == "outgoing" else "answerer",
            expected_peer_id=peer_id,
            label=self._office.view.label,
        )
        exchange = Exchange(self._office, conversation, direction)
        task = self._spawn(self._run(peer_id, exchange))
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

    async def _run(self, peer_id: str, exchange: Exchange) -> None:
        admission = self._spawn(self._admit(peer_id, exchange))
        try:
            await exchange.run()
        finally:
            admission.cancel()
            self._office.postman.link_down(peer_id, exchange)
            if self._office.exchanges.get(peer_id) is exchange:
                del self._office.exchanges[peer_id]
                contact = self._contacts.get(peer_id)
                if contact is not None:
                    if self._loop.time() - exchange.began > STEADY_SECONDS:
                        contact.failures = 0
                    elif exchange.closed is None or exchange.closed.code != "remote_closed":
                        contact.failures += 1
                    self._consider(peer_id)
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

    async def _admit(self, peer_id: str, exchange: Exchange) -> None:
        """Take an authenticated exchange among the links; of two the newer stays, if they did not cross."""
        if not await asyncio.shield(exchange.authenticated):
            return
        other = self._office.exchanges.get(peer_id)
        is_lower = self._office.key.peer_id < peer_id
        preferred: Direction = "outgoing" if is_lower else "incoming"
        if (
            other is not None
            and exchange.began - other.began < FRESH_SECONDS
            and other.direction == preferred != exchange.direction
        ):
            await exchange.close("Another link was made at the same time.")
            return
        self._office.exchanges[peer_id] = exchange
        self._office.postman.link_up(peer_id, exchange)
        exchange.view_changed()
        await self._office.reporter.solved("clock_differs", peer_id)
        if other is not None:
            await other.close("A newer link takes its place.")

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreError):
            self._log.warning("a link ended with the database", reason=str(error))
            if error.code == "unreachable":
                self._office.lost.set()
        elif error is not None:
            self._log.error("a link failed", exc_info=error)
