"""What a client has asked a hub for, and how long it waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SIGNAL_SLOW_SECONDS: Final = 3.0
SIGNAL_FAIL_SECONDS: Final = 15.0


@dataclass(slots=True)
class PendingRequest:
    """A request without an answer.

    Attributes:
        asked_at: when, in seconds of the conversation's clock.
        is_signal: a signal, whose answer is another event than that of the other requests.
        told_slow: its owner knows that it takes long.
    """

    asked_at: float
    is_signal: bool
    told_slow: bool = False

    @property
    def slow_at(self) -> float:
        """When its owner is to be told that it takes long."""
        return self.asked_at + SIGNAL_SLOW_SECONDS

    @property
    def fail_at(self) -> float:
        """When it is given up."""
        return self.asked_at + SIGNAL_FAIL_SECONDS

    @property
    def next_deadline(self) -> float:
        """The earlier of the two that is still to come."""
        return self.fail_at if self.told_slow else self.slow_at
