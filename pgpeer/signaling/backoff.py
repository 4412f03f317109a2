"""How long to wait before the next attempt to reach a hub, a peer or a database."""

from __future__ import annotations

from typing import Final

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0


def next_delay(
    attempt: int,
    random_unit: float,
    first: float = FIRST_DELAY_SECONDS,
    longest: float = LONGEST_DELAY_SECONDS,
) -> float:
    """Give the seconds to wait after failed attempt number `attempt` (from 0).

    The ceiling doubles with each attempt up to `longest`; the delay lies between half the ceiling and the
    ceiling, so that a thousand workers whose hub restarts do not come back in one moment.

    Args:
        attempt: how many attempts failed before this one.
        random_unit: a random number, 0 ≤ random_unit < 1.
        first: the first ceiling in seconds.
        longest: the highest ceiling in seconds.
    """
    ceiling = min(longest, first * 2.0 ** min(max(attempt, 0), 60))
    return ceiling * (0.5 + random_unit / 2)
