"""The database's side of a new key: the old one names it as its successor in every bundle."""

from __future__ import annotations

from typing import Final

from pgpeer.cli.database import Database
from pgpeer.errors import IdentityError
from pgpeer.identity.grant import SEEN_LIMIT, SUCCESSOR, SignedGrant, read_grant, sign_grant
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.peer_id import peer_id_from_public_key
from pgpeer.identity.roster import Roster, roster

_BUNDLES: Final = """
    SELECT r.bundle_id, encode(r.creator, 'hex') AS creator
      FROM peer_internal.roster AS r WHERE r.is_enforced ORDER BY r.bundle_id
"""
_GRANTS: Final = """
    SELECT encode(g.record, 'hex') AS record FROM peer_internal.grants(%(bundle)s::uuid) AS g
"""
_STORE: Final = """
    SELECT peer_internal.store_grant(%(bundle)s::uuid, decode(%(digest)s, 'hex'), decode(%(record)s, 'hex'),
                                     %(issuer)s, %(seq)s, NULL)
"""
_SET: Final = """
    SELECT peer_internal.set_roster(%(bundle)s::uuid, %(count)s, %(peers)s::text[], %(roles)s::text[],
                                    %(counted)s::bytea[], %(fence)s::bytea[])
"""
_DEAF: Final = """
    SELECT b.name FROM peer_internal.bundle AS b
     WHERE EXISTS (SELECT FROM peer.member AS m
                    WHERE m.bundle = b.name AND m.state = 'active' AND m.peer_id <> peer.identity())
       AND NOT EXISTS (SELECT FROM peer.member AS m JOIN peer.connection AS c USING (peer_id)
                        WHERE m.bundle = b.name AND m.state = 'active' AND c.kind = 'link')
     ORDER BY b.name
"""
LISTENING: Final = """
    SELECT count(*) FROM peer.connection AS c
     WHERE c.kind = 'link'
       AND EXISTS (SELECT FROM peer.member AS m WHERE m.peer_id = c.peer_id AND m.state = 'active')
"""


def deaf_bundles(database: Database) -> list[str]:
    """The bundles of which no other member is linked now, though there are some."""
    return [str(row["name"]) for row in database.rows(_DEAF)]


def is_announced(database: Database, old: PrivateKey, new: PrivateKey) -> bool:
    """Whether the old key has named the new one in every bundle where it has a role."""
    with database.transaction():
        return all(
            present.roles.get(old.peer_id) in (None, "removed")
            or any(one.grant.role == SUCCESSOR and one.grant.subject == new.peer_id for one in known)
            for _, present, known in _bundles(database)
        )


def announce(database: Database, old: PrivateKey, new: PrivateKey) -> int:
    """Let the old key name the new one in every bundle where it has a role; gives in how many.

    The worker, if one runs, tells the other members. All or nothing; repeating it changes nothing.

    Raises:
        IdentityError: the old key has named another successor already.
    """
    count = 0
    with database.transaction():
        for bundle, present, known in _bundles(database):
            own = [one for one in known if one.grant.issuer == old.peer_id]
            named = [one.grant.subject for one in own if one.grant.role == SUCCESSOR]
            if named and new.peer_id not in named:
                raise IdentityError(
                    f"This key has already named the successor {named[0]}.",
                    remedy="Put back the file FILE.next that belongs to it, and run the command again.",
                )
            if named or present.roles.get(old.peer_id) in (None, "removed"):
                continue
            seq = 1 + max((one.grant.seq for one in own), default=0)
            last = [one.digest for one in own if one.grant.seq == seq - 1]
            seen = [*last, *(one for one in present.heads if one not in last)][:SEEN_LIMIT]
            made = sign_grant(old, known[0].grant.bundle_id, new.peer_id, SUCCESSOR, seq, seen)
            database.value(
                _STORE,
                {
                    "bundle": bundle,
                    "digest": made.digest.hex(),
                    "record": made.record.hex(),
                    "issuer": old.peer_id,
                    "seq": seq,
                },
            )
            count += 1
        for bundle, present, known in _bundles(database):
            database.value(
                _SET,
                {
                    "bundle": bundle,
                    "count": len(known),
                    "peers": list(present.roles),
                    "roles": list(present.roles.values()),
                    "counted": list(present.counted),
                    "fence": list(present.fence),
                },
            )
        database.value("SELECT pg_catalog.pg_notify('pgpeer_config', '')")
    return count


def _bundles(database: Database) -> list[tuple[str, Roster, list[SignedGrant]]]:
    """The bundles with grants: id, roster, grants; locked until the transaction ends."""
    found = []
    database.value("SELECT count(*) FROM (SELECT FROM peer_internal.roster FOR UPDATE) AS x")
    for row in database.rows(_BUNDLES):
        bundle = str(row["bundle_id"])
        known = [
            read_grant(bytes.fromhex(one["record"])) for one in database.rows(_GRANTS, {"bundle": bundle})
        ]
        creator = peer_id_from_public_key(bytes.fromhex(row["creator"]))
        found.append((bundle, roster(creator, known), known))
    return found
