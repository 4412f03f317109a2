"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The amounts of one run.

    Attributes:
        repetitions: how often everything is measured; the median counts.
        rows: rows of one bulk statement, seal or merge.
        clone_rows: rows of the table that is cloned.
        samples: single rows timed in each repetition.
        stream: single-row transactions sent in a row in each repetition.
        turns: how often the four clients take their turn on each table.
        slice_seconds: how long one turn of the four clients takes.
        idle_seconds: how long the idle workers are watched.
    """

    repetitions: int = 3
    rows: int = 100_000
    clone_rows: int = 200_000
    samples: int = 200
    stream: int = 3_000
    turns: int = 9
    slice_seconds: int = 2
    idle_seconds: int = 60


QUICK = Sizes(
    repetitions=2,
    rows=3_000,
    clone_rows=5_000,
    samples=10,
    stream=100,
    turns=2,
    slice_seconds=1,
    idle_seconds=2,
)
"""About a minute: to see that everything works, not to quote."""
