"""Grants at work: signs the roles that people here have set, takes what peers tell, and reads the roster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

import structlog

from pgpeer.errors import IdentityError
from pgpeer.identity.grant import FENCE_LIMIT, ROLES, SEEN_LIMIT, SignedGrant, read_grant, sign_grant
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.roster import Roster, roster
from pgpeer.store import members
from pgpeer.store.database import Connection
from pgpeer.store.members import GrantRequest
from pgpeer.worker.reporter import Reporter

RECORDS_AT_ONCE: Final = 256
"""So many grants are told in one message."""

BYTES_AT_ONCE: Final = 1024 * 1024


class Registry:
    """The grants of all bundles of one database.

    Args:
        key: signs what is asked for here.
        connection: to the database.
        reporter: is told of keys that contradict themselves.
    """

    def __init__(self, key: PrivateKey, connection: Connection, reporter: Reporter) -> None:
        self._key = key
        self._reporter = reporter
        self._connection = connection
        self._turn = asyncio.Lock()
        self._log = structlog.get_logger("pgpeer.registry")

    async def catch_up(self, unread: Sequence[UUID] = ()) -> None:
        """Sign what waits, and read the grants of these bundles that others have stored."""
        await self.sign_requests()
        async with self._turn:
            for bundle_id in unread:
                await self._report(bundle_id, await members.read_roster(self._connection, bundle_id))

    async def sign_requests(self) -> set[UUID]:
        """Sign what waits for it, and give the bundles whose grants have changed.

        Cancelled, it leaves what is not signed waiting; nothing is signed twice under one number, because a
        grant is stored before its request is closed and the next one has seen it.
        """
        changed: set[UUID] = set()
        async with self._turn:
            for request in await members.grant_requests(self._connection):
                if await self._sign(request):
                    changed.add(request.bundle_id)
                await members.close_grant_request(self._connection, request.request_id)
                await members.read_roster(self._connection, request.bundle_id)
        return changed

    async def take(
        self, bundle_id: UUID, creator: str | None, records: Sequence[bytes], told_by: str
    ) -> bool:
        """Take grants that a peer tells, and give whether there was a new one.

        Args:
            bundle_id: the bundle that they must be of.
            creator: who made it, as the peer says; counts only when nothing is known here.
            records: the grants.
            told_by: the peer.

        Raises:
            IdentityError: one is malformed, not signed by its issuer, or there are too many.
        """
        told = [read_grant(record) for record in records]
        async with self._turn:
            if await members.creator(self._connection, bundle_id, creator) is None:
                return False
            new = await members.store_grants(self._connection, bundle_id, told, told_by)
            if new:
                found = await members.read_roster(self._connection, bundle_id)
                await self._report(bundle_id, found)
        return new > 0

    async def known(self, bundle_id: UUID) -> tuple[str | None, list[bytes]]:
        """Give the creator and all grants of a bundle, to be told to a peer."""
        creator = await members.creator(self._connection, bundle_id)
        return creator, [one.record for one in await members.grants(self._connection, bundle_id)]

    async def _sign(self, request: GrantRequest) -> bool:
        if request.creator is None:
            return False  # this bundle was joined at a peer that knows no grants
        known = await members.grants(self._connection, request.bundle_id)
        present = roster(request.creator, known)
        if not _may_give(present, self._key.peer_id, request):
            self._log.warning("a role is not given", subject=request.subject, role=request.role)
            return False
        seq = 1 + max((one.grant.seq for one in known if one.grant.issuer == self._key.peer_id), default=0)
        made = sign_grant(
            self._key,
            request.bundle_id,
            request.subject,
            request.role,
            seq,
            _heads(present, known, self._key.peer_id),
            request.fence[:FENCE_LIMIT],
        )
        await members.store_grants(self._connection, request.bundle_id, [made], None)
        return True

    async def _report(self, bundle_id: UUID, found: Roster) -> None:
        for peer_id in found.equivocators:
            await self._reporter.problem(
                "key_copied",
                f"{bundle_id} {peer_id}",
                f"Peer {peer_id} gave different grants with one number: its key was copied, or its database "
                "restored.",
                "If the key may be in other hands, let an admin remove that peer; else do nothing.",
                bundle_id,
            )


def _may_give(present: Roster, issuer: str, request: GrantRequest) -> bool:
    """Whether a grant would count; others are not signed, for they would stay for good."""
    own = present.roles.get(issuer, "removed")
    if request.subject == issuer:
        return ROLES.index(request.role) < ROLES.index(own)
    if own == "admin":
        return True
    return own == "writer" and request.role in ("reader", "writer") and request.subject not in present.roles


def _heads(present: Roster, known: Sequence[SignedGrant], issuer: str) -> list[bytes]:
    """What the next grant has seen: the newest ones, its issuer's own last one always among their past."""
    heads = list(present.heads)
    if len(heads) <= SEEN_LIMIT:
        return heads
    own = [one for one in known if one.grant.issuer == issuer]
    last = [max(own, key=lambda one: one.grant.seq).digest] if own else []
    return sorted({*last, *heads[: SEEN_LIMIT - len(last)]})


def batches(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut grants into messages of a reasonable size."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        if batch and (len(batch) == RECORDS_AT_ONCE or size + len(record) > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


def readable(value: object) -> list[bytes]:
    """Read the grants in a message.

    Raises:
        IdentityError: it is no list of at most `RECORDS_AT_ONCE` records in hexadecimal.
    """
    try:
        if not isinstance(value, list) or len(value) > RECORDS_AT_ONCE:
            raise ValueError("not a list")
        return [bytes.fromhex(one) for one in value]
    except (ValueError, TypeError) as error:
        raise IdentityError("The other side tells grants in a malformed way.", code="bad_message") from error
