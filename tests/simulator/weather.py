"""How much programs write and how much goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Weather:
    """What a simulation of programs chooses from; times in seconds.

    Attributes:
        messages: numbers of them that a side may write on a connection.
        leaving: the part of connections that somebody ends.
        faults: numbers of them.
        cuts, stalls, crashes: how often a fault is which.
        length: from and to, until the last fault.
    """

    messages: Sequence[int]
    leaving: float
    faults: Sequence[int]
    cuts: int
    stalls: int
    crashes: int
    length: tuple[float, float]


CHANGING = Weather((0, 1, 10, 60), 0.4, (0, 2, 10, 25), 2, 1, 1, (5.0, 60.0))
STORM = Weather((0, 0, 1, 5), 0.9, (10, 25, 60), 1, 0, 2, (3.0, 20.0))
"""Little to say and many crashes: nearly all that happens are beginnings and ends."""
