"""The simulator finds what it is there to find: each planted bug is met within a few seeds."""

from __future__ import annotations

import pytest

from pgpeer.protocol.session import Session

from . import planted_bugs as bugs
from .violation import Violation
from .world import simulate

SEEDS = 40

FOUND_AS: dict[type[Session], set[str]] = {
    bugs.AcknowledgesOnArrival: {"durable"},
    bugs.LosesCredit: {"credit", "progress"},
    bugs.GrantsTwice: {"honest", "credit"},
    bugs.SendsWithoutCredit: {"honest", "credit"},
    bugs.WaitsForHalfTheCredit: {"progress"},
    bugs.ClaimsOneCommitTooMany: {"causal", "progress"},
    bugs.ClaimsOneSectionTooMany: {"progress", "order"},
    bugs.TakesEveryDigestAsItsOwn: {"durable", "causal", "progress"},
    bugs.LastComesFirst: {"order", "causal"},
    bugs.SkipsASection: {"order", "progress"},
    bugs.HandsOutTwice: {"order", "bounded"},
    bugs.NeverGivesUp: {"progress"},
    bugs.IsImpatient: {"alive"},
    bugs.UnpacksTheBeginning: {"order"},
    bugs.AsksAgainAndAgain: {"progress"},
}


def first_violation(session: type[Session]) -> Violation:
    for seed in range(SEEDS):
        try:
            simulate(seed, session)
        except Violation as violation:
            return violation
    pytest.fail(f"{SEEDS} seeds did not show that {session.__name__} {session.__doc__}")


@pytest.mark.parametrize("session", FOUND_AS, ids=lambda session: session.__name__)
def test_a_planted_bug_is_found(session: type[Session]) -> None:
    assert first_violation(session).promise in FOUND_AS[session]
