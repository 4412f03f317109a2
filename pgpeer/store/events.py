"""What the worker tells PostgreSQL about failures, and the forgetting of old events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pgpeer.store.database import Connection

PRUNED_AT_ONCE: Final = 5000
"""So many events are forgotten in one transaction."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often something went wrong since it was counted last.

    Attributes:
        kind: the kind of event.
        peer_id: with whom; empty when that is not known.
        phase: a member of `pgpeer.errors.PHASES`, or empty.
        code: the error's code.
        count: how often.
    """

    kind: str
    peer_id: str
    phase: str
    code: str
    count: int


async def count_failures(connection: Connection, counts: Sequence[FailureCount]) -> None:
    """Add to what `peer.failure` shows."""
    await connection.value(
        "SELECT peer_internal.count_failures($1::jsonb)",
        json.dumps(
            [
                {"kind": c.kind, "peer_id": c.peer_id, "phase": c.phase, "code": c.code, "count": c.count}
                for c in counts
            ]
        ),
    )


async def prune(connection: Connection) -> bool:
    """Forget old events; True when there is more to forget."""
    count = await connection.value("SELECT peer_internal.prune_events($1)", PRUNED_AT_ONCE)
    return int(count) >= PRUNED_AT_ONCE
