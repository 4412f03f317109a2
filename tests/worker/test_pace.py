"""Commits follow each other no faster than peers merge them."""

from __future__ import annotations

from uuid import UUID

import pytest

from pgpeer.commit.vector import VectorEntry
from pgpeer.worker.pace import FREE_COMMITS, LONGEST_PAUSE, PAUSE_PER_COMMIT, STUCK_SECONDS, Pace

BUNDLE, OTHER = UUID(int=1), UUID(int=2)
ME, EPOCH = b"m" * 32, 7


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    made = Pace(ME, clock)
    acknowledge(made, "bob", 0)
    return made


def acknowledge(pace: Pace, peer: str, seq: int, epoch: int = EPOCH) -> None:
    entries = [VectorEntry(ME, epoch, seq, b"h" * 32), VectorEntry(b"x" * 32, EPOCH, 99, b"h" * 32)]
    pace.acknowledged(BUNDLE, peer, entries)


def test_as_long_as_peers_keep_up_there_is_no_pause(pace: Pace) -> None:
    for seq in range(1, 50):
        pace.made(BUNDLE, EPOCH, seq)
        if seq % FREE_COMMITS == 0:
            acknowledge(pace, "bob", seq)
        assert pace.pause_seconds(BUNDLE) == 0


def test_the_pause_grows_with_what_is_not_acknowledged_up_to_its_limit(pace: Pace, clock: Clock) -> None:
    for seq in range(1, 100):
        pace.made(BUNDLE, EPOCH, seq)
        wanted = min(LONGEST_PAUSE, PAUSE_PER_COMMIT * seq) if seq > FREE_COMMITS else 0
        assert pace.pause_seconds(BUNDLE) == pytest.approx(wanted)
    clock.now += 0.1
    assert pace.pause_seconds(BUNDLE) == pytest.approx(LONGEST_PAUSE - 0.1)
    clock.now += 1
    assert pace.pause_seconds(BUNDLE) == 0


def test_an_acknowledgement_ends_the_pause(pace: Pace) -> None:
    pace.made(BUNDLE, EPOCH, 10)
    assert pace.pause_seconds(BUNDLE) > 0
    acknowledge(pace, "bob", 10)
    assert pace.pause_seconds(BUNDLE) == 0


def test_the_slowest_peer_counts_until_it_is_gone(pace: Pace) -> None:
    acknowledge(pace, "carol", 0)
    pace.made(BUNDLE, EPOCH, 10)
    acknowledge(pace, "bob", 10)
    assert pace.pause_seconds(BUNDLE) > 0
    pace.gone("carol")
    assert pace.pause_seconds(BUNDLE) == 0


def test_a_peer_that_is_stuck_is_not_waited_for_until_it_moves(pace: Pace, clock: Clock) -> None:
    seq = 0
    while clock.now < 100 + STUCK_SECONDS:
        seq += 1
        pace.made(BUNDLE, EPOCH, seq)
        clock.now += 0.1
    pace.made(BUNDLE, EPOCH, seq + 1)
    assert pace.pause_seconds(BUNDLE) == 0
    acknowledge(pace, "bob", 5)
    assert pace.pause_seconds(BUNDLE) > 0


def test_a_long_quiet_time_is_no_reason_to_call_a_peer_stuck(pace: Pace, clock: Clock) -> None:
    pace.made(BUNDLE, EPOCH, 1)
    acknowledge(pace, "bob", 1)
    clock.now += 1000
    for seq in range(2, 10):
        pace.made(BUNDLE, EPOCH, seq)
    assert pace.pause_seconds(BUNDLE) > 0


def test_other_bundles_and_other_epochs_do_not_count(pace: Pace) -> None:
    pace.made(OTHER, EPOCH, 50)
    assert pace.pause_seconds(OTHER) == 0
    acknowledge(pace, "bob", 3, EPOCH - 1)
    pace.made(BUNDLE, EPOCH, 50)
    assert pace.pause_seconds(BUNDLE) == 0
