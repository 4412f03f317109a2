"""Everything between this worker and one peer, over one link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Final, Literal
from uuid import UUID, uuid4

import structlog

from pgpeer.commit.header import Header
from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import LinkClosed, PgpeerError, StoreError
from pgpeer.identity.peer_id import peer_id_from_public_key
from pgpeer.protocol import events
from pgpeer.store import commits
from pgpeer.store.commits import SignedCommit
from pgpeer.store.view import Traffic
from pgpeer.worker import joiner
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.feed import Feed
from pgpeer.worker.household import DEVICES_ID, Household
from pgpeer.worker.intake import Intake
from pgpeer.worker.introductions import Introductions
from pgpeer.worker.meter import Meter
from pgpeer.worker.office import Office
from pgpeer.worker.records import RECORDS_ID
from pgpeer.worker.reporter import words_of
from pgpeer.worker.whereabouts import Whereabouts

STRANGER_SECONDS: Final = 10.0
"""So long may a peer that is no member stay without presenting a good invite."""

EARLY_VECTORS: Final = 64

REFUSED_JOINS: Final = 8
"""So many invites that are not good may a peer present on one link."""

USEFUL: Final = (
    events.CommitReceived,
    events.SectionReceived,
    events.AcknowledgementReceived,
    events.JoinRequested,
)
"""What is heard on a link that is not idle; what programs say counts by their connections."""

Direction = Literal["outgoing", "incoming"]

Work = Callable[[], Coroutine[None, None, None]]
"""Made into a coroutine only when it runs, so that none is left over by a task that is cancelled at once."""


class Exchange:
    """One link in use: `run` does everything until the link ends.

    Args:
        office: the worker's shared parts.
        conversation: not started yet.
        direction: who offered the link.
    """

    def __init__(self, office: Office, conversation: Conversation, direction: Direction) -> None:
        self.connection_id = uuid4()
        self.direction = direction
        self.peer_id = ""
        self._clock = asyncio.get_running_loop().time
        self.began = self.used_at = self._clock()
        self.authenticated: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the peer has proven who it is (True), or never will (False)."""
        self.closed: events.SessionClosed | None = None
        self._office = office
        self._conversation = conversation
        self._label = ""
        self._feeds: dict[UUID, tuple[Feed, asyncio.Task[None]]] = {}
        self._early: dict[UUID, events.VectorReceived] = {}
        self._early_acknowledgements: dict[UUID, events.AcknowledgementReceived] = {}
        self._asked: set[UUID] = set()
        self._introductions = Introductions(office, conversation)
        self._whereabouts = Whereabouts(office, conversation)
        self._household = Household(office, conversation)
        self._meter = Meter(self.connection_id, conversation)
        self._intake = Intake(office.connections.store, office.merger, self._vet, conversation.grant)
        self._acknowledgements: dict[UUID, Sequence[VectorEntry]] = {}
        self._to_acknowledge = asyncio.Event()
        self._view_changed = asyncio.Event()
        self._refused_authors: set[bytes] = set()
        self._refused_joins = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("pgpeer.exchange")

    # Called by others; none of these wait.

    def push(self, bundle_id: UUID, made: Sequence[SignedCommit]) -> None:
        """Commits of this database were signed."""
        if bundle_id in self._feeds:
            self.used_at = self._clock()
            for commit in made:
                self._feeds[bundle_id][0].push(commit)

    def settled(self, bundle_id: UUID, vector: Sequence[VectorEntry]) -> None:
        """Commits of peers were merged here, durably."""
        if bundle_id in self._feeds:
            self._acknowledgements[bundle_id] = vector
            self._to_acknowledge.set()
            self._feeds[bundle_id][0].look_again()

    def view_changed(self) -> None:
        """The office has a new view."""
        self._view_changed.set()

    def has_news(self) -> bool:
        """Whether the counters have changed enough to be stored again."""
        return self._meter.has_news()

    @property
    def buffered(self) -> int:
        """Bytes that wait to be handed to the network."""
        return self._conversation.link.buffered

    def traffic(self) -> Traffic:
        """The counters of the link."""
        return self._meter.take()

    async def send_channel(self, data: bytes) -> None:
        """Send what an application says to the peer's; raises LinkClosed when the link is over."""
        await self._conversation.send_channel(data)

    async def close(self, detail: str, code: str = "remote_closed") -> None:
        """End the link, telling the peer why; takes about two seconds at most."""
        await self._conversation.close(detail, code)

    # Running.

    async def run(self) -> None:
        """Talk with the peer until the link ends.

        Raises:
            StoreError: the database is lost.
        """
        self._conversation.start()
        try:
            while self.closed is None:
                if self._conversation.events.empty():
                    await self._intake.flush()
                await self._handle(await self._conversation.events.get())
        except LinkClosed as error:
            # something could not be sent any more: the conversation knows why
            reason = events.SessionClosed(error.code, error.phase, str(error), True)
            await self._over(self._conversation.closed or reason)
        except PgpeerError as error:
            if isinstance(error, StoreError) and error.code == "unreachable":
                raise
            await self._fail(error)
        finally:
            if not self.authenticated.done():
                self.authenticated.set_result(False)
            self._office.pace.gone(self.peer_id)
            for task in self._tasks:
                task.cancel()
            self._conversation.forget()
            await self._conversation.close("The worker ended this link.")
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, event: events.Event) -> None:
        if isinstance(event, USEFUL):
            self.used_at = self._clock()
        match event:
            case events.CommitReceived():
                feed = self._feeds.get(event.bundle_id)
                if feed is None:
                    raise PgpeerError(
                        "The peer sent a commit of a bundle that it does not share with this database.",
                        code="refused_policy",
                        phase="transfer",
                    )
                digest = await self._intake.take_commit(event)
                feed[0].received(digest)
                self._office.diagnostics.heard(digest)
            case events.SectionReceived():
                await self._intake.take_section(event)
            case events.AcknowledgementReceived():
                if event.bundle_id in self._feeds:
                    self._acknowledged(event)
                elif len(self._early_acknowledgements) < EARLY_VECTORS:
                    self._early_acknowledgements[event.bundle_id] = event
            case events.VectorReceived():
                if event.bundle_id in self._feeds:
                    self._feeds[event.bundle_id][0].begin(event.entries, event.partial)
                elif len(self._early) < EARLY_VECTORS:
                    self._early[event.bundle_id] = event
            case events.Authenticated():
                await self._welcome(event)
            case events.JoinRequested():
                bundle_id = await joiner.answer(self._office, self._conversation, self._label, event)
                if bundle_id is not None:
                    await self._office.look()
                    await self._follow_view()
                else:
                    self._guessed()
            case events.JoinAccepted() if event.invite_id == RECORDS_ID:
                await self._whereabouts.hear(self.peer_id, event.payload)
            case events.JoinAccepted() if event.invite_id == DEVICES_ID:
                await self._household.hear(self.peer_id, event.payload)
            case events.JoinAccepted() if event.invite_id in self._feeds:
                await self._introductions.hear(self.peer_id, event)
            case events.JoinAccepted() if self._is_joining(event.invite_id):
                self._introductions.keep(event)
            case events.JoinAccepted():
                bundle_id = await joiner.accepted(self._office, self._conversation, event)
                if bundle_id is not None:
                    await self._follow_view()
                    await self._introductions.hear_kept(self.peer_id, bundle_id)
                    await self._office.check_join(bundle_id)
            case events.JoinRefused():
                await joiner.refused(self._office, self._conversation, event)
            case events.ChannelReceived(data):
                self._office.postman.received(self.peer_id, self, data)
            case events.RemoteError(code, phase, retryable, detail, hint):
                error = PgpeerError(detail, code=code, phase=phase, retryable=retryable, remedy=hint)
                await self._office.reporter.failure("peer-error", error, peer_id=self.peer_id)
            case events.SessionSlow(phase):
                error = PgpeerError("The peer does not answer.", code="slow", phase=phase, retryable=True)
                await self._office.reporter.failure("peer-slow", error, peer_id=self.peer_id)
            case events.SessionClosed():
                await self._over(event)

    async def _welcome(self, event: events.Authenticated) -> None:
        self.peer_id = event.peer_id
        self._label = event.label
        view = self._office.view
        if not view.shared_with(self.peer_id) and not view.joins_at(self.peer_id):
            if not view.may_come(self.peer_id) and not self._office.wants(self.peer_id):
                raise PgpeerError(
                    "This peer is not known here and no invite is open.",
                    code="refused_policy",
                    phase="identity",
                    remedy="Ask for an invite: SELECT peer.invite(…).",
                )
            self._spawn(self._dismiss_stranger)
        self.authenticated.set_result(True)
        await self._office.reporter.connected(
            self.connection_id,
            self.peer_id,
            self._label,
            self.direction,
            words_of(self._conversation.link.path),
        )
        self._conversation.hand_on(lambda data: self._office.postman.received(self.peer_id, self, data))
        await self._follow_view()
        self._spawn(self._acknowledge)
        self._spawn(self._watch_view)

    async def _dismiss_stranger(self) -> None:
        """End a link that has no purpose: no good invite was presented, and applications need it no more."""
        while not self._office.view.shared_with(self.peer_id):
            await asyncio.sleep(STRANGER_SECONDS)
            if not self._office.wants(self.peer_id) and not self._office.view.trust.admits(self.peer_id):
                await self._conversation.close("No good invite was presented, and nothing else is wanted.")
                return

    async def _watch_view(self) -> None:
        while True:
            await self._view_changed.wait()
            self._view_changed.clear()
            await self._follow_view()

    async def _follow_view(self) -> None:
        """Begin with the bundles that are shared now, end with those that no longer are."""
        view = self._office.view
        if self.peer_id in view.trust.blocked:
            await self._conversation.close("This link is not wanted.")
            return
        shared = view.shared_with(self.peer_id)
        if self._feeds and not shared and not self._office.wants(self.peer_id):
            for bundle_id in list(self._feeds):  # so that who was removed knows it
                await self._introductions.tell(self.peer_id, bundle_id)
            await self._conversation.close("Nothing is shared any more.")
            return
        for bundle_id in [one for one in self._feeds if one not in shared]:
            self._feeds.pop(bundle_id)[1].cancel()
        for bundle_id in shared:
            if bundle_id not in self._feeds:
                await self._begin(bundle_id)
            await self._introductions.tell(self.peer_id, bundle_id)
        await joiner.ask(self._office, self._conversation, self._asked)
        await self._whereabouts.tell(self.peer_id)
        await self._household.tell(self.peer_id)

    def _is_joining(self, bundle_id: UUID) -> bool:
        """Whether a bundle is one that the peer has let this database into, though the answer was lost."""
        return any(join.bundle_id == bundle_id for join in self._office.view.joins_at(self.peer_id))

    async def _begin(self, bundle_id: UUID) -> None:
        feed = Feed(bundle_id, self._conversation, self._office.connections.read)
        self._feeds[bundle_id] = (feed, self._spawn(feed.run))
        early = self._early.pop(bundle_id, None)
        if early is not None:
            feed.begin(early.entries, early.partial)
        acknowledgement = self._early_acknowledgements.pop(bundle_id, None)
        if acknowledgement is not None:
            self._acknowledged(acknowledgement)
        read = self._office.connections.read
        partial: Mapping[bytes, Sequence[int]] = await commits.incomplete(read, bundle_id)
        self._intake.told_partial(set(partial))
        stored = await commits.vector(read, bundle_id, "stored")
        await self._conversation.send_vector(bundle_id, stored, partial)
        merged = await commits.vector(read, bundle_id, "merged")
        if merged:
            await self._conversation.send_acknowledgement(bundle_id, merged)

    def _acknowledged(self, event: events.AcknowledgementReceived) -> None:
        """The peer has merged this much durably."""
        self._feeds[event.bundle_id][0].acknowledged(event.entries)
        self._office.reporter.acknowledged(event.bundle_id, self.peer_id, event.entries)
        self._office.pace.acknowledged(event.bundle_id, self.peer_id, event.entries)

    async def _acknowledge(self) -> None:
        while True:
            await self._to_acknowledge.wait()
            self._to_acknowledge.clear()
            pending, self._acknowledgements = self._acknowledgements, {}
            for bundle_id, vector in pending.items():
                await self._conversation.send_acknowledgement(bundle_id, vector)

    async def _vet(self, header: Header) -> bool:
        """Whether a verified commit may be stored."""
        if header.author == self._office.key.public_key:
            if header.epoch == self._office.epoch and not await commits.is_known(
                self._office.connections.read, header.digest
            ):
                await self._office.renew_epoch()
            return True
        if header.bundle_id in self._office.view.trust.enforced:
            return True  # the merge decides, by grants, and holds it if need be
        author = peer_id_from_public_key(header.author)
        if self._office.view.members.get(author, {}).get(header.bundle_id) != "reader":
            return True
        if header.author not in self._refused_authors:
            self._refused_authors.add(header.author)
            await self._conversation.send_error(
                "refused_policy",
                "transfer",
                False,
                f"Commits of {author} are not taken here: it may only read this bundle.",
                "Ask the one who invited it for the role 'writer'.",
            )
        return False

    def _guessed(self) -> None:
        """An invite was not good; whoever tries again and again is guessing."""
        self._refused_joins += 1
        if self._refused_joins >= REFUSED_JOINS:
            raise PgpeerError(
                "The peer presented too many invites that are not good.", code="rate_limited", phase="sync"
            )

    async def _over(self, event: events.SessionClosed) -> None:
        """The conversation has ended; people are told when the peer broke its rules."""
        self.closed = self.closed or event
        if event.is_violation and self.peer_id:
            error = PgpeerError(
                event.detail,
                code=event.code,
                phase=event.phase,
                retryable=event.retryable,
                remedy=event.remedy,
            )
            await self._office.reporter.failure("peer-failed", error, peer_id=self.peer_id)

    async def _fail(self, error: PgpeerError) -> None:
        """The peer did something that ends the link."""
        self.closed = events.SessionClosed(error.code, error.phase, str(error), error.retryable)
        await self._office.reporter.failure("peer-failed", error, peer_id=self.peer_id or None)
        try:
            await self._conversation.send_error(
                error.code, error.phase, error.retryable, str(error), error.remedy
            )
        except PgpeerError:
            pass  # the link is gone already, or was never established

    def _spawn(self, work: Work) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        return task

    async def _guard(self, work: Work) -> None:
        """Run a part of the exchange; what it cannot do ends the link, not the worker."""
        try:
            await work()
        except LinkClosed:
            pass  # the events tell
        except PgpeerError as error:
            if isinstance(error, StoreError) and error.code == "unreachable":
                self._office.lost.set()
            else:
                await self._fail(error)
            await self._conversation.close(str(error))
