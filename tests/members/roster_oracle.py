"""The roster, written down a second time from the prose of pgpeer.identity.roster, with sets and no haste."""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import cache

from pgpeer.identity.grant import SignedGrant

LADDER = ["removed", "reader", "writer", "admin"]


class RosterOracle:
    def __init__(self, creator: str, grants: Iterable[SignedGrant]) -> None:
        self.creator = creator
        self.all = {one.digest: one.grant for one in grants}
        self.level: dict[bytes, int] = {}
        while True:
            ready = {
                digest: 1 + max((self.level[seen] for seen in grant.seen), default=0)
                for digest, grant in self.all.items()
                if digest not in self.level and all(seen in self.level for seen in grant.seen)
            }
            if not ready:
                break
            self.level |= ready
        self.complete = frozenset(self.level)
        self.past = cache(self.past)  # type: ignore[method-assign]
        self.kind = cache(self.kind)  # type: ignore[method-assign]

    def past(self, digest: bytes) -> frozenset[bytes]:
        seen = self.all[digest].seen
        return frozenset(seen).union(*(self.past(one) for one in seen))

    def kind(self, digest: bytes) -> str | None:
        """Question 1."""
        grant, past = self.all[digest], self.past(digest)
        mine = [self.all[one].seq for one in past if self.all[one].issuer == grant.issuer]
        if grant.seq != max(mine, default=0) + 1:
            return None
        allowed_past = {one for one in past if self.kind(one)}
        role = self.role(grant.issuer, allowed_past)
        if role in (None, "removed"):
            return None
        spoken_of = {self.all[one].subject for one in allowed_past} | {self.creator}
        if grant.role == "successor":
            return "successor" if grant.subject not in spoken_of and grant.subject != grant.issuer else None
        if grant.subject == grant.issuer:
            return "leave" if LADDER.index(grant.role) < LADDER.index(role) else None
        if role == "admin":
            return "act"
        if role == "writer" and grant.role in ("reader", "writer") and grant.subject not in spoken_of:
            return "admission"
        return None

    def lineage(self, key: str, among: Set[bytes], below: tuple[str, ...] = ()) -> list[str] | None:
        if key in below:
            return None  # a ring of successors: nobody's key
        naming = sorted(
            one for one in among if self.all[one].subject == key and self.kind(one) == "successor"
        )
        if not naming:
            return [key]
        parent = self.all[naming[0]].issuer
        siblings = sorted(
            one for one in among if self.all[one].issuer == parent and self.kind(one) == "successor"
        )
        if siblings[0] != naming[0]:
            return None
        above = self.lineage(parent, among, (*below, key))
        return None if above is None else [key, *above]

    def role(self, key: str, among: Set[bytes]) -> str | None:
        if any(self.all[one].issuer == key and self.kind(one) == "successor" for one in among):
            return "removed"
        keys = self.lineage(key, among)
        if keys is None:
            return "removed"
        about = {one for one in among if self.all[one].subject in keys and self.kind(one) != "successor"}
        by_right = {one for one in about if self.kind(one) != "admission"}
        about = by_right or about
        latest = [one for one in about if not any(one in self.past(other) for other in about)]
        if latest:
            return LADDER[min(LADDER.index(self.all[one].role) for one in latest)]
        return "admin" if self.creator in keys else None

    def counted(self) -> set[bytes]:
        """Question 2."""
        allowed = {one for one in self.complete if self.kind(one)}

        def first(key: str) -> str:
            return (self.lineage(key, allowed) or [key])[-1]

        def seniority(one: bytes) -> tuple[int, int, bytes]:
            holder = first(self.all[one].issuer)
            if holder == self.creator:
                return (0, 0, b"")
            return min(
                (1, self.level[other], other)
                for other in allowed
                if self.kind(other) == "act"
                and self.all[other].subject == holder
                and self.all[other].role == "admin"
            )

        def need(one: bytes) -> int:
            return {"act": 3, "admission": 2, "leave": 1, "successor": 1}[str(self.kind(one))]

        def stands(one: bytes, counted: set[bytes]) -> bool:
            grant, holder = self.all[one], first(self.all[one].issuer)
            for other in allowed - {one}:
                if (
                    self.all[other].issuer == grant.issuer
                    and self.kind(other) == "successor"
                    and one not in self.past(other)
                ):
                    return False
            if holder != self.creator and not any(
                other in self.past(one)
                and self.all[other].subject == holder
                and self.all[other].role in LADDER[need(one) :]
                for other in counted
            ):
                return False
            if self.kind(one) == "leave":
                return True
            return not any(
                self.kind(other) == "act"
                and first(self.all[other].subject) == holder
                and first(self.all[other].issuer) != holder
                and self.all[other].role in LADDER[: need(one)]
                and other not in self.past(one)
                and one not in self.past(other)
                for other in counted
            )

        counted: set[bytes] = set()
        acts = sorted(
            (one for one in allowed if self.kind(one) == "act"),
            key=lambda one: (seniority(one), self.level[one], one),
        )
        others = sorted(allowed - set(acts), key=lambda one: (self.level[one], one))
        for one in (*acts, *others):
            if stands(one, counted):
                counted.add(one)
        return counted

    def roles(self) -> dict[str, str]:
        counted = self.counted()
        keys = {self.creator} | {self.all[one].subject for one in counted}
        return {key: self.role(key, counted) or "removed" for key in keys}
