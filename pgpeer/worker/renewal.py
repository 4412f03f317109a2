"""What tells, when a worker begins, that numbers of the present epoch may have been given to commits already.

A number that is signed twice is a fork of the author's history (merge rule 15). A database cannot know by
itself what it has lost: the ledger of its key tells, whether that ledger is whole, and where it is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from pgpeer.store.state import Standing


class Ledger(Protocol):
    """What has been signed, by bundle and epoch."""

    def last(self, bundle_id: UUID, epoch: int) -> tuple[int, bytes] | None:
        """Give the highest recorded (seq, digest), or None."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Why a new epoch has to begin, as `peer.event` tells it."""

    code: str
    detail: str
    hint: str


FORK: Final = Renewal(
    "ledger_fork",
    "This key has signed more than this database knows: it was restored from a backup.",
    "Nothing is to be done: what was lost comes back from peers that have it.",
)
MOVED: Final = Renewal(
    "moved",
    "This database is served from another machine or address: it may be a copy.",
    "Nothing is to be done, unless the original goes on as well: then give one of the two an identity of its "
    "own, with pgpeer init --identity NEWFILE.",
)
MISSING: Final = Renewal(
    "ledger_missing",
    "This database has commits that were signed with this key, and the signature ledger beside the identity "
    "file does not hold them: it is missing, an older one, or that of another machine.",
    "Nothing is to be done; keep identity file and ledger together.",
)


def due_renewal(ledger: Ledger, standing: Standing, *, is_elsewhere: bool) -> Renewal | None:
    """Give why this database must go on in a new epoch, or None when its numbers are its own.

    The ledger is durable before a signature is stored, so it holds all that the database has signed. One that
    holds less cannot tell what the database itself may have lost. Commits that are not signed yet count for
    nothing here: nobody has seen them, and they are numbered anew with the epoch.

    Args:
        ledger: what the key has signed, as this machine knows.
        standing: what the database knows, in its present epoch.
        is_elsewhere: whether the database was served before, but never from here.
    """
    recorded = {bundle_id: ledger.last(bundle_id, standing.epoch) for bundle_id in standing.numbers}
    last = {bundle_id: 0 if found is None else found[0] for bundle_id, found in recorded.items()}
    if any(last[bundle_id] > seq for bundle_id, seq in standing.numbers.items()):
        return FORK
    if is_elsewhere:
        return MOVED
    if any(last.get(bundle_id, 0) < seq for bundle_id, seq in standing.signed.items()):
        return MISSING
    return None
