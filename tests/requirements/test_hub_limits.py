"""The hub's limits at the numbers that it ships with; floods over sockets are in tests/hub/test_hostile_clients.py."""

from __future__ import annotations

import pytest

from pgpeer.errors import CODES
from pgpeer.hub.admission import Admission
from pgpeer.hub.rates import REQUEST, SIGNAL, Rates
from pgpeer.signaling.limits import Buckets, HubLimits

LIMITS = HubLimits()


def test_strangers_are_limited_by_address_and_in_all_and_make_room_when_they_leave() -> None:
    doors = Admission(LIMITS)
    assert all(doors.enter("flood") for _ in range(32))
    assert not doors.enter("flood")
    others = [f"192.0.2.{number}" for number in range(224)]
    assert all(doors.enter(address) for address in others)
    assert not doors.enter("late")  # 256 in all
    doors.leave("flood")
    assert doors.enter("late")
    assert not doors.enter("flood")
    for address in ("late", *others, *["flood"] * 31):
        doors.leave(address)
    assert all(doors.enter("flood") for _ in range(32))


@pytest.mark.parametrize(
    ("what", "burst", "per_minute", "of_address"),
    [(SIGNAL, 60, 120, 300), (REQUEST, 120, 120, 600)],
)
def test_a_peer_that_floods_waits_and_others_at_its_address_do_not(
    what: str, burst: int, per_minute: int, of_address: int
) -> None:
    rates = Rates(LIMITS)
    assert [rates.refusal(what, "flood", "here", 0.0) for _ in range(burst)] == [None] * burst
    refusal = rates.refusal(what, "flood", "here", 0.0)
    assert refusal is not None
    assert refusal.code == "rate_limited"
    assert refusal.code in CODES
    assert refusal.retryable
    assert "Try again in" in refusal.remedy
    assert rates.refusal(what, "other", "here", 0.0) is None
    taken = sum(rates.refusal(what, "flood", "here", second / 10) is None for second in range(600))
    assert taken == pytest.approx(per_minute, abs=1)
    # many keys at one address share its allowance
    crowd = Rates(LIMITS)
    passed = sum(crowd.refusal(what, f"peer {number}", "one", 0.0) is None for number in range(1000))
    assert passed == of_address
    assert crowd.refusal(what, "peer 0", "another", 0.0) is None


def test_what_the_hub_remembers_of_callers_is_bounded() -> None:
    buckets = Buckets(2.0, 60)
    for number in range(3 * Buckets.KEPT):
        buckets.of(f"peer {number}", number * 0.01).take(number * 0.01)
    assert len(buckets) <= Buckets.KEPT + 1
