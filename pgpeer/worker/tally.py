"""Counts failures, and says which are told one by one: a flood of them is told once a minute."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from pgpeer.store.events import FailureCount

WINDOW_SECONDS: Final = 60.0
TOLD_PER_PEER: Final = 10
"""So many failures of one kind with one peer are told in a window."""

TOLD_IN_ALL: Final = 120
"""So many are told in a window, whoever is concerned."""

SUMS_LIMIT: Final = 32
"""So many sums of what was not told are told in a window."""

PEERS_LIMIT: Final = 4096
"""Beyond so many peers in a window, all others are one without a name."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """Failures of one kind with one peer that were counted and not told."""

    kind: str
    peer_id: str
    count: int


class Tally:
    """The failures of a worker; all times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._told: Counter[tuple[str, str]] = Counter()
        self._withheld: Counter[tuple[str, str]] = Counter()
        self._told_in_all = 0
        self._began = 0.0

    def count(self, kind: str, peer_id: str, phase: str, code: str, now: float) -> bool:
        """Count a failure, and give whether it should be told."""
        if not self._told:
            self._began = now
        if (kind, peer_id) not in self._told and len(self._told) >= PEERS_LIMIT:
            peer_id = ""
        self._counts[kind, peer_id, phase, code] += 1
        self._told[kind, peer_id] += 1
        if self._told[kind, peer_id] <= TOLD_PER_PEER and self._told_in_all < TOLD_IN_ALL:
            self._told_in_all += 1
            return True
        self._withheld[kind, peer_id] += 1
        return False

    def take(self) -> list[FailureCount]:
        """Give what was counted since the last call."""
        counts, self._counts = self._counts, Counter()
        return [FailureCount(*key, count) for key, count in counts.items()]

    def due(self) -> float | None:
        """Give when `end_window` has something to do; None for never."""
        return self._began + WINDOW_SECONDS if self._told else None

    def end_window(self, now: float) -> list[Withheld]:
        """Begin a new window when one has passed, and give what was withheld in it, largest sums first."""
        due = self.due()
        if due is None or now < due:
            return []
        withheld, self._withheld = self._withheld, Counter()
        self._told.clear()
        self._told_in_all = 0
        largest = withheld.most_common(SUMS_LIMIT)
        return [Withheld(kind, peer_id, count) for (kind, peer_id), count in largest]
