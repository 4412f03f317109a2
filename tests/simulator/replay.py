"""Seeds that failed once: files, one for each, that are tried again every time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from .violation import Violation
from .world import Outcome, simulate

DIRECTORY = Path(__file__).parent / "seeds"
"""Each file `seed-<number>.txt` says what was wrong; it stays when that is mended."""


def failed_seeds() -> list[int]:
    return sorted(int(path.stem.removeprefix("seed-")) for path in DIRECTORY.glob("seed-*.txt"))


@cache
def outcome_of(seed: int) -> Outcome:
    """Run a seed once; one that fails becomes a file."""
    try:
        return simulate(seed)
    except Violation as violation:
        path = DIRECTORY / f"seed-{seed}.txt"
        if not path.exists():
            path.write_text(f"{violation}\n")
        raise
