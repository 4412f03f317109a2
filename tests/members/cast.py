"""Peers that give grants, each from what it has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from uuid import UUID

from pgpeer.identity.grant import SignedGrant, sign_grant
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.roster import Roster, roster

BUNDLE = UUID(int=7)


@cache
def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


def peer(name: str) -> str:
    return key_of(name).peer_id


class Cast:
    """A bundle made by ann, and what everybody says about it."""

    def __init__(self, creator: str = "ann", bundle_id: UUID = BUNDLE) -> None:
        self.creator = creator
        self.bundle_id = bundle_id
        self.said: dict[bytes, SignedGrant] = {}

    def say(
        self,
        issuer: str,
        subject: str,
        role: str,
        seen: Iterable[SignedGrant] | None = None,
        fence: Iterable[bytes] = (),
    ) -> SignedGrant:
        """One grant by somebody who has seen these grants and all before them; None: all there are."""
        known = self.closure(self.said.values() if seen is None else seen)
        own = [one.grant.seq for one in known if one.grant.issuer == peer(issuer)]
        heads = {one.digest for one in known} - {digest for one in known for digest in one.grant.seen}
        made = sign_grant(
            key_of(issuer),
            self.bundle_id,
            peer(subject),
            role,
            1 + max(own, default=0),
            sorted(heads),
            tuple(fence),
        )
        self.said[made.digest] = made
        return made

    def closure(self, grants: Iterable[SignedGrant]) -> list[SignedGrant]:
        found: dict[bytes, SignedGrant] = {}
        pending = list(grants)
        while pending:
            one = pending.pop()
            if one.digest not in found:
                found[one.digest] = one
                pending += [self.said[seen] for seen in one.grant.seen]
        return list(found.values())

    def roster(self) -> Roster:
        return roster(peer(self.creator), self.said.values())

    def role(self, name: str) -> str | None:
        return self.roster().roles.get(peer(name))
