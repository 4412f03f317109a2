"""Members tell each other who else is a member, so that all of them link directly.

A newcomer is known to its inviter only. Whoever learns of a member tells the peers that it has links with,
once; who may only read a bundle is not believed. What is told adds members and never changes or revives one.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol.events import JoinAccepted
from pgpeer.store import state
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.office import Office

MEMBERS_AT_ONCE: Final = 4096
"""So many members are told and taken in one message."""

ROLES: Final = frozenset({"reader", "writer", "admin"})


class Introductions:
    """What one peer and this one have told each other about the members of bundles."""

    def __init__(self, office: Office, conversation: Conversation) -> None:
        self._office = office
        self._conversation = conversation
        self._known: dict[UUID, set[str]] = {}

    async def tell(self, peer_id: str, bundle_id: UUID) -> None:
        """Tell the peer whom of a bundle it has not heard of on this link."""
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

    async def hear(self, peer_id: str, event: JoinAccepted) -> None:
        """The peer tells of members.

        Raises:
            RemoteProtocolError: what it tells is malformed.
        """
        bundle_id = event.invite_id
        members = event.payload.get("members")
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
