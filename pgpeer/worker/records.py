"""Peer records: what this database says of itself, and what others have said of themselves.

A record names the addresses at which its peer listens, signed and numbered. The newest ones are passed on, so
that two that have lost each other meet again with every hub down: to members of common bundles, and by a
common friend to two that ask it for each other. Nobody is told who else is a friend here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from pgpeer.errors import IdentityError
from pgpeer.identity.notice import LABEL_CHARACTERS_LIMIT, read_peer_record, sign_peer_record
from pgpeer.store import members
from pgpeer.worker.clock import unix_time
from pgpeer.worker.seeking import SOUGHT_LIMIT, Search

if TYPE_CHECKING:
    from pgpeer.worker.office import Office

RECORDS_ID: Final = UUID(int=0)
"""In place of a bundle, in the message that tells peer records: they are of no bundle."""

LEFT_OUT_LIMIT: Final = 256
"""So many records of peers not known (yet) one link keeps, for when they are."""


class Records:
    """The peer records of one worker.

    Args:
        office: whose key signs.
    """

    def __init__(self, office: Office) -> None:
        self.addresses: Callable[[], Sequence[str]] = tuple
        """Gives where this worker can be reached directly."""
        self._office = office
        self._changed = asyncio.Event()
        self._is_read = False
        self._seq = 0
        self._searches: dict[str, Search] = {}
        self._pairs: dict[str, set[str]] = {}
        self.own: bytes | None = None
        """What this database says of itself; None: it says nothing, for it has never listened."""
        self._log = structlog.get_logger("pgpeer.records")

    def look_again(self) -> None:
        """What this database says of itself may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the own record true until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._renew()

    async def for_peer(self, peer_id: str) -> list[bytes]:
        """Give the records that a peer may be told.

        They are the own one, those of members of common bundles, and those of friends that it seeks and that
        seek it.
        """
        desk = self._office.connections.desk
        others = await members.records_for(desk, peer_id, sorted(self.sought_by(peer_id)))
        own = [self.own] if self.own is not None else []
        return own + [one for one in others if one != self.own]

    def to_seek(self, peer_id: str) -> frozenset[str]:
        """Give the friends of this database for which one of them is asked."""
        trust, linked = self._office.view.trust, self._office.exchanges
        friends = trust.friends - trust.blocked - {peer_id}
        if len(friends) <= SOUGHT_LIMIT:
            return friends
        # who cannot be reached now comes first
        return frozenset(sorted(friends, key=lambda one: (one in linked, one))[:SOUGHT_LIMIT])

    def heard_search(self, search: Search) -> None:
        """A linked peer seeks friends: those that seek it as well are told of it, and it of them."""
        linked, peer_id = self._office.exchanges, search.seeker
        for gone in [one for one in self._searches if one not in linked]:
            del self._searches[gone]
            for other in self._pairs.pop(gone, set()):
                self._pairs.get(other, set()).discard(gone)
        self._searches[peer_id] = search
        for other, theirs in self._searches.items():
            pair = self._pairs.setdefault(peer_id, set()), self._pairs.setdefault(other, set())
            if other != peer_id and search.seeks(other) and theirs.seeks(peer_id):
                pair[0].add(other)
                pair[1].add(peer_id)
                if other in linked:
                    linked[other].view_changed()
            else:
                pair[0].discard(other)
                pair[1].discard(peer_id)
        if peer_id in linked:
            linked[peer_id].view_changed()

    def sought_by(self, peer_id: str) -> frozenset[str]:
        """Give the friends of this database that a friend has asked for and that have asked for it."""
        trust = self._office.view.trust
        friends = trust.friends - trust.blocked
        return friends & self._pairs.get(peer_id, set()) if peer_id in friends else frozenset()

    def is_wanted(self, peer_id: str) -> bool:
        """Whether the record of a peer is of use here; never one of a peer that was removed or blocked."""
        view = self._office.view
        if peer_id == self._office.key.peer_id or peer_id in view.trust.blocked:
            return False
        return bool(view.shared_with(peer_id) or view.joins_at(peer_id) or peer_id in view.trust.friends)

    async def take(self, records: Sequence[bytes], told_by: str) -> list[bytes]:
        """Take records that a peer tells, and give those that are of peers not known here.

        Raises:
            IdentityError: one is malformed or not signed by its peer; those before it are taken.
        """
        left_out, is_news = [], False
        for record in records:
            read = read_peer_record(record)
            if not self.is_wanted(read.peer_id):
                left_out.append(record)
                continue
            outcome = await members.store_peer_record(self._office.connections.desk, read, record, told_by)
            is_news |= outcome == "new"
            if outcome == "equivocation":
                self._log.warning("a peer signed two records with one number", peer=read.peer_id)
        if is_news:
            self._office.changed.set()
        return left_out

    async def _renew(self) -> None:
        desk = self._office.connections.desk
        if not self._is_read:
            known = await members.own_record(desk)
            if known is not None:
                self._seq, self.own = known
            self._is_read = True
        addresses = tuple(sorted(set(self.addresses())))
        label = self._office.view.label[:LABEL_CHARACTERS_LIMIT]
        if self.own is None:
            if not addresses:
                return
        else:
            said = read_peer_record(self.own)
            if (said.addresses, said.label) == (addresses, label):
                return
        # an empty record takes back what an earlier one said
        self._seq = max(self._seq + 1, int(unix_time() * 1000))
        try:
            record = sign_peer_record(self._office.key, self._seq, label, addresses)
        except IdentityError as error:
            self._log.warning("this database cannot say where it listens", reason=str(error))
            return
        said = read_peer_record(record)
        await members.store_own_record(desk, said.peer_id, said.seq, record)
        self.own = record
        self._log.info("addresses told", addresses=" ".join(addresses))
        self._office.changed.set()  # the hubs are told as well
        for exchange in list(self._office.exchanges.values()):
            exchange.view_changed()
