"""Who is online at this hub, who wants to know, and the way of a signal from one to the other.

No clocks, sockets or tasks here: the server calls in with the time and then sends what the conversations
hold.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from pgpeer.errors import HubError
from pgpeer.signaling.limits import HubLimits, TokenBucket
from pgpeer.signaling.server import PeerAuthenticated, ServerConversation, SignalRequested, WatchRequested

BUCKETS_LIMIT: Final = 4096
"""So many rate buckets are kept before the full ones, which remember nothing, are dropped."""


class Switchboard:
    """The shared state of one hub process, in memory only: after a restart everybody comes again."""

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._online: dict[str, ServerConversation] = {}
        self._watched: dict[ServerConversation, frozenset[str]] = {}
        self._watchers: defaultdict[str, set[ServerConversation]] = defaultdict(set)
        self._peer_buckets: dict[str, TokenBucket] = {}
        self._address_buckets: dict[str, TokenBucket] = {}
        self._touched: set[ServerConversation] = set()

    @property
    def online_count(self) -> int:
        """How many peers are online."""
        return len(self._online)

    def take_touched(self) -> set[ServerConversation]:
        """Give the conversations that may have something to send since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def admit(self, conversation: ServerConversation, event: PeerAuthenticated) -> None:
        """Take a peer in that has proven its id, in place of an older connection of the same peer."""
        self._touched.add(conversation)
        older = self._online.get(event.peer_id)
        if older is None and len(self._online) >= self._limits.connections_total:
            conversation.close(
                HubError(
                    "The hub is full.",
                    remedy="Try again later or use another hub.",
                    code="quota",
                    phase="hub_auth",
                )
            )
            return
        if older is not None:
            self._replace(older)
        self._online[event.peer_id] = conversation
        conversation.welcome()
        self._announce(event.peer_id, event.label)

    def watch(self, conversation: ServerConversation, event: WatchRequested) -> None:
        """Tell a client of these peers from now on, their present state first."""
        self._stop_watching(conversation)
        conversation.forget_presence()
        self._watched[conversation] = frozenset(event.peer_ids)
        for peer_id in event.peer_ids:
            self._watchers[peer_id].add(conversation)
            online = self._online.get(peer_id)
            conversation.push_presence(peer_id, None if online is None else online.label)
        self._touched.add(conversation)

    def route(self, sender: ServerConversation, address: str, event: SignalRequested, now: float) -> None:
        """Hand a signal to its recipient's connection and tell the sender what became of it."""
        self._touched.add(sender)
        refusal = self._rate_refusal(sender.peer_id, address, now)
        if refusal is not None:
            sender.refuse(event.request, refusal)
            return
        target = self._online.get(event.to)
        if target is None or target.is_closed:
            sender.report_delivery(event.request, False)
            return
        if not target.push_signal(sender.peer_id, event.sid, event.box):
            sender.refuse(
                event.request,
                HubError(
                    "Too many signals wait for that peer.",
                    remedy="Try again in a few seconds.",
                    code="target_overloaded",
                    phase="signalling",
                ),
            )
            return
        self._touched.add(target)
        sender.report_delivery(event.request, True)

    def leave(self, conversation: ServerConversation) -> None:
        """Forget a connection that has ended; its watchers hear of it unless a newer one took its place."""
        self._stop_watching(conversation)
        if conversation.peer_id and self._online.get(conversation.peer_id) is conversation:
            del self._online[conversation.peer_id]
            self._announce(conversation.peer_id, None)
        self._touched.discard(conversation)

    def _replace(self, older: ServerConversation) -> None:
        self._stop_watching(older)
        older.close(
            HubError(
                "The same peer has connected again.",
                remedy="If this repeats, two workers use one identity: give one of the databases its own.",
                code="replaced",
                phase="signalling",
            )
        )
        self._touched.add(older)

    def _announce(self, peer_id: str, label: str | None) -> None:
        for watcher in self._watchers.get(peer_id, ()):
            watcher.push_presence(peer_id, label)
            self._touched.add(watcher)

    def _stop_watching(self, conversation: ServerConversation) -> None:
        for peer_id in self._watched.pop(conversation, frozenset()):
            watchers = self._watchers[peer_id]
            watchers.discard(conversation)
            if not watchers:
                del self._watchers[peer_id]

    def _rate_refusal(self, peer_id: str, address: str, now: float) -> HubError | None:
        limits = self._limits
        of_peer = _bucket(
            self._peer_buckets, peer_id, limits.signals_per_minute / 60, limits.signals_burst, now
        )
        of_address = _bucket(
            self._address_buckets,
            address,
            limits.address_signals_per_minute / 60,
            limits.address_signals_burst,
            now,
        )
        for bucket, whose in ((of_peer, "peer"), (of_address, "network address")):
            if not bucket.take(now):
                seconds = bucket.seconds_until_token()
                return HubError(
                    f"This {whose} sends too many signals.",
                    remedy=f"Try again in {seconds:.1f} s.",
                    code="rate_limited",
                    phase="signalling",
                )
        return None


def _bucket(buckets: dict[str, TokenBucket], name: str, rate: float, burst: int, now: float) -> TokenBucket:
    bucket = buckets.get(name)
    if bucket is None:
        if len(buckets) >= BUCKETS_LIMIT:
            for idle in [other for other, kept in buckets.items() if kept.is_full(now)]:
                del buckets[idle]
        bucket = buckets[name] = TokenBucket(rate, burst, now)
    return bucket
