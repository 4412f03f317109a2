"""What a hub takes from whom, in numbers; every limit has a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubLimits:
    """The limits of one hub. The defaults serve a thousand peers on a small machine.

    Attributes:
        frame_bytes: largest text frame either side may send.
        unauthenticated_frame_bytes: largest frame before authentication.
        unauthenticated_seconds: time to authenticate.
        unauthenticated_per_address: connections of one network address that have not authenticated yet.
        unauthenticated_total: the same over all addresses.
        connections_total: authenticated connections.
        lease_seconds: a peer that says nothing for so long counts as offline.
        ping_seconds: how often a client says that it is there.
        dead_seconds: a client that hears nothing for so long gives the hub up.
        messages_per_second, messages_burst: of one connection, of any kind; beyond it the connection is
        closed. signals_per_minute, signals_burst: of one peer; beyond it the signal is refused as
        `rate_limited`. address_signals_per_minute, address_signals_burst: of one network address, likewise.
        queued_messages, queued_bytes: waiting for one peer; beyond it a signal is refused as
        `target_overloaded`.
        watched_peers: peers that one connection may watch.
    """

    frame_bytes: int = 64 * 1024
    unauthenticated_frame_bytes: int = 16 * 1024
    unauthenticated_seconds: float = 10.0
    unauthenticated_per_address: int = 32
    unauthenticated_total: int = 256
    connections_total: int = 4096
    lease_seconds: float = 30.0
    ping_seconds: float = 10.0
    dead_seconds: float = 25.0
    messages_per_second: float = 20.0
    messages_burst: int = 200
    signals_per_minute: float = 120.0
    signals_burst: int = 60
    address_signals_per_minute: float = 600.0
    address_signals_burst: int = 300
    queued_messages: int = 64
    queued_bytes: int = 256 * 1024
    watched_peers: int = 1024


class TokenBucket:
    """Lets `burst` things through at once and `rate` a second on average."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one token at `now` (seconds, monotonic); False when there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(self._filled_at, now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def seconds_until_token(self) -> float:
        """How long after the last `take` the next token comes, in seconds."""
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def is_full(self, now: float) -> bool:
        """Whether nobody has taken a token for so long that the bucket can be forgotten."""
        return self._tokens + (now - self._filled_at) * self._rate >= self._burst
