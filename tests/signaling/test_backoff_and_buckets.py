from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgpeer.signaling.backoff import next_delay
from pgpeer.signaling.limits import TokenBucket


@given(st.integers(-5, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_half_the_ceiling_and_the_ceiling(attempt: int, random_unit: float) -> None:
    assert 0.25 <= next_delay(attempt, random_unit) <= 30.0


def test_the_ceiling_doubles_until_the_longest_delay() -> None:
    ceilings = [next_delay(attempt, 1.0) for attempt in range(10)]
    assert ceilings[:3] == [0.5, 1.0, 2.0]
    assert all(left <= right for left, right in pairwise(ceilings))
    assert ceilings[-1] == 30.0
    assert next_delay(3, 0.0, first=1.0, longest=5.0) == 2.5


@given(st.lists(st.floats(0, 3600), max_size=300))
def test_a_bucket_never_lets_more_through_than_burst_and_rate(gaps: list[float]) -> None:
    now, taken = 0.0, 0
    bucket = TokenBucket(rate=2.0, burst=5, now=now)
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
    assert taken <= 5 + 2.0 * now + 1e-6


def test_an_empty_bucket_says_when_the_next_token_comes() -> None:
    bucket = TokenBucket(rate=2.0, burst=1, now=0.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.0)
    assert bucket.seconds_until_token() == 0.5
    assert not bucket.is_full(0.4)
    assert bucket.is_full(0.5)
    assert bucket.take(0.5)


def test_a_clock_that_goes_back_fills_no_bucket() -> None:
    bucket = TokenBucket(rate=1.0, burst=1, now=100.0)
    assert bucket.take(100.0)
    assert not bucket.take(0.0)
    assert not bucket.take(100.5)
