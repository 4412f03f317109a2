"""What a hub takes from whom, in numbers; every limit has a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubLimits:
    """The limits of one hub. The defaults serve a thousand peers on a small machine.

    Attributes:
        frame_bytes: largest frame either side may send.
        unauthenticated_frame_bytes: largest frame before authentication.
        unauthenticated_seconds: time to authenticate.
        unauthenticated_per_address: connections of one network address that have not authenticated yet.
        unauthenticated_total: the same over all addresses.
        connections_total: authenticated connections.
        lease_seconds: a peer that says nothing for so long counts as offline.
        ping_seconds: how often a client says that it is there.
        dead_seconds: a client that hears nothing for so long gives the hub up.
        messages_per_second, messages_burst: of one connection, of any kind but those that steer circuits,
            which have controls_per_second and controls_burst; beyond it the connection is closed.
        signals_per_minute, signals_burst: of one peer; beyond it the signal is refused as `rate_limited`.
        address_signals_per_minute, address_signals_burst: of one network address, likewise.
        requests_per_minute, requests_burst: registrations, discoveries, mail, circuits and credentials asked
            for by one peer; beyond it refused as `rate_limited`.
        address_requests_per_minute, address_requests_burst: of one network address, likewise.
        queued_messages, queued_bytes: waiting for one peer; beyond it a signal is refused as
            `target_overloaded`.
        watched_peers: peers that one connection may watch.
        namespaces: that one peer may be listed in, and that one connection may follow.
        queued_changes: of followed namespaces, waiting for one peer; beyond it the peer is told to discover.
        registration_seconds: longest time for which a registration stands without being renewed.
        mail_bytes: largest box of mail. mail_seconds: longest time that it is kept.
        mailbox_messages, mailbox_bytes: kept for one peer; beyond it refused as `quota`.
        mailbox_messages_per_sender: kept for one peer from one sender, likewise.
        mail_sent_per_peer: kept of one sender in all mailboxes, likewise.
        mail_total_bytes: kept in all, likewise.
        mail_in_flight: boxes pushed to a peer before it says that it has taken some.
        circuits_per_peer, circuits_total: that are open or offered; beyond it refused as `quota`, or
            `target_overloaded` when it is the other peer that has too many.
        circuit_window_bytes: taken from one side of a circuit and not yet passed on.
        circuit_accept_seconds: time to accept a circuit.
        circuit_stall_seconds: a circuit whose reader takes nothing for so long, while bytes wait, is shut.
        relay_buffer_bytes: waiting in all circuits together; above it nobody gets new credit, and a
            circuit that would fill twice as much is shut as `quota`.
        pair_bytes_per_second, pair_burst_bytes: relayed between two peers, both ways together;
            peer_bytes_per_second, peer_burst_bytes: sent by one peer; relay_bytes_per_second,
            relay_burst_bytes: relayed in all. Beyond it bytes wait; circuits take turns.
        turn_seconds: for how long TURN credentials hold.
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
    controls_per_second: float = 1000.0
    controls_burst: int = 4000
    signals_per_minute: float = 120.0
    signals_burst: int = 60
    address_signals_per_minute: float = 600.0
    address_signals_burst: int = 300
    requests_per_minute: float = 120.0
    requests_burst: int = 120
    address_requests_per_minute: float = 1200.0
    address_requests_burst: int = 600
    queued_messages: int = 64
    queued_bytes: int = 256 * 1024
    watched_peers: int = 1024
    namespaces: int = 64
    queued_changes: int = 256
    registration_seconds: int = 72 * 3600
    mail_bytes: int = 32 * 1024
    mail_seconds: int = 7 * 24 * 3600
    mailbox_messages: int = 64
    mailbox_bytes: int = 512 * 1024
    mailbox_messages_per_sender: int = 16
    mail_sent_per_peer: int = 256
    mail_total_bytes: int = 256 * 1024 * 1024
    mail_in_flight: int = 8
    circuits_per_peer: int = 32
    circuits_total: int = 4096
    circuit_window_bytes: int = 256 * 1024
    circuit_accept_seconds: float = 10.0
    circuit_stall_seconds: float = 60.0
    relay_buffer_bytes: int = 48 * 1024 * 1024
    pair_bytes_per_second: float = 1024.0 * 1024
    pair_burst_bytes: int = 64 * 1024 * 1024
    peer_bytes_per_second: float = 4.0 * 1024 * 1024
    peer_burst_bytes: int = 256 * 1024 * 1024
    relay_bytes_per_second: float = 32.0 * 1024 * 1024
    relay_burst_bytes: int = 256 * 1024 * 1024
    turn_seconds: int = 3600


class TokenBucket:
    """Lets `burst` things through at once and `rate` a second on average."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take tokens at `now` (seconds, monotonic); False, and none is taken, when there are not enough."""
        if not self.has(now, amount):
            return False
        self._tokens -= amount
        return True

    def has(self, now: float, amount: float = 1.0) -> bool:
        """Whether `take` would succeed now."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(self._filled_at, now)
        return self._tokens >= amount

    def seconds_until_token(self) -> float:
        """How long after the last `take` the next token comes, in seconds."""
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def is_full(self, now: float) -> bool:
        """Whether nobody has taken a token for so long that the bucket can be forgotten."""
        return self._tokens + (now - self._filled_at) * self._rate >= self._burst


class Buckets:
    """Token buckets by name, all alike; those that are full again are forgotten."""

    __slots__ = ("_burst", "_by_name", "_rate")

    KEPT = 4096
    """So many are kept before the full ones, which remember nothing, are dropped."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._by_name: dict[object, TokenBucket] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._by_name)

    def of(self, name: object, now: float) -> TokenBucket:
        """Give the bucket of a name, a full one when it is new."""
        bucket = self._by_name.get(name)
        if bucket is None:
            if len(self._by_name) >= self.KEPT:
                for idle in [other for other, kept in self._by_name.items() if kept.is_full(now)]:
                    del self._by_name[idle]
            bucket = self._by_name[name] = TokenBucket(self._rate, self._burst, now)
        return bucket
