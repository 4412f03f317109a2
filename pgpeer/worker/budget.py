"""Which links are kept when more peers are known than links are allowed: a pure policy, without a clock.

Nobody coordinates the peers, so the rule must make a connected whole of what each decides alone. The members
of a bundle stand on a ring, in the order of their ids, and each wants links with its two neighbours most.
Both sides of a link see each other as neighbours, so with two links each everybody is connected, and what
one writes reaches all because commits are passed on. Links beyond these are a matter of room.

Who sees other members than the others do (they are at different hubs, or a network lies between) may be
refused by its neighbours. Therefore a peer that was not linked for long is visited now and then, in the place
of an idle link.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HOLD_SECONDS: Final = 10.0
"""So long a new link keeps its place, but from those in whom programs or joins have an interest."""

IDLE_SECONDS: Final = 2.0
"""A link that carried nothing for so long is idle."""

REST_SECONDS: Final = 60.0
"""So long a neighbour waits before it takes the place of another one, unless there are commits for it."""

VISIT_SECONDS: Final = 300.0
"""So often a peer that is no neighbour, and was not linked for as long, gets the place of an idle link."""


class Need(IntEnum):
    """What a link to a peer is for, least first."""

    GUEST = 0
    """A stranger, perhaps with an invite."""
    KNOWN = 1
    """A friend, or a member that others are nearer to."""
    NEIGHBOUR = 2
    """The one before or after on the ring of a bundle."""
    JOIN = 3
    """It has to let this database into a bundle."""
    PROGRAM = 4
    """A program has a connection with it, or wants one."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A link that there is.

    Attributes:
        peer_id: whose.
        need: what for.
        since: when it began; seconds of a monotonic clock, like all times here.
        used_at: when it last carried something of use.
    """

    peer_id: str
    need: Need
    since: float
    used_at: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """A peer that has no link.

    Attributes:
        peer_id: whose.
        need: what a link would be for.
        left_at: when the last one ended; without any: when the worker started.
        order: of peers with one need the least comes first.
        has_work: whether there are commits since then that it may lack.
        is_failing: whether trying has failed of late.
    """

    peer_id: str
    need: Need
    left_at: float
    order: tuple[bool, int] = (False, 0)
    has_work: bool = False
    is_failing: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a peer gets a place.

    Attributes:
        is_admitted: whether it does.
        victim: the peer whose link gives way; None: there is room.
        is_visit: whether nothing but its long absence speaks for it.
    """

    is_admitted: bool
    victim: str | None = None
    is_visit: bool = False


REFUSED: Final = Admission(False)


def ring_order(own: str, bundles: Iterable[Collection[str]]) -> dict[str, tuple[bool, int]]:
    """Give how near the members of bundles are, by the ring on which they are nearest: least is nearest.

    The neighbours have (False, 1). Of the others those at a distance of a power of two come first, so that
    what is passed on needs few steps. The order is the same on both sides of a link.

    Args:
        own: this peer.
        bundles: the other members of each bundle that can be reached now.
    """
    found: dict[str, tuple[bool, int]] = {}
    for members in bundles:
        ring = sorted({own, *members})
        here, size = ring.index(own), len(ring)
        for place, peer_id in enumerate(ring):
            distance = min((place - here) % size, (here - place) % size)
            order = (distance & (distance - 1) != 0, distance)
            if place != here and (peer_id not in found or order < found[peer_id]):
                found[peer_id] = order
    return found


def admission(
    links: Sequence[Linked], newcomer: Wanted, budget: int, now: float, *, may_visit: bool
) -> Admission:
    """Decide whether a peer gets a link, and who gives way.

    Args:
        links: those that there are; none of the newcomer.
        newcomer: who wants one, or is wanted.
        budget: so many links may there be.
        now: the time.
        may_visit: whether the last visit was long ago.
    """
    if len(links) < budget:
        return Admission(True)
    if newcomer.need is Need.GUEST and any(one.need is Need.GUEST for one in links):
        return REFUSED  # strangers take one place from others, however many they are
    for is_visit in (False, True):
        if is_visit and not (may_visit and _is_overdue(newcomer, now)):
            break
        found = [one for one in links if _gives_way(one, newcomer, now, is_visit=is_visit)]
        if found:
            return Admission(True, _least(found).peer_id, is_visit)
    return REFUSED


def attempts(
    links: Sequence[Linked], wanted: Iterable[Wanted], budget: int, now: float, *, may_visit: bool
) -> set[str]:
    """Give the peers that are to be tried now, for each of which there is a place; see `admission`."""
    present = list(links)
    chosen: set[str] = set()
    for one in sorted(wanted, key=_urgency):
        found = admission(present, one, budget, now, may_visit=may_visit)
        if not found.is_admitted:
            continue
        chosen.add(one.peer_id)
        if one.is_failing:
            continue  # tried now and then, and nobody waits for that
        may_visit = may_visit and not found.is_visit
        present = [other for other in present if other.peer_id != found.victim]
        present.append(Linked(one.peer_id, one.need, now, now))
    return chosen


def excess(links: Sequence[Linked], budget: int) -> list[str]:
    """Give the links that must end because the budget was lowered, least useful first."""
    ordered = sorted(links, key=lambda one: (one.need, one.used_at, one.peer_id))
    return [one.peer_id for one in ordered[: max(0, len(links) - budget)]]


def bundles_of(members: Mapping[str, Collection[object]]) -> list[set[str]]:
    """Turn peer → bundles into the members of each bundle."""
    found: dict[object, set[str]] = {}
    for peer_id, shared in members.items():
        for bundle in shared:
            found.setdefault(bundle, set()).add(peer_id)
    return list(found.values())


def _gives_way(link: Linked, newcomer: Wanted, now: float, *, is_visit: bool) -> bool:
    is_idle = now - link.used_at >= IDLE_SECONDS
    is_held = now - link.since < HOLD_SECONDS
    if newcomer.need >= Need.JOIN:
        return link.need < newcomer.need
    if link.need >= Need.JOIN:
        return False
    if newcomer.need is Need.GUEST:
        return is_idle
    if is_visit:
        return is_idle and not is_held
    if newcomer.need is Need.NEIGHBOUR and link.need is Need.NEIGHBOUR:
        patience = HOLD_SECONDS if newcomer.has_work else REST_SECONDS
        return is_idle and not is_held and now - newcomer.left_at >= patience
    return link.need < newcomer.need and not is_held


def _is_overdue(newcomer: Wanted, now: float) -> bool:
    return newcomer.need is Need.KNOWN and now - newcomer.left_at >= VISIT_SECONDS


def _least(links: Iterable[Linked]) -> Linked:
    return min(links, key=lambda one: (one.need, one.used_at, one.peer_id))


def _urgency(one: Wanted) -> tuple[object, ...]:
    waits = one.left_at if one.need is Need.NEIGHBOUR else 0.0
    return (one.is_failing, -one.need, not one.has_work, waits, one.order, one.peer_id)
