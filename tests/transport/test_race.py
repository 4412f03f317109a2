"""The plan: which ways are tried when."""

import pytest

from pgpeer.transport.race import (
    FIRST_DELAY_SECONDS,
    GRACE_SECONDS,
    LONGEST_DELAY_SECONDS,
    STEADY_SECONDS,
    Race,
)


def race(*, leads: bool = True) -> Race:
    return Race(frozenset({"relay", "webrtc", "tls"}), 0.0, leads=leads)


def test_all_ways_begin_at_once_and_each_only_once() -> None:
    plan = race()
    assert plan.next_deadline() == 0.0
    assert plan.due(0.0) == ["tls", "webrtc", "relay"]
    assert plan.due(0.0) == []
    assert plan.next_deadline() is None


def test_who_does_not_lead_waits_for_the_grace() -> None:
    plan = race(leads=False)
    assert plan.due(GRACE_SECONDS - 0.01) == []
    assert plan.next_deadline() == GRACE_SECONDS
    assert plan.due(GRACE_SECONDS) == ["tls", "webrtc", "relay"]


def test_only_better_ways_are_tried_beside_an_open_path() -> None:
    plan = race(leads=False)
    plan.opened("webrtc", 1, 0.0)
    assert plan.due(100.0) == ["tls"]
    assert not plan.is_wanted("webrtc")
    assert not plan.is_wanted("relay")


def test_a_way_that_fails_is_tried_ever_more_seldom_up_to_a_minute() -> None:
    plan = race()
    plan.due(0.0)
    plan.opened("relay", 1, 0.0)
    now, delays = 0.0, []
    for _ in range(10):
        plan.failed("webrtc", now, 0.5)
        deadline = plan.next_deadline()
        assert deadline is not None
        delays.append(deadline - now)
        now = deadline
        assert plan.due(now) == ["webrtc"]
    assert delays[:4] == [FIRST_DELAY_SECONDS * 2**step for step in range(4)]
    assert delays[-1] == LONGEST_DELAY_SECONDS


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (1.0, 1.25)])
def test_tries_are_spread(chance: float, factor: float) -> None:
    plan = race()
    plan.due(0.0)
    plan.failed("relay", 0.0, chance)
    assert plan.next_deadline() == FIRST_DELAY_SECONDS * factor


def test_a_path_that_held_is_tried_again_at_once_and_so_is_what_is_worse() -> None:
    plan = race()
    plan.due(0.0)
    plan.opened("webrtc", 1, 0.0)
    plan.failed("relay", 0.0, 0.5)
    plan.failed("tls", 0.0, 0.5)
    plan.lost(1, "webrtc", STEADY_SECONDS, 0.5)
    assert plan.due(STEADY_SECONDS) == ["tls", "webrtc", "relay"]


def test_a_path_that_breaks_as_soon_as_it_opens_is_not_tried_in_a_circle() -> None:
    plan = Race(frozenset({"relay"}), 0.0, leads=True)
    now, tries = 0.0, 0
    while now < 300.0:
        if plan.due(now):
            tries += 1
            plan.opened("relay", tries, now)
            plan.lost(tries, "relay", now + 0.1, 0.5)
        now += 0.5
    assert 6 <= tries <= 12


def test_a_doubted_path_lets_the_worse_ways_begin_and_a_trusted_one_stops_that() -> None:
    plan = race()
    plan.due(0.0)
    plan.failed("tls", 0.0, 1.0)
    plan.failed("relay", 0.0, 1.0)
    plan.opened("webrtc", 1, 0.0)
    assert plan.due(1.0) == []
    plan.doubted(1, 1.0)
    assert plan.is_wanted("relay")
    plan.trusted(1, "webrtc")
    assert not plan.is_wanted("relay")


def test_a_surpassed_path_leaves_the_plan_alone() -> None:
    plan = race()
    plan.due(0.0)
    plan.opened("relay", 1, 0.0)
    plan.opened("tls", 2, 0.0)
    plan.closed(1)
    assert plan.next_deadline() is None


def test_a_hurry_forgets_all_waiting() -> None:
    plan = race()
    plan.due(0.0)
    for _ in range(8):
        plan.failed("relay", 0.0, 0.5)
    plan.hurry(1.0)
    assert plan.due(1.0) == ["relay"]
    plan.failed("relay", 1.0, 0.5)
    assert plan.next_deadline() == 1.0 + FIRST_DELAY_SECONDS


def test_a_way_that_becomes_known_later_is_tried_at_once_and_only_if_it_is_better() -> None:
    plan = Race(frozenset({"webrtc"}), 0.0, leads=False)
    plan.opened("webrtc", 1, 0.0)
    assert plan.next_deadline() is None
    plan.know(frozenset({"relay", "webrtc", "tls"}), 5.0)
    assert plan.next_deadline() == 5.0
    assert plan.due(5.0) == ["tls"]
    plan.know(frozenset({"tls"}), 6.0)
    assert plan.due(6.0) == []
