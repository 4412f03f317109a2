"""A grant: a member's signed word that another peer has a role in a bundle.

Grants are never changed or taken back, only followed by others. Each names the grants that its issuer had
seen, so that everybody can tell what came after what without trusting a clock; the issuer numbers its own
grants of a bundle without gaps. What a set of grants means is the business of `roster`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.errors import IdentityError
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.record import (
    digests_field,
    number_field,
    open_record,
    peer_field,
    record_digest,
    sign_record,
    text_field,
)

GRANT_DOMAIN: Final = "grant"

ROLES: Final = ("removed", "reader", "writer", "admin")
"""What a peer can be in a bundle, least first; of two words at the same time the lesser counts."""

SUCCESSOR: Final = "successor"
"""In place of a role: the subject is the issuer's new key, and the old one ends."""

SEEN_LIMIT: Final = 64
FENCE_LIMIT: Final = 64
MEMBERS: Final = frozenset({"bundle", "fence", "from", "role", "seen", "seq", "subject"})


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant.

    Attributes:
        bundle_id: the bundle.
        issuer: peer id of who says it.
        subject: peer id of whom it is about.
        role: one of `ROLES`, or `SUCCESSOR`.
        seq: the issuer's number of it in this bundle, from 1.
        seen: digests of the newest grants that the issuer had seen, its own last one among what they saw.
        fence: digests of the last commits of the subject that the issuer has merged and vouches for, when
            the subject may no longer write.
    """

    bundle_id: UUID
    issuer: str
    subject: str
    role: str
    seq: int
    seen: tuple[bytes, ...] = ()
    fence: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedGrant:
    """A grant whose signature is right, with its digest (its name) and its record (what travels)."""

    grant: Grant
    digest: bytes
    record: bytes


def sign_grant(
    key: PrivateKey,
    bundle_id: UUID,
    subject: str,
    role: str,
    seq: int,
    seen: Sequence[bytes] = (),
    fence: Sequence[bytes] = (),
) -> SignedGrant:
    """Make a grant in the name of the key.

    Raises:
        IdentityError: a field is outside its limits.
    """
    record = sign_record(
        key,
        GRANT_DOMAIN,
        {
            "bundle": str(bundle_id),
            "fence": [one.hex() for one in sorted(set(fence))],
            "role": role,
            "seen": [one.hex() for one in sorted(set(seen))],
            "seq": seq,
            "subject": subject,
        },
    )
    return read_grant(record)


def read_grant(record: bytes) -> SignedGrant:
    """Check a record and give the grant in it.

    Raises:
        IdentityError: it is malformed, or not signed by its issuer.
    """
    document = open_record(record, GRANT_DOMAIN)
    if set(document) != MEMBERS:
        raise _refused("it has not exactly the members of a grant")
    role = text_field(document, "role", GRANT_DOMAIN, 16)
    if role not in ROLES and role != SUCCESSOR:
        raise _refused(f"it gives the unknown role '{role}'")
    name = text_field(document, "bundle", GRANT_DOMAIN, 36)
    try:
        bundle_id = UUID(name)
    except ValueError as error:
        raise _refused("it names no bundle") from error
    if str(bundle_id) != name:
        raise _refused("its bundle is not in its one spelling")
    grant = Grant(
        bundle_id=bundle_id,
        issuer=peer_field(document, "from", GRANT_DOMAIN),
        subject=peer_field(document, "subject", GRANT_DOMAIN),
        role=role,
        seq=number_field(document, "seq", GRANT_DOMAIN, 1),
        seen=digests_field(document, "seen", GRANT_DOMAIN, SEEN_LIMIT),
        fence=digests_field(document, "fence", GRANT_DOMAIN, FENCE_LIMIT),
    )
    return SignedGrant(grant, record_digest(record), record)


def _refused(reason: str) -> IdentityError:
    return IdentityError(f"A grant was refused: {reason}.", code="bad_message")
