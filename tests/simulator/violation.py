"""What a simulation raises when a promise was broken."""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken.

    Attributes:
        promise: which one, one word: durable, delivered, causal, once, order, bounded, credit, progress,
            honest, alive, clock.
    """

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


def require(holds: bool, promise: str, what: str) -> None:
    if not holds:
        raise Violation(promise, what)
