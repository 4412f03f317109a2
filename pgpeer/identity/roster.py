"""The roster: who has which role in a bundle, as a function of the set of grants.

Everybody with the same grants has the same roster, in whatever order they came. The bundle's creator is an
admin from the beginning. Two questions are asked of every grant:

1. Was it *allowed*, judged by the grants that its issuer had seen and by nothing else? An admin gives any
   role to anybody. A writer admits a peer of which nothing was said before, as reader or writer. Everybody
   may lower its own role or leave, and name a successor: a new key in place of its own.
2. Does it *count*, now that all grants are known? Not when a senior admin took the role that it needs from
   its issuer at the same time (neither had seen the other): so nobody who was removed can give grants
   with an older date. Not either when the issuer's own role rests on grants that do not count, nor when the
   issuer's key had a successor that had not seen it. Seniority: the creator first, then admins by how
   early they became one (depth among the grants, then digest). Of two admins who remove each other at the
   same time the senior one stays.

A peer's role is what the last grants about it say; of several at the same time those of admins go before
admissions by writers, and the least role counts: removal wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from pgpeer.identity.grant import ROLES, SUCCESSOR, SignedGrant

_RANK: Final = {role: rank for rank, role in enumerate(ROLES)}
_ACT: Final = "act"
_ADMISSION: Final = "admission"
_LEAVE: Final = "leave"

Seniority = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Roster:
    """What a set of grants means.

    Attributes:
        roles: peer id → one of `ROLES`, of the creator and everybody a grant that counts is about.
        counted: digests of the grants that count.
        waiting: digests of the grants that have seen others which are not known here.
        heads: the newest known grants: what the next one has seen.
        fence: digests of commits that admins vouched for when they took the right to write from an author.
        equivocators: peer ids that gave two grants without having seen either in the other: a copied key.
    """

    roles: dict[str, str] = field(default_factory=dict)
    counted: frozenset[bytes] = frozenset()
    waiting: frozenset[bytes] = frozenset()
    heads: tuple[bytes, ...] = ()
    fence: frozenset[bytes] = frozenset()
    equivocators: frozenset[str] = frozenset()


def roster(creator: str, grants: Iterable[SignedGrant]) -> Roster:
    """Give the roster of one bundle.

    Args:
        creator: peer id of who made the bundle.
        grants: all that are known of this bundle, in any order, with verified signatures.
    """
    return _Reading(creator, grants).roster()


class _Reading:
    """One reading of a set of grants. Sets of grants are bit masks over their places in causal order."""

    def __init__(self, creator: str, grants: Iterable[SignedGrant]) -> None:
        self._creator = creator
        known = {one.digest: one for one in grants}
        self._grants: list[SignedGrant] = []
        self._place: dict[bytes, int] = {}
        self._past: list[int] = []  # what each has seen, directly or not
        self._level: list[int] = []
        self._arrange(known)
        self._waiting = frozenset(known) - set(self._place)
        self._kind: list[str | None] = []  # None: not allowed
        self._about: dict[str, list[int]] = {}
        self._by: dict[str, list[int]] = {}
        for place, one in enumerate(self._grants):
            self._kind.append(self._allowed(place))
            self._by.setdefault(one.grant.issuer, []).append(place)
            if self._kind[place]:
                self._about.setdefault(one.grant.subject, []).append(place)
        everything = (1 << len(self._grants)) - 1
        self._first: dict[str, str] = {}  # the key with which a member began
        self._keys: dict[str, list[str]] = {}  # and all that it had
        for key in {creator, *self._about, *self._by}:
            self._first[key] = (self._earlier_keys(key, everything) or [key])[-1]
            self._keys.setdefault(self._first[key], []).append(key)

    def roster(self) -> Roster:
        counted = self._counted()
        keys = {self._creator} | {self._grants[place].grant.subject for place in _places(counted)}
        fences = [self._grants[place].grant.fence for place in _places(counted) if self._kind[place] == _ACT]
        seen = {digest for one in self._grants for digest in one.grant.seen}
        return Roster(
            roles={key: self._role(key, counted, counted) or ROLES[0] for key in sorted(keys)},
            counted=frozenset(self._grants[place].digest for place in _places(counted)),
            waiting=self._waiting,
            heads=tuple(sorted(set(self._place) - seen)),
            fence=frozenset(digest for fence in fences for digest in fence),
            equivocators=frozenset(key for key, places in self._by.items() if not self._is_chain(places)),
        )

    def _arrange(self, known: dict[bytes, SignedGrant]) -> None:
        """Put grants after all that they have seen; those that have seen unknown ones are left out."""
        lacking = {digest: len(set(one.grant.seen)) for digest, one in known.items()}
        seers: dict[bytes, list[bytes]] = {}
        for digest, one in known.items():
            for seen in set(one.grant.seen):
                seers.setdefault(seen, []).append(digest)
        layer = sorted(digest for digest, count in lacking.items() if count == 0)
        while layer:
            following: list[bytes] = []
            for digest in layer:
                one = known[digest]
                before = [self._place[seen] for seen in one.grant.seen]
                past = 0
                for place in before:
                    past |= self._past[place] | 1 << place
                self._place[digest] = len(self._grants)
                self._grants.append(one)
                self._past.append(past)
                self._level.append(1 + max((self._level[place] for place in before), default=0))
                for seer in seers.get(digest, ()):
                    lacking[seer] -= 1
                    if lacking[seer] == 0:
                        following.append(seer)
            layer = sorted(following)

    # Question 1: allowed by what the issuer had seen.

    def _allowed(self, place: int) -> str | None:
        grant, past = self._grants[place].grant, self._past[place]
        own = [one for one in self._by.get(grant.issuer, ()) if past >> one & 1]
        if grant.seq != 1 + max((self._grants[one].grant.seq for one in own), default=0):
            return None
        role = self._role(grant.issuer, past, past)
        if role is None or role == ROLES[0]:
            return None
        is_new = grant.subject != self._creator and not any(
            past >> one & 1 for one in self._about.get(grant.subject, ())
        )
        if grant.role == SUCCESSOR:
            return SUCCESSOR if is_new and grant.subject != grant.issuer else None
        if grant.subject == grant.issuer:
            return _LEAVE if _RANK[grant.role] < _RANK[role] else None
        if role == "admin":
            return _ACT
        is_admission = role == "writer" and grant.role in ("reader", "writer") and is_new
        return _ADMISSION if is_admission else None

    def _role(self, key: str, among: int, successions: int) -> str | None:
        """The role of a key by some of the grants; None when they do not know it."""
        heirs = [one for one in self._by.get(key, ()) if self._kind_of(one) == SUCCESSOR]
        if any(successions >> one & 1 for one in heirs):
            return ROLES[0]
        keys = self._earlier_keys(key, successions)
        if keys is None:
            return ROLES[0]
        about = [
            one
            for each in keys
            for one in self._about.get(each, ())
            if among >> one & 1 and self._kind[one] != SUCCESSOR
        ]
        weighty = [one for one in about if self._kind[one] != _ADMISSION] or about
        overtaken = 0
        for one in weighty:
            overtaken |= self._past[one]
        last = [self._grants[one].grant.role for one in weighty if not overtaken >> one & 1]
        if last:
            return min(last, key=_RANK.__getitem__)
        return "admin" if self._creator in keys else None

    def _earlier_keys(self, key: str, among: int) -> list[str] | None:
        """A key and those that it succeeded; None when another key is the successor in its place."""
        keys = [key]
        while True:
            named = [
                one
                for one in self._about.get(keys[-1], ())
                if self._kind[one] == SUCCESSOR and among >> one & 1
            ]
            if not named:
                return keys
            choice = min(named, key=lambda one: self._grants[one].digest)
            issuer = self._grants[choice].grant.issuer
            rivals = [one for one in self._by[issuer] if self._kind_of(one) == SUCCESSOR and among >> one & 1]
            if min(rivals, key=lambda one: self._grants[one].digest) != choice or issuer in keys:
                return None
            keys.append(issuer)

    def _kind_of(self, place: int) -> str | None:
        return self._kind[place] if place < len(self._kind) else None

    # Question 2: counts among all.

    def _counted(self) -> int:
        counted = 0
        acts = [place for place, kind in enumerate(self._kind) if kind == _ACT]
        others = [place for place, kind in enumerate(self._kind) if kind and kind != _ACT]
        for place in sorted(acts, key=lambda one: (self._seniority(one), one)) + others:
            if self._has_basis(place, counted) and not self._is_void(place, counted):
                counted |= 1 << place
        return counted

    def _seniority(self, place: int) -> Seniority:
        """Of the issuer of an act: when its first key became an admin."""
        key = self._first[self._grants[place].grant.issuer]
        if key == self._creator:
            return (0, 0, b"")
        promotions = [
            (self._level[one], self._grants[one].digest)
            for one in self._about.get(key, ())
            if self._kind[one] == _ACT and self._grants[one].grant.role == "admin"
        ]
        return (1, *min(promotions)) if promotions else (2, 0, b"")

    def _needs(self, place: int) -> int:
        """The rank of the role that a grant needs of its issuer."""
        needed = {_ACT: "admin", _ADMISSION: "writer", _LEAVE: "reader", SUCCESSOR: "reader"}
        return _RANK[needed[self._kind[place] or _LEAVE]]

    def _has_basis(self, place: int, counted: int) -> bool:
        """Whether the issuer's role rests on grants that count, and its key was still its own."""
        grant = self._grants[place].grant
        past = self._past[place]
        for one in self._by[grant.issuer]:
            if self._kind[one] == SUCCESSOR and one != place and not self._past[one] >> place & 1:
                return False
        key = self._first[grant.issuer]
        if key == self._creator:
            return True
        return any(
            past >> one & 1 and counted >> one & 1 and self._rank_given(one) >= self._needs(place)
            for one in self._about.get(key, ())
        )

    def _rank_given(self, place: int) -> int:
        return _RANK.get(self._grants[place].grant.role, -1)

    def _is_void(self, place: int, counted: int) -> bool:
        """Whether an act that counts took the issuer's role at the same time."""
        if self._kind[place] == _LEAVE:
            return False
        issuer = self._first[self._grants[place].grant.issuer]
        return any(
            counted >> one & 1
            and self._kind[one] == _ACT
            and self._rank_given(one) < self._needs(place)
            and not self._past[place] >> one & 1
            and not self._past[one] >> place & 1
            and self._first[self._grants[one].grant.issuer] != issuer
            for key in self._keys[issuer]
            for one in self._about.get(key, ())
        )

    def _is_chain(self, places: list[int]) -> bool:
        return all(self._past[late] >> early & 1 for early, late in pairwise(places))


def _places(mask: int) -> Iterable[int]:
    """The places in a set."""
    while mask:
        least = mask & -mask
        yield least.bit_length() - 1
        mask ^= least
