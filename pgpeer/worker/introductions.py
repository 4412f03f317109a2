"""Members tell each other who else is a member, so that all of them link directly.

A newcomer is known to its inviter only. Whoever learns of a member tells the peers that it has links with,
once, together with the signed grants that make it one. Grants are believed whoever tells them. Where a bundle
has none, a mere word adds members of whoever may write, and never changes or revives one.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.protocol.events import JoinAccepted
from pgpeer.store import state
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.office import Office
from pgpeer.worker.registry import batches, readable

MEMBERS_AT_ONCE: Final = 4096
"""So many members are told and taken in one message."""

KEPT_LIMIT: Final = 64
"""So many messages about a bundle wait for the answer to a join."""

ROLES: Final = frozenset({"reader", "writer", "admin"})


class Introductions:
    """What one peer and this one have told each other about the members of bundles."""

    def __init__(self, office: Office, conversation: Conversation) -> None:
        self._office = office
        self._conversation = conversation
        self._known: dict[UUID, set[str]] = {}
        self._grants: dict[UUID, set[bytes]] = {}
        self._counts: dict[UUID, int] = {}
        self._kept: list[JoinAccepted] = []

    async def tell(self, peer_id: str, bundle_id: UUID) -> None:
        """Tell the peer the grants and members of a bundle that it has not heard of on this link."""
        await self._tell_grants(bundle_id)
        known = self._known.setdefault(bundle_id, {peer_id})
        new = {
            one: roles[bundle_id]
            for one, roles in self._office.view.members.items()
            if bundle_id in roles and one not in known
        }
        told = dict(sorted(new.items())[:MEMBERS_AT_ONCE])
        known |= set(told)
        if told:
            # the answer to a join, with the bundle in place of the invite: what a member must know
            await self._conversation.accept_join(bundle_id, {"members": told})

    def keep(self, event: JoinAccepted) -> None:
        """The peer tells of a bundle that this database is only about to join."""
        if len(self._kept) < KEPT_LIMIT:
            self._kept.append(event)

    async def hear_kept(self, peer_id: str, bundle_id: UUID) -> None:
        """The bundle is here now; raises as `hear`."""
        kept, self._kept = self._kept, []
        for event in kept:
            if event.invite_id == bundle_id:
                await self.hear(peer_id, event)

    async def hear(self, peer_id: str, event: JoinAccepted) -> None:
        """The peer tells of members.

        Raises:
            RemoteProtocolError: what it tells is malformed.
        """
        bundle_id = event.invite_id
        if "grants" in event.payload:
            await self._hear_grants(peer_id, bundle_id, event)
        members = event.payload.get("members", {})
        if (
            not isinstance(members, dict)
            or len(members) > MEMBERS_AT_ONCE
            or not all(isinstance(role, str) and role in ROLES for role in members.values())
        ):
            raise RemoteProtocolError("The other side tells of members in a malformed way.", phase="sync")
        self._known.setdefault(bundle_id, {peer_id}).update(members)
        unknown = [
            (one, role)
            for one, role in members.items()
            if one != self._office.key.peer_id and bundle_id not in self._office.view.members.get(one, {})
        ]
        desk = self._office.connections.desk
        if unknown and await state.members_told(desk, bundle_id, peer_id, unknown):
            await self._office.look()

    async def _tell_grants(self, bundle_id: UUID) -> None:
        count = self._office.view.trust.grants.get(bundle_id, 0)
        if count == self._counts.get(bundle_id, 0):
            return
        self._counts[bundle_id] = count
        creator, records = await self._office.registry.known(bundle_id)
        told = self._grants.setdefault(bundle_id, set())
        new = [record for record in records if record not in told]
        told.update(new)
        for batch in batches(new):
            await self._conversation.accept_join(
                bundle_id, {"creator": creator, "grants": [record.hex() for record in batch]}
            )

    async def _hear_grants(self, peer_id: str, bundle_id: UUID, event: JoinAccepted) -> None:
        creator = event.payload.get("creator")
        if creator is not None and not isinstance(creator, str):
            raise RemoteProtocolError("The other side tells grants in a malformed way.", phase="sync")
        try:
            records = readable(event.payload["grants"])
            self._grants.setdefault(bundle_id, set()).update(records)
            is_news = await self._office.registry.take(bundle_id, creator, records, peer_id)
        except IdentityError as error:
            raise RemoteProtocolError(
                f"The other side tells grants that cannot be taken: {error}", code=error.code, phase="sync"
            ) from error
        if is_news:
            await self._office.look()
