"""What all parts of a running worker share, and the links that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.keyfile import HeldIdentity
from pgpeer.store import state, view
from pgpeer.store.commits import SignedCommit
from pgpeer.store.database import Connection, unreachable
from pgpeer.store.view import View
from pgpeer.worker.dating import Dating
from pgpeer.worker.diagnostics import Diagnostics
from pgpeer.worker.merger import Merger
from pgpeer.worker.pace import Pace
from pgpeer.worker.postman import Postman
from pgpeer.worker.records import Records
from pgpeer.worker.registry import Registry
from pgpeer.worker.reporter import Reporter
from pgpeer.worker.sealer import Sealer

if TYPE_CHECKING:
    from pgpeer.worker.exchange import Exchange


CUT_OFF_SECONDS: Final = 10.0
"""A database that does not answer for so long is lost, although nothing says so."""


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of a worker, so that nothing slow stands in the way of something quick.

    Attributes:
        desk: notifications, the view, events; it holds the lock of the one worker.
        seal: seals and signatures.
        merge: merges.
        store: what arrives in parts.
        read: what is sent.
        post: messages of applications.
    """

    desk: Connection
    seal: Connection
    merge: Connection
    store: Connection
    read: Connection
    post: Connection


class Office:
    """The shared parts of one worker from its start to its end or to the loss of the database."""

    def __init__(
        self, identity: HeldIdentity, epoch: int, connections: Connections, *, is_ahead: bool = False
    ) -> None:
        self.identity = identity
        self.key: PrivateKey = identity.key
        self.epoch = epoch
        self.connections = connections
        self.view = View()
        self.reporter = Reporter(connections.desk)
        self.registry = Registry(identity.key, connections.desk, self.reporter)
        self.records = Records(self)
        self.exchanges: dict[str, Exchange] = {}
        self.diagnostics = Diagnostics(connections.desk, self.exchanges)
        self.postman = Postman(connections.post)
        self.pace = Pace(identity.key.public_key, asyncio.get_running_loop().time)
        self.sealer: Sealer
        self.merger: Merger
        self.followers: list[Callable[[], None]] = []
        """Called when the view has changed."""
        self.news: dict[UUID, float] = {}
        """When there were last new commits of a bundle here, by the clock of the event loop."""
        self.lost = asyncio.Event()
        """Set when a call finds that the database cannot be reached: all connections are made again."""
        self.changed = asyncio.Event()
        """Set when the view should be renewed soon."""
        self.dating = Dating(self, is_ahead=is_ahead)
        self._looking = asyncio.Lock()

    def wants(self, peer_id: str) -> bool:
        """Whether a link to a peer has a purpose here: a bundle, a join, applications, friendship."""
        view = self.view
        if peer_id in view.trust.blocked:
            return False
        return (
            bool(view.shared_with(peer_id) or view.joins_at(peer_id))
            or peer_id in self.postman.wanted()
            or (peer_id in view.trust.friends and view.trust.admits(peer_id))
        )

    async def look(self) -> None:
        """Renew the view, and wake whoever has something to do."""
        async with self._looking:
            traffic = [one.traffic() for one in self.exchanges.values() if one.has_news()]
            try:
                async with asyncio.timeout(CUT_OFF_SECONDS):
                    self.view = await view.look(self.connections.desk, traffic)
                    if self.view.trust.has_requests or self.view.trust.unread:
                        await self.registry.catch_up(self.view.trust.unread)
                        self.view = await view.look(self.connections.desk, [])
            except TimeoutError as error:
                raise unreachable(f"it does not answer within {CUT_OFF_SECONDS:g} s") from error
        await self.dating.look()
        for bundle in self.view.bundles.values():
            if bundle.has_due:
                self.merger.wake(bundle.bundle_id)
            if bundle.has_unsigned:
                self.sealer.commit_notified(bundle.bundle_id)
            if bundle.has_changes and bundle.is_auto:
                self.sealer.look_again()
        for follow in self.followers:
            follow()
        for exchange in list(self.exchanges.values()):
            exchange.view_changed()

    def publish(self, bundle_id: UUID, commits: Sequence[SignedCommit]) -> None:
        """Send commits that were signed here to everybody who shares the bundle."""
        self.news[bundle_id] = asyncio.get_running_loop().time()
        for exchange in self.exchanges.values():
            exchange.push(bundle_id, commits)

    async def settled(self, bundle_id: UUID, vector: tuple[VectorEntry, ...]) -> None:
        """Commits of peers were merged durably: acknowledge them, and pass them on."""
        self.news[bundle_id] = asyncio.get_running_loop().time()
        for exchange in self.exchanges.values():
            exchange.settled(bundle_id, vector)
        bundle = self.view.bundles.get(bundle_id)
        if bundle is not None and bundle.is_joining:
            await self.check_join(bundle_id)

    async def check_join(self, bundle_id: UUID) -> None:
        """Tell when a bundle that is being joined is filled."""
        if await state.join_reached(self.connections.desk, bundle_id):
            await self.look()

    async def renew_epoch(self) -> None:
        """An own commit came back that is not known here: the database was restored, its numbers are used."""
        self.epoch = await state.renew_epoch(self.connections.seal)
        await self.reporter.event(
            "epoch-renewed",
            detail="A peer sent back commits of this database that were lost here, as after a restore.",
        )


Reload = Callable[[], Awaitable[None]]
