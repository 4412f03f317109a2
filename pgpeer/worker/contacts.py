"""What is known about reaching one peer, and how long to wait before it is tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from pgpeer.signaling.backoff import next_delay
from pgpeer.worker.budget import HOLD_SECONDS, REST_SECONDS
from pgpeer.worker.places import OVERLOADED

GRACE_SECONDS: Final = 1.5
"""So long the peer with the higher id leaves the first try to the other one."""

REFUSED_SECONDS: Final = 300.0
"""A friend that does not want this database is asked again after so long."""

FAILING: Final = 2
"""After so many failures in a row nobody counts on a peer."""


@dataclass(slots=True)
class Contact:
    """What is known about reaching one peer.

    Attributes:
        attempt: the attempt under way.
        failures: how often connecting has failed since it worked last.
        timer: when to try next.
        refusal: the code with which the peer refused the last time; empty when it did not.
        forgiven_at: when its failures were forgotten because it came online.
    """

    attempt: asyncio.Task[None] | None = None
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    refusal: str = ""
    forgiven_at: float = float("-inf")

    def pause_seconds(
        self, chance: Random, *, longest: float, is_mutual: bool, is_joining: bool, is_second: bool
    ) -> float:
        """Give how long to wait before the next attempt.

        Args:
            chance: spreads attempts.
            longest: no pause after a failure is longer, but those after a refusal.
            is_mutual: whether the other side wants the link as well, and tries too.
            is_joining: whether this side waits for the peer's answer to an invite.
            is_second: whether the first try is left to the other side.
        """
        pause = chance.uniform(0.0, 0.05)
        if self.failures:
            pause = next_delay(self.failures - 1, chance.random(), longest=longest)
        if is_joining:
            return pause
        if self.refusal == OVERLOADED:
            # not at once: the peer has just decided whom it links with
            rest = min(REST_SECONDS, HOLD_SECONDS * max(1, self.failures))
            return max(pause, rest * chance.uniform(1.0, 1.5))
        if self.refusal and not is_mutual:
            return max(pause, REFUSED_SECONDS * chance.uniform(0.75, 1.25))
        return pause + GRACE_SECONDS if is_mutual and is_second else pause
