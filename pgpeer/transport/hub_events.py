"""What came from a hub and waits for the worker: bounded, the newest state of each peer only."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from pgpeer.signaling.client import HubClosed, HubSlow, PeerOffline, PeerOnline

SIGNALS_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """A signal whose box opened with our key; check it with `pgpeer.signaling.signal.read_signal`.

    Attributes:
        sender: peer id, the hub's word only.
        sid: session id, the hub's word only.
        plaintext: signature and body.
    """

    sender: str
    sid: str
    plaintext: bytes


HubEvent = PeerOnline | PeerOffline | SignalReceived | HubSlow | HubClosed


class HubEvents:
    """A queue for one reader. A peer's presence that was not read yet is replaced by a newer one."""

    __slots__ = ("_arrived", "_order", "_presence", "_signals")

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._order: deque[str | SignalReceived | HubSlow | HubClosed] = deque()
        self._presence: dict[str, PeerOnline | PeerOffline] = {}
        self._signals = 0

    def put(self, event: HubEvent) -> bool:
        """Add an event; False when it is a signal and too many wait: its sender will try again."""
        if isinstance(event, PeerOnline | PeerOffline):
            if event.peer_id not in self._presence:
                self._order.append(event.peer_id)
            self._presence[event.peer_id] = event
        elif isinstance(event, SignalReceived):
            if self._signals >= SIGNALS_LIMIT:
                return False
            self._signals += 1
            self._order.append(event)
        else:
            self._order.append(event)
        self._arrived.set()
        return True

    async def get(self) -> HubEvent:
        """Wait for the next event and take it."""
        while not self._order:
            self._arrived.clear()
            await self._arrived.wait()
        event = self._order.popleft()
        if isinstance(event, str):
            return self._presence.pop(event)
        if isinstance(event, SignalReceived):
            self._signals -= 1
        return event
