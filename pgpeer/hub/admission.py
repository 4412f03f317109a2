"""How many connections that have not authenticated yet a hub takes, in all and from one network address."""

from __future__ import annotations

from collections import Counter

from pgpeer.signaling.limits import HubLimits


class Admission:
    """Counts the connections that have not authenticated yet."""

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._per_address: Counter[str] = Counter()
        self._total = 0

    def enter(self, address: str) -> bool:
        """Count one more connection of an address; False when there are too many, and it is not counted."""
        if (
            self._total >= self._limits.unauthenticated_total
            or self._per_address[address] >= self._limits.unauthenticated_per_address
        ):
            return False
        self._per_address[address] += 1
        self._total += 1
        return True

    def leave(self, address: str) -> None:
        """Count one connection less: it has authenticated or ended."""
        self._total -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
