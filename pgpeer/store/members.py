"""What the worker asks PostgreSQL about grants, friends and addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.errors import IdentityError
from pgpeer.identity.grant import SignedGrant, read_grant
from pgpeer.identity.notice import FriendNotice, PeerRecord
from pgpeer.identity.peer_id import peer_id_from_public_key, public_key_from_peer_id
from pgpeer.identity.roster import Roster, roster
from pgpeer.store.database import Connection

GRANTS_LIMIT: Final = 4096
"""No more grants of a bundle are taken from others: one that writes more is broken or hostile."""

ADDRESSES_TO_TRY: Final = 8


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """A role that was set here and waits for the worker's signature; the fields are those of `Grant`."""

    request_id: int
    bundle_id: UUID
    creator: str | None
    subject: str
    role: str
    fence: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a peer shall be told of friendship; `number` becomes that of the signed record."""

    number: int
    peer_id: str
    kind: str
    subject: str
    note: str
    label: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer may be reached, who said so, and how often trying has failed since it worked last."""

    address: str
    source: str
    failures: int


async def creator(connection: Connection, bundle_id: UUID, told: str | None = None) -> str | None:
    """Give who made a bundle.

    Args:
        connection: to the database.
        bundle_id: the bundle.
        told: peer id that a member names; counts only when nothing is known yet.

    Returns:
        Its peer id; None when it is not known.
    """
    key = None if told is None else public_key_from_peer_id(told)
    found = await connection.value("SELECT peer_internal.authority($1, $2)", bundle_id, key)
    return None if found is None else peer_id_from_public_key(bytes(found))


async def grants(connection: Connection, bundle_id: UUID) -> list[SignedGrant]:
    """Give all grants of a bundle that are known here."""
    rows = await connection.fetch("SELECT record FROM peer_internal.grants($1)", bundle_id)
    return [read_grant(bytes(row["record"])) for row in rows]


async def store_grants(
    connection: Connection, bundle_id: UUID, told: Sequence[SignedGrant], told_by: str | None
) -> int:
    """Store verified grants; gives how many are new. `told_by` is the peer that they came from.

    Raises:
        IdentityError: there would be more than `GRANTS_LIMIT` (code `quota`), or one is of another bundle.
        What came before it is stored.
    """
    new = 0
    count = await connection.value(
        "SELECT count(*) FROM peer_internal.bundle_grant WHERE bundle_id = $1", bundle_id
    )
    for one in told:
        if one.grant.bundle_id != bundle_id:
            raise IdentityError("A grant is of another bundle.", code="bad_message")
        if told_by is not None and count + new >= GRANTS_LIMIT:
            raise IdentityError(f"A bundle has more than {GRANTS_LIMIT} grants.", code="quota")
        new += bool(
            await connection.value(
                "SELECT peer_internal.store_grant($1, $2, $3, $4, $5, $6)",
                bundle_id,
                one.digest,
                one.record,
                one.grant.issuer,
                one.grant.seq,
                told_by,
            )
        )
    return new


async def read_roster(connection: Connection, bundle_id: UUID) -> Roster:
    """Make members of what the known grants of a bundle say, and give it. Nothing without a creator."""
    while True:
        made_by = await creator(connection, bundle_id)
        if made_by is None:
            return Roster()
        known = await grants(connection, bundle_id)
        found = roster(made_by, known)
        if not known or await connection.value(
            "SELECT peer_internal.set_roster($1, $2, $3::text[], $4::text[], $5::bytea[], $6::bytea[])",
            bundle_id,
            len(known),
            list(found.roles),
            list(found.roles.values()),
            list(found.counted),
            list(found.fence),
        ):
            return found


async def grant_requests(connection: Connection) -> list[GrantRequest]:
    """Give the roles that wait for a signature, in order."""
    rows = await connection.fetch("SELECT * FROM peer_internal.open_grant_requests()")
    return [
        GrantRequest(
            row["request_id"],
            row["bundle_id"],
            None if row["creator"] is None else peer_id_from_public_key(bytes(row["creator"])),
            row["subject"],
            row["role"],
            tuple(bytes(one) for one in row["fence"]),
        )
        for row in rows
    ]


async def close_grant_request(connection: Connection, request_id: int) -> None:
    """A grant was signed, or cannot be."""
    await connection.value("SELECT peer_internal.close_grant_request($1)", request_id)


async def notices(connection: Connection) -> list[Notice]:
    """Give what peers shall be told of friendship, in order."""
    rows = await connection.fetch("SELECT * FROM peer_internal.friend_notices()")
    return [
        Notice(
            row["notice_id"],
            row["peer_id"],
            row["kind"],
            row["subject"] or "",
            row["note"] or "",
            row["label"] or "",
        )
        for row in rows
    ]


async def told(connection: Connection, number: int) -> None:
    """The peer has got a notice."""
    await connection.value("SELECT peer_internal.friend_told($1)", number)


async def hear(connection: Connection, notice: FriendNotice, digest: bytes, record: bytes) -> str:
    """Take a notice of friendship, verified; gives the event that it made, or why it changed nothing."""
    if notice.kind == "introduce":
        return str(
            await connection.value(
                "SELECT peer_internal.hear_introduction($1, $2, $3, $4, $5, $6)",
                notice.sender,
                notice.seq,
                notice.subject,
                notice.label,
                notice.note,
                record,
            )
        )
    return str(
        await connection.value(
            "SELECT peer_internal.hear_friend($1, $2, $3, $4, $5, $6)",
            notice.sender,
            notice.seq,
            digest,
            notice.kind,
            notice.label,
            notice.note,
        )
    )


async def store_peer_record(
    connection: Connection, read: PeerRecord, record: bytes, told_by: str | None
) -> str:
    """Take what a peer says of itself, verified; `told_by`: who has passed it on.

    Returns:
        'new', or 'known', 'replay' or 'equivocation': nothing changed.
    """
    return str(
        await connection.value(
            "SELECT peer_internal.store_peer_record($1, $2, $3, $4, $5::text[], $6)",
            read.peer_id,
            read.seq,
            record,
            read.label,
            list(read.addresses),
            told_by,
        )
    )


async def own_record(connection: Connection) -> tuple[int, bytes] | None:
    """Give the number and the record that this database last said of itself; None: it never did."""
    rows = await connection.fetch("SELECT * FROM peer_internal.own_record()")
    return (rows[0]["seq"], bytes(rows[0]["record"])) if rows else None


async def store_own_record(connection: Connection, peer_id: str, seq: int, record: bytes) -> None:
    """Remember what this database says of itself; it is no address to dial."""
    await connection.value(
        "SELECT peer_internal.store_peer_record($1, $2, $3, '', '{}', NULL)", peer_id, seq, record
    )


async def records_for(connection: Connection, peer_id: str, sought: Sequence[str] = ()) -> list[bytes]:
    """Give the signed records that a peer may be told: of members of common bundles, and of friends.

    Args:
        connection: to the database.
        peer_id: the peer; nothing is for one that is blocked.
        sought: peers that it seeks and that seek it; those that are no friends here are left out.
    """
    rows = await connection.fetch(
        "SELECT record FROM peer_internal.records_for($1, $2::text[])", peer_id, list(sought)
    )
    return [bytes(row["record"]) for row in rows]


async def note_address(
    connection: Connection, peer_id: str, address: str, source: str, told_by: str | None = None
) -> None:
    """Remember where a peer may be reached; `source` is 'seen', 'invite' or 'hub'."""
    await connection.value(
        "SELECT peer_internal.note_address($1, $2, $3, $4)", peer_id, address, source, told_by
    )


async def note_attempt(connection: Connection, peer_id: str, address: str, succeeded: bool) -> None:
    """Remember how trying an address went."""
    await connection.value("SELECT peer_internal.note_attempt($1, $2, $3)", peer_id, address, succeeded)


async def addresses_to_try(connection: Connection, peer_id: str) -> list[Address]:
    """Give where to try a peer, best first: entered by people, then what failed least and worked last."""
    rows = await connection.fetch(
        "SELECT * FROM peer_internal.addresses_to_try($1, $2)", peer_id, ADDRESSES_TO_TRY
    )
    return [Address(row["address"], row["source"], row["failures"]) for row in rows]
