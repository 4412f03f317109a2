"""Places for links: given while there are some, given back, and never promised twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

from pgpeer.store.trust import Trust
from pgpeer.worker.budget import HOLD_SECONDS, IDLE_SECONDS, VISIT_SECONDS
from pgpeer.worker.places import OVERLOADED, Places

BUNDLE = UUID(int=1)


class Town:
    """One worker `m` in a bundle with others, with a clock in the test's hand."""

    def __init__(self, members: str, budget: int) -> None:
        self.now = 1000.0
        self.programs: set[str] = set()
        self.unreachable: set[str] = set()
        shared = {one: {BUNDLE: "writer"} for one in members.split()}
        view = SimpleNamespace(
            members=shared,
            trust=Trust(link_count_max=budget),
            shared_with=lambda one: shared.get(one, {}),
            joins_at=lambda _: [],
        )
        self.office: Any = SimpleNamespace(
            view=view,
            key=SimpleNamespace(peer_id="m"),
            postman=SimpleNamespace(wanted=lambda: self.programs),
            exchanges={},
            news={},
            wants=lambda one: one in shared,
        )
        self.wanted = set(shared)

    async def open(self) -> Places:
        places = Places(self.office, lambda one: one not in self.unreachable, lambda _: False)
        places._clock = lambda: self.now
        places._began = places._visited_at = self.now
        return places


async def test_below_the_limit_everybody_may_come_and_is_tried() -> None:
    town = Town("a b c", 3)
    places = await town.open()
    places.look_again(town.wanted)
    assert all(places.allows(one) and places.refusal(one) is None for one in "abc")
    for one in "abc":
        assert places.take(one).victim is None
    assert places.refusal("a") is None  # another path to who has a place
    assert places.refusal("stranger") == OVERLOADED
    town.now += IDLE_SECONDS
    assert places.refusal("stranger") is None


async def test_neighbours_are_tried_and_others_refused_when_there_is_no_place() -> None:
    town = Town("a k n z", 2)  # m stands between k and n
    places = await town.open()
    places.look_again(town.wanted)
    assert {one for one in town.wanted if places.allows(one)} == {"k", "n"}
    places.take("k")
    places.take("n")
    town.now += 1000.0
    assert places.refusal("a") is None  # a visit: the first in a long time
    assert places.take("a").is_visit
    assert places.refusal("z") == OVERLOADED
    town.now += VISIT_SECONDS
    assert places.refusal("z") is None


async def test_a_neighbour_that_is_away_is_no_neighbour() -> None:
    town = Town("a k n z", 2)
    town.unreachable = {"n"}
    places = await town.open()
    places.look_again(town.wanted)
    assert {one for one in town.wanted if places.allows(one)} == {"k", "z"}


async def test_a_place_that_is_promised_is_given_once_and_comes_back() -> None:
    town = Town("a k n z", 2)
    places = await town.open()
    places.take("a")
    places.take("z")
    assert places.refusal("k") == OVERLOADED  # both have just come
    town.now += HOLD_SECONDS
    assert places.take("k").victim in ("a", "z")
    assert places.take("n").victim in ("a", "z")
    assert places.is_leaving("a")
    assert places.is_leaving("z")
    assert places.refusal("a") == OVERLOADED  # though its link is not over yet
    places.free("a")
    places.free("z")
    assert not places.is_leaving("a")
    town.programs.add("a")
    assert places.take("a").victim == "k"
    town.programs.add("z")
    assert places.take("z").victim == "n"
    town.programs.add("k")
    assert not places.take("k").is_admitted


async def test_a_newer_link_with_the_same_peer_shares_its_place() -> None:
    town = Town("a b", 2)
    places = await town.open()
    for _ in range(2):
        assert places.take("a").is_admitted
    places.take("b")
    places.free("a")
    assert places.refusal("c") == OVERLOADED
    places.free("a")
    assert places.refusal("c") is None


async def test_what_is_too_much_after_the_limit_was_lowered_is_told_once() -> None:
    town = Town("a k n z", 4)
    places = await town.open()
    for one in ("a", "k", "n", "z"):
        places.take(one)
        town.now += 1.0
    assert places.excess() == []
    town.office.view.trust = Trust(link_count_max=2)
    assert places.excess() == ["a", "z"]
    assert places.excess() == []
