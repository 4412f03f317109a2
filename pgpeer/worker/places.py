"""The links that `peer.config.link_count_max` allows, and who has them: applies the policy of `budget`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from pgpeer.worker.budget import (
    REFUSED,
    VISIT_SECONDS,
    Admission,
    Linked,
    Need,
    Wanted,
    admission,
    attempts,
    bundles_of,
    excess,
    ring_order,
)
from pgpeer.worker.office import Office

OVERLOADED: Final = "target_overloaded"
"""The code with which a link ends or is refused for want of a place. Another attempt can succeed later."""

GIVES_WAY: Final = "This link gives way to another one: peer.config.link_count_max allows no more."


@dataclass(slots=True)
class Place:
    """One peer's.

    Attributes:
        since: when it was taken.
        links: how many links hold it; two while one takes the place of the other.
        is_leaving: whether its links are being closed for somebody else.
    """

    since: float
    links: int = 1
    is_leaving: bool = False


class Places:
    """Who has a link, and who may get one.

    Args:
        office: whose view says how many links there may be.
        has_way: whether a peer can be tried at all.
        is_failing: whether trying a peer has failed of late.
    """

    def __init__(
        self, office: Office, has_way: Callable[[str], bool], is_failing: Callable[[str], bool]
    ) -> None:
        self._office = office
        self._has_way = has_way
        self._is_failing = is_failing
        self._clock = asyncio.get_running_loop().time
        self._began = self._visited_at = self._clock()
        self._places: dict[str, Place] = {}
        self._left_at: dict[str, float] = {}
        self._chosen: set[str] | None = None

    def look_again(self, wanted: Collection[str]) -> None:
        """Something has changed: choose anew whom to try, of the peers that links are wanted to."""
        self._left_at = {one: at for one, at in self._left_at.items() if one in wanted}
        possible = {one for one in wanted if one in self._places or self._has_way(one)}
        if len(possible | self._places.keys()) <= self._budget:
            self._chosen = None
            return
        order = self._ring(possible)
        now = self._clock()
        links = self._links(order, now)
        others = [self._wanted(one, order) for one in possible if one not in self._places]
        self._chosen = attempts(links, others, self._budget, now, may_visit=self._may_visit(now))

    def allows(self, peer_id: str) -> bool:
        """Whether a peer without a link may be tried now."""
        return self._chosen is None or peer_id in self._chosen

    def refusal(self, peer_id: str) -> str | None:
        """Tell why a peer that comes may have no link; None: it may."""
        return None if self._admission(peer_id).is_admitted else OVERLOADED

    def take(self, peer_id: str) -> Admission:
        """Give a place to a peer whose link is open; the link of the victim, if there is one, must be ended.

        A place that was given must be given back by `free`.
        """
        present = self._places.get(peer_id)
        found = self._admission(peer_id)
        if not found.is_admitted:
            return found
        if present is not None:
            present.links += 1
            present.is_leaving = False
        else:
            now = self._clock()
            self._places[peer_id] = Place(now)
            if found.victim is not None:
                self._places[found.victim].is_leaving = True
            if found.is_visit:
                self._visited_at = now
        return found

    def is_leaving(self, peer_id: str) -> bool:
        """Whether the link with a peer is being ended here for the sake of another one."""
        return peer_id in self._places and self._places[peer_id].is_leaving

    def free(self, peer_id: str) -> None:
        """A link with a peer is over."""
        place = self._places[peer_id]
        place.links -= 1
        if not place.links:
            del self._places[peer_id]
            self._left_at[peer_id] = self._clock()

    def excess(self) -> list[str]:
        """Give the peers whose links must end because the limit was lowered."""
        if len(self._places) <= self._budget:
            return []
        found = excess(self._links(self._ring(()), self._clock()), self._budget)
        for peer_id in found:
            self._places[peer_id].is_leaving = True
        return found

    @property
    def _budget(self) -> int:
        return self._office.view.trust.link_count_max

    def _may_visit(self, now: float) -> bool:
        return now - self._visited_at >= VISIT_SECONDS

    def _admission(self, peer_id: str) -> Admission:
        present = self._places.get(peer_id)
        if present is not None and not present.is_leaving:
            return Admission(True)
        if sum(not one.is_leaving for one in self._places.values()) < self._budget:
            return Admission(True)
        if present is not None:
            return REFUSED
        order = self._ring({peer_id})
        now = self._clock()
        links = self._links(order, now)
        newcomer = self._wanted(peer_id, order)
        return admission(links, newcomer, self._budget, now, may_visit=self._may_visit(now))

    def _ring(self, possible: Collection[str]) -> dict[str, tuple[bool, int]]:
        """The order of the members that there are links with, or could be."""
        view = self._office.view
        alive = {
            one
            for one in view.members
            if one in self._places or one in possible or (self._has_way(one) and not self._is_failing(one))
        }
        return ring_order(self._office.key.peer_id, bundles_of({one: view.shared_with(one) for one in alive}))

    def _need(self, peer_id: str, order: dict[str, tuple[bool, int]]) -> Need:
        if peer_id in self._office.postman.wanted():
            return Need.PROGRAM
        if self._office.view.joins_at(peer_id):
            return Need.JOIN
        if order.get(peer_id) == (False, 1):
            return Need.NEIGHBOUR
        return Need.KNOWN if peer_id in order or self._office.wants(peer_id) else Need.GUEST

    def _links(self, order: dict[str, tuple[bool, int]], now: float) -> list[Linked]:
        found = []
        for peer_id, place in self._places.items():
            if place.is_leaving:
                continue
            exchange = self._office.exchanges.get(peer_id)
            used_at = place.since
            if exchange is not None:
                used_at = now if exchange.buffered else exchange.used_at
            found.append(Linked(peer_id, self._need(peer_id, order), place.since, used_at))
        return found

    def _wanted(self, peer_id: str, order: dict[str, tuple[bool, int]]) -> Wanted:
        left_at = self._left_at.get(peer_id, self._began)
        shared = self._office.view.shared_with(peer_id)
        return Wanted(
            peer_id,
            self._need(peer_id, order),
            left_at,
            order.get(peer_id, (True, 0)),
            has_work=any(self._office.news.get(one, 0.0) > left_at for one in shared),
            is_failing=self._is_failing(peer_id),
        )
