"""How fast commits may follow each other: no faster than peers merge them.

A commit costs a merge about the same whether it holds one row or a hundred. As long as peers keep up, every
change becomes a commit at once. When they fall behind, commits come in longer intervals and what is written
meanwhile shares one: the idea of RFC 896 (Nagle), with acknowledged commits in the place of segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry

FREE_COMMITS: Final = 2
"""So many commits may be on their way without any pause."""

PAUSE_PER_COMMIT: Final = 0.01
LONGEST_PAUSE: Final = 0.25

STUCK_SECONDS: Final = 5.0
"""A peer that acknowledges nothing for so long holds a commit, or is gone: it is not waited for."""


@dataclass(slots=True)
class _Follower:
    """What a peer has acknowledged of our commits, and since when it owes the next acknowledgement."""

    epoch: int
    seq: int
    owes_since: float


class Pace:
    """The pace of one worker's own commits.

    Args:
        author: the public key of this worker.
        clock: seconds, monotonic.
    """

    def __init__(self, author: bytes, clock: Callable[[], float]) -> None:
        self._author = author
        self._clock = clock
        self._made: dict[UUID, tuple[int, int, float]] = {}
        self._followers: dict[tuple[UUID, str], _Follower] = {}

    def made(self, bundle_id: UUID, epoch: int, seq: int) -> None:
        """A commit was made here."""
        now = self._clock()
        _, last_seq, _ = self._made.get(bundle_id, (epoch, 0, now))
        for (bundle, _), follower in self._followers.items():
            if bundle == bundle_id and follower.seq >= last_seq:
                follower.owes_since = now
        self._made[bundle_id] = (epoch, seq, now)

    def acknowledged(self, bundle_id: UUID, peer_id: str, entries: Sequence[VectorEntry]) -> None:
        """A peer has merged this much of a bundle."""
        epoch, seq = max(
            ((entry.epoch, entry.seq) for entry in entries if entry.author == self._author), default=(0, 0)
        )
        known = self._followers.get((bundle_id, peer_id))
        if known is None or (known.epoch, known.seq) != (epoch, seq):
            self._followers[bundle_id, peer_id] = _Follower(epoch, seq, self._clock())

    def gone(self, peer_id: str) -> None:
        """The link to a peer is over."""
        for key in [key for key in self._followers if key[1] == peer_id]:
            del self._followers[key]

    def pause_seconds(self, bundle_id: UUID) -> float:
        """How long the next commit of a bundle should still wait; 0 for not at all."""
        if bundle_id not in self._made:
            return 0.0
        epoch, seq, made_at = self._made[bundle_id]
        now = self._clock()
        behind = max(
            (
                seq - follower.seq
                for (bundle, _), follower in self._followers.items()
                if bundle == bundle_id
                and follower.epoch == epoch
                and now - follower.owes_since < STUCK_SECONDS
            ),
            default=0,
        )
        if behind <= FREE_COMMITS:
            return 0.0
        return max(0.0, made_at + min(LONGEST_PAUSE, PAUSE_PER_COMMIT * behind) - now)
