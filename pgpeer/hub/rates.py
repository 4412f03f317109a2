"""How often one peer and one network address may ask a hub for something."""

from __future__ import annotations

from typing import Final

from pgpeer.errors import HubError
from pgpeer.signaling.limits import Buckets, HubLimits

SIGNAL: Final = "signals"
REQUEST: Final = "requests"


class Rates:
    """Token buckets for signals and for all other requests, by peer and by address."""

    def __init__(self, limits: HubLimits) -> None:
        self._buckets = {
            SIGNAL: (
                ("peer", Buckets(limits.signals_per_minute / 60, limits.signals_burst)),
                (
                    "network address",
                    Buckets(limits.address_signals_per_minute / 60, limits.address_signals_burst),
                ),
            ),
            REQUEST: (
                ("peer", Buckets(limits.requests_per_minute / 60, limits.requests_burst)),
                (
                    "network address",
                    Buckets(limits.address_requests_per_minute / 60, limits.address_requests_burst),
                ),
            ),
        }

    def refusal(self, what: str, peer_id: str, address: str, now: float) -> HubError | None:
        """Count one `SIGNAL` or `REQUEST` of a peer at an address; give the refusal when it is too many."""
        for (whose, buckets), name in zip(self._buckets[what], (peer_id, address), strict=True):
            bucket = buckets.of(name, now)
            if not bucket.take(now):
                return HubError(
                    f"This {whose} sends too many {what}.",
                    remedy=f"Try again in {bucket.seconds_until_token():.1f} s.",
                    code="rate_limited",
                    phase="signalling",
                )
        return None
