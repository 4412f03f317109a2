"""A seed that fails is written down, and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import replay
from .planted_bugs import LosesCredit
from .violation import Violation
from .world import simulate


def test_a_failing_seed_becomes_a_file_that_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(replay, "DIRECTORY", tmp_path)
    monkeypatch.setattr(replay, "simulate", lambda seed: simulate(seed, LosesCredit))
    failing = next(seed for seed in range(100_000, 100_040) if not _passes(seed))
    assert replay.failed_seeds() == [failing]
    assert (tmp_path / f"seed-{failing}.txt").read_text().startswith(("credit:", "progress:"))


def _passes(seed: int) -> bool:
    try:
        replay.outcome_of(seed)
    except Violation:
        return False
    return True
