"""Which links are kept: each peer decides alone, and together they are connected, within the limit, and at rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.worker.budget import (
    HOLD_SECONDS,
    IDLE_SECONDS,
    REST_SECONDS,
    VISIT_SECONDS,
    Linked,
    Need,
    Wanted,
    admission,
    attempts,
    bundles_of,
    excess,
    ring_order,
)

NOW = 10_000.0
LONG_AGO = 0.0


def link(peer_id: str, need: Need = Need.KNOWN, *, age: float = 1000.0, idle: float = 1000.0) -> Linked:
    return Linked(peer_id, need, NOW - age, NOW - idle)


def wants(peer_id: str, need: Need = Need.KNOWN, *, away: float = 1.0, has_work: bool = False) -> Wanted:
    return Wanted(peer_id, need, NOW - away, has_work=has_work)


def victim(links: list[Linked], newcomer: Wanted, *, may_visit: bool = False) -> str | None:
    found = admission(links, newcomer, len(links), NOW, may_visit=may_visit)
    assert found.is_admitted or found.victim is None
    return found.victim


def test_below_the_limit_everybody_is_let_in_and_nobody_gives_way() -> None:
    for need in Need:
        found = admission([link("a")], wants("b", need), 2, NOW, may_visit=False)
        assert (found.is_admitted, found.victim) == (True, None)


def test_a_program_takes_the_place_of_the_least_useful_link_even_of_a_new_one() -> None:
    links = [
        link("neighbour", Need.NEIGHBOUR),
        link("used", idle=5.0),
        link("unused", idle=50.0),
        link("program", Need.PROGRAM),
    ]
    assert victim(links, wants("x", Need.PROGRAM)) == "unused"
    assert victim([link("new", Need.NEIGHBOUR, age=0.1, idle=0.0)], wants("x", Need.PROGRAM)) == "new"
    assert victim([link("new", age=0.1, idle=0.0)], wants("x", Need.JOIN)) == "new"


@pytest.mark.parametrize("need", list(Need))
def test_what_programs_use_gives_way_to_nobody(need: Need) -> None:
    newcomer = wants("x", need, away=100_000.0, has_work=True)
    assert not admission([link("p", Need.PROGRAM)], newcomer, 1, NOW, may_visit=True).is_admitted


def test_a_neighbour_takes_the_place_of_others_when_they_have_had_their_time() -> None:
    assert victim([link("busy", idle=0.0)], wants("x", Need.NEIGHBOUR)) == "busy"
    assert victim([link("new", age=HOLD_SECONDS - 1)], wants("x", Need.NEIGHBOUR)) is None


def test_neighbours_take_turns_sooner_when_there_are_commits_for_one() -> None:
    links = [link("a", Need.NEIGHBOUR, idle=30.0), link("b", Need.NEIGHBOUR, idle=90.0)]
    assert victim(links, wants("x", Need.NEIGHBOUR, away=REST_SECONDS - 1)) is None
    assert victim(links, wants("x", Need.NEIGHBOUR, away=REST_SECONDS)) == "b"
    assert victim(links, wants("x", Need.NEIGHBOUR, away=HOLD_SECONDS - 1, has_work=True)) is None
    assert victim(links, wants("x", Need.NEIGHBOUR, away=HOLD_SECONDS, has_work=True)) == "b"
    busy = [link("a", Need.NEIGHBOUR, idle=IDLE_SECONDS - 1)]
    assert victim(busy, wants("x", Need.NEIGHBOUR, away=1000.0, has_work=True)) is None


def test_of_equals_nobody_gives_way_but_for_a_visit_now_and_then() -> None:
    links = [link("a", Need.NEIGHBOUR), link("b")]
    newcomer = wants("x", away=VISIT_SECONDS)
    assert victim(links, newcomer) is None
    assert victim(links, newcomer, may_visit=True) == "b"
    assert victim(links, wants("x", away=VISIT_SECONDS - 1), may_visit=True) is None
    assert victim([link("n", Need.NEIGHBOUR)], newcomer, may_visit=True) == "n"
    found = admission(links, newcomer, 2, NOW, may_visit=True)
    assert found.is_visit


def test_strangers_take_one_place_however_many_they_are() -> None:
    links = [link("a", Need.NEIGHBOUR), link("b", Need.NEIGHBOUR, idle=1500.0)]
    assert victim(links, wants("guest", Need.GUEST)) == "b"
    links = [link("a", Need.NEIGHBOUR), link("guest", Need.GUEST)]
    assert not admission(links, wants("second", Need.GUEST), 2, NOW, may_visit=True).is_admitted
    assert not admission(
        [link("a", idle=0.0)], wants("guest", Need.GUEST), 1, NOW, may_visit=True
    ).is_admitted


def test_when_the_limit_is_lowered_the_least_useful_links_end() -> None:
    links = [
        link("p", Need.PROGRAM),
        link("n", Need.NEIGHBOUR),
        link("old", idle=99.0),
        link("young", idle=9.0),
    ]
    assert excess(links, 4) == []
    assert excess(links, 2) == ["old", "young"]
    assert excess(links, 1) == ["old", "young", "n"]


def test_a_peer_that_does_not_answer_takes_nobodys_turn() -> None:
    dead = Wanted("dead", Need.NEIGHBOUR, LONG_AGO, is_failing=True)
    assert attempts([link("a")], [dead, wants("b")], 2, NOW, may_visit=False) == {"dead", "b"}


def test_a_peer_that_is_near_in_one_bundle_is_near() -> None:
    order = ring_order("c", bundles_of({"a": {1}, "b": {1}, "d": {1}, "e": {1}, "z": {2}}))
    assert order == {"a": (False, 2), "b": (False, 1), "d": (False, 1), "e": (False, 2), "z": (False, 1)}
    assert ring_order("a", [{"b", "c", "d", "e", "f", "g"}])["d"] == (True, 3)


names = st.sets(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=14)


@given(members=names)
def test_who_is_a_neighbour_sees_a_neighbour(members: set[str]) -> None:
    for one in members:
        for other, order in ring_order(one, [members - {one}]).items():
            assert ring_order(other, [members - {other}])[one] == order


@dataclass
class Town:
    """Peers that decide alone, each by what it sees; in a step each makes the attempts that it may."""

    members: set[str]
    budgets: dict[str, int]
    now: float = NOW
    links: dict[frozenset[str], float] = field(default_factory=dict)
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    made: int = 0

    def of(self, one: str) -> list[str]:
        return [other for pair in self.links if one in pair for other in pair - {one}]

    def __post_init__(self) -> None:
        self.order = {one: ring_order(one, [self.members - {one}]) for one in self.members}

    def need(self, one: str, other: str) -> Need:
        return Need.NEIGHBOUR if self.order[one][other] == (False, 1) else Need.KNOWN

    def linked(self, one: str) -> list[Linked]:
        return [
            Linked(other, self.need(one, other), at, at)
            for other in self.of(one)
            for at in [self.links[frozenset({one, other})]]
        ]

    def wanted(self, one: str, other: str) -> Wanted:
        left_at = self.left.get((one, other), NOW)
        return Wanted(other, self.need(one, other), left_at, self.order[one][other])

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        for one in sorted(self.members):
            others = [self.wanted(one, other) for other in self.members - {one} if other not in self.of(one)]
            chosen = attempts(self.linked(one), others, self.budgets[one], self.now, may_visit=False)
            for other in sorted(chosen):
                self.connect(one, other)

    def connect(self, one: str, other: str) -> None:
        if frozenset({one, other}) in self.links:
            return
        found = [
            admission(self.linked(a), self.wanted(a, b), self.budgets[a], self.now, may_visit=False)
            for a, b in ((one, other), (other, one))
        ]
        if not all(each.is_admitted for each in found):
            return
        for end, each in zip((one, other), found, strict=True):
            if each.victim is not None:
                self.links.pop(frozenset({end, each.victim}), None)
                self.left[end, each.victim] = self.left[each.victim, end] = self.now
        self.links[frozenset({one, other})] = self.now
        self.made += 1

    def reached(self, start: str) -> set[str]:
        found, fresh = {start}, [start]
        while fresh:
            fresh = [other for one in fresh for other in self.of(one) if other not in found]
            found |= set(fresh)
        return found

    def lines(self) -> Iterator[str]:
        yield from (" - ".join(sorted(pair)) for pair in self.links)


@settings(max_examples=40, deadline=None)
@given(members=names, data=st.data())
def test_whoever_comes_in_whatever_order_all_are_connected_within_their_limits_and_at_rest(
    members: set[str], data: st.DataObject
) -> None:
    budgets = {one: data.draw(st.integers(2, 4), label=f"budget of {one}") for one in sorted(members)}
    town = Town(members, budgets)
    for one, other in data.draw(st.lists(st.tuples(*[st.sampled_from(sorted(members))] * 2), max_size=20)):
        if one != other and len(town.of(one)) < budgets[one] and len(town.of(other)) < budgets[other]:
            town.connect(one, other)
    for _ in range(int(4 * HOLD_SECONDS)):
        town.step()
        assert all(len(town.of(one)) <= budgets[one] for one in members)
    assert town.reached(min(members)) == members, list(town.lines())
    made = town.made
    assert made <= 20 + len(members) * 5
    for _ in range(40):
        town.step(REST_SECONDS / 10)
    assert town.made == made, "links that come and go"


@pytest.mark.parametrize(("has_ring", "is_whole"), [(True, True), (False, False)])
def test_a_closed_triangle_and_a_pair_become_one_whole_because_of_the_ring(
    monkeypatch: pytest.MonkeyPatch, has_ring: bool, is_whole: bool
) -> None:
    if not has_ring:
        monkeypatch.setattr(Town, "need", lambda *_: Need.KNOWN)
    members = set("abcde")
    town = Town(members, dict.fromkeys(members, 2))
    for one, other in ("ab", "bc", "ac", "de"):
        town.connect(one, other)
    for _ in range(40):
        town.step()
    assert (town.reached("a") == members) is is_whole, list(town.lines())
