"""A merge whose transaction stays open, as long as a test wants it to."""

from __future__ import annotations

from merge.replica import Replica


def begin_merge(replica: Replica) -> None:
    """Merge the next commit; the transaction stays open and the bundle locked."""
    replica.execute("SELECT peer_internal.lock_bundle(%s)", replica.bundle_id)
    replica.execute("BEGIN")
    ((_, outcome, detail),) = replica.execute(
        "SELECT * FROM peer_internal.merge_next(%s, 1)", replica.bundle_id
    )
    assert outcome == "merged", detail


def end_merge(replica: Replica) -> None:
    """Commit it and release the bundle."""
    replica.execute("COMMIT")
    replica.execute("SELECT peer_internal.unlock_bundle(%s)", replica.bundle_id)
