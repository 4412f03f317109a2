"""Every phase of a connection becomes slow, is told so, and then fails: on a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from channel.pair import ID, Pair, Side, opened
from pgpeer.channel import events
from pgpeer.channel.limits import Timing

TIMING = Timing(slow=3, connect=20, answer=30, link=60, stall_slow=30, stall=180)


def no_link() -> Pair:
    pair = Pair(Side(TIMING), Side(TIMING))
    pair.ann.connect()
    return pair


def no_answer() -> Pair:
    pair = Pair(Side(TIMING), Side(TIMING)).up()
    pair.ann.connect()
    assert pair.ann.machine.next_message(0) is not None  # the request, lost
    return pair


def broken_link() -> Pair:
    pair = opened(TIMING)
    pair.down()
    return pair


def no_resumption() -> Pair:
    pair = opened(TIMING)
    pair.ann.machine.link_up(0)
    return pair


def no_acknowledgement() -> Pair:
    pair = opened(TIMING)
    pair.ann.send("a")
    assert pair.ann.machine.next_message(0) is not None
    return pair


def full_inbox() -> Pair:
    pair = opened(TIMING)
    pair.bob.room = 0
    pair.ann.send("a")
    pair.run()
    pair.ann.send("b")
    pair.run()
    return pair


def no_farewell() -> Pair:
    pair = opened(TIMING)
    pair.ann.disconnect()
    assert pair.ann.machine.next_message(0) is not None
    return pair


def farewell_without_link() -> Pair:
    pair = broken_link()
    pair.ann.disconnect()
    return pair


PHASES: list[tuple[Callable[[], Pair], str, float, float, str]] = [
    (no_link, "signalling", 3, 20, "timeout"),
    (no_answer, "hello", 3, 20, "timeout"),
    (broken_link, "signalling", 3, 60, "timeout"),
    (no_resumption, "hello", 3, 30, "timeout"),
    (no_acknowledgement, "transfer", 3, 30, "timeout"),
    (full_inbox, "transfer", 30, 180, "target_overloaded"),
    (no_farewell, "transfer", 3, 30, "timeout"),
    (farewell_without_link, "signalling", 3, 60, "timeout"),
]


@pytest.mark.parametrize(
    ("arrange", "phase", "slow", "fail", "code"), PHASES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_phase_is_slow_and_then_fails(
    arrange: Callable[[], Pair], phase: str, slow: float, fail: float, code: str
) -> None:
    side = arrange().ann
    side.work(0)
    side.told.clear()
    assert side.machine.next_deadline() == slow
    side.machine.tick(slow - 0.01)
    side.work(slow - 0.01)
    assert side.told == []
    side.machine.tick(slow)
    side.work(slow)
    (told,) = side.told
    assert isinstance(told, events.ConnectionSlow)
    assert (told.connection_id, told.phase) == (ID, phase)
    assert side.machine.next_deadline() == fail
    side.machine.tick(fail - 0.01)
    side.work(fail)
    assert side.closed() is None
    side.machine.tick(fail)
    side.work(fail)
    end = side.stored[ID].closed
    assert end is not None
    assert (end.reason, end.code, end.phase, end.retryable) == ("connection-error", code, phase, True)
    assert side.machine.next_deadline() is None


def test_a_slow_connection_that_goes_on_says_so() -> None:
    pair = broken_link()
    pair.tick(3)
    pair.up(4).run(4)
    assert pair.ann.told[-1] == events.ConnectionRecovered(ID, "signalling")
    assert pair.ann.machine.next_deadline() is None
    pair.ann.send("a", now=5)
    pair.run(5)
    assert pair.bob.stored[ID].received == ["a"]


def test_progress_begins_the_wait_anew() -> None:
    pair = opened(TIMING)
    pair.ann.send("a", "b")
    first, _ = pair.ann.machine.next_message(0), pair.ann.machine.next_message(0)
    assert first is not None
    pair.bob.machine.receive(first, 0)
    pair.bob.work(0)
    acknowledgement = pair.bob.machine.next_message(2)
    assert acknowledgement is not None
    pair.ann.machine.receive(acknowledgement, 2)
    assert pair.ann.machine.next_deadline() == 5


def test_an_idle_connection_waits_for_nothing() -> None:
    pair = opened(TIMING)
    pair.ann.send("a")
    pair.run()
    assert pair.ann.machine.next_deadline() is None
    assert pair.bob.machine.next_deadline() is None
    pair.tick(1e9)
    assert pair.ann.closed() is None


def test_a_clock_that_jumps_over_the_first_time_out_goes_straight_to_the_second() -> None:
    pair = no_acknowledgement()
    pair.ann.machine.tick(1000)
    pair.ann.work(1000)
    assert pair.ann.closed() == ("connection-error", "timeout")


def test_a_failure_is_told_to_the_other_side() -> None:
    pair = no_acknowledgement()
    pair.ann.machine.tick(1000)
    pair.run(1000)
    assert pair.bob.closed() == ("connection-error", "timeout")
