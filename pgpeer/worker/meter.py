"""Counts what goes over a link, for people: totals, rates, round trips; stored only when they change."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from pgpeer.store.view import Traffic
from pgpeer.worker.conversation import Conversation

NEWS_BYTES: Final = 4096
"""Counters are stored again when they have grown by this much."""

RATE_SECONDS: Final = 1.0
"""Rates are measured over this long or longer."""


class Meter:
    """The counters of one link.

    Args:
        connection_id: names it in `peer.connection`.
        conversation: over the link.
    """

    def __init__(self, connection_id: UUID, conversation: Conversation) -> None:
        self._conversation = conversation
        self._clock = asyncio.get_running_loop().time
        self._measured_at = self._clock()
        self._measured = (0, 0)
        self._stored = Traffic(connection_id, 0, 0, None)

    def has_news(self) -> bool:
        """Whether something has changed enough to be stored again."""
        link, stored = self._conversation.link, self._stored
        grown = link.bytes_sent + link.bytes_received - stored.bytes_sent - stored.bytes_received
        is_idle_now = bool(stored.sent_rate or stored.received_rate)
        return (
            grown >= NEWS_BYTES or is_idle_now or (stored.rtt is None and self._conversation.rtt is not None)
        )

    def take(self) -> Traffic:
        """Give the present counters, which count as stored from now on."""
        link, stored, now = self._conversation.link, self._stored, self._clock()
        rates = (stored.sent_rate, stored.received_rate)
        seconds = now - self._measured_at
        if seconds >= RATE_SECONDS:
            grown = (link.bytes_sent - self._measured[0], link.bytes_received - self._measured[1])
            is_running = sum(grown) >= NEWS_BYTES
            rates = (round(grown[0] / seconds), round(grown[1] / seconds)) if is_running else (0, 0)
            self._measured_at, self._measured = now, (link.bytes_sent, link.bytes_received)
        self._stored = Traffic(
            stored.connection_id, link.bytes_sent, link.bytes_received, self._conversation.rtt, *rates
        )
        return self._stored
