"""Grants handed to a database as its worker does it, step by step."""

from __future__ import annotations

from collections.abc import Iterable

from merge.replica import Replica

from pgpeer.identity.grant import SignedGrant, read_grant
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.identity.roster import Roster, roster


def tell(replica: Replica, creator: str, grants: Iterable[SignedGrant]) -> Roster:
    """Store grants, read all that are known, and set the roster."""
    key = public_key_from_peer_id(creator)
    replica.value("SELECT peer_internal.authority(%s, %b)", replica.bundle_id, key)
    for one in grants:
        replica.value(
            "SELECT peer_internal.store_grant(%s, %b, %b, %s, %s, NULL)",
            replica.bundle_id,
            one.digest,
            one.record,
            one.grant.issuer,
            one.grant.seq,
        )
    return read(replica, creator)


def read(replica: Replica, creator: str) -> Roster:
    """Read the grants that are known to a database into its members."""
    records = replica.execute("SELECT record FROM peer_internal.grants(%s)", replica.bundle_id)
    found = roster(creator, [read_grant(bytes(record)) for (record,) in records])
    assert replica.value(
        "SELECT peer_internal.set_roster(%s, %s, %s::text[], %s::text[], %b::bytea[], %b::bytea[])",
        replica.bundle_id,
        len(records),
        list(found.roles),
        list(found.roles.values()),
        list(found.counted),
        list(found.fence),
    )
    return found
