"""What came from a hub and waits for the worker: bounded, the newest state of each peer only."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from pgpeer.signaling.client import HubClosed, HubSlow, PeerOffline, PeerOnline
from pgpeer.signaling.record import Registration
from pgpeer.transport.hub_circuit import HubCircuit

SIGNALS_LIMIT: Final = 256
"""So many signals may wait to be read, and as many of each other kind of event below."""


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


@dataclass(frozen=True, slots=True)
class LetterReceived:
    """A letter whose box opened with our key; check it with `pgpeer.signaling.letter.read_letter`.

    It comes again on the next connection until `HubClient.take_letters` was told its number: act upon it,
    remember its id durably, then take it. Take at once what `read_letter` refuses: letters that were not
    taken hold up those behind them.

    Attributes:
        number: what `take_letters` wants to know.
        sender: peer id, the hub's word only.
        sent_at: unix time in seconds at which the hub got it, the hub's word only.
        plaintext: signature and body.
    """

    number: int
    sender: str
    sent_at: int
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """A followed namespace has changed; the signatures of the registrations are checked.

    Attributes:
        namespace: which.
        joined: who came or renewed.
        left: peer ids of who left or expired, the hub's word only.
        missed: there was more than the hub could keep for us: discover again.
    """

    namespace: str
    joined: tuple[Registration, ...]
    left: tuple[str, ...]
    missed: bool


@dataclass(frozen=True, slots=True, eq=False)
class CircuitReceived:
    """A peer wants a circuit: call `accept` or `refuse` on it within 10 s."""

    circuit: HubCircuit


HubEvent = (
    PeerOnline
    | PeerOffline
    | SignalReceived
    | LetterReceived
    | MembersChanged
    | CircuitReceived
    | HubSlow
    | HubClosed
)
_LIMITED: Final = (SignalReceived, LetterReceived, MembersChanged, CircuitReceived)


@dataclass(frozen=True, slots=True)
class _Missed:
    """Stands in the queue for the changes of a namespace that found no room."""

    namespace: str


class HubEvents:
    """A queue for one reader. A peer's presence that was not read yet is replaced by a newer one."""

    __slots__ = ("_arrived", "_counts", "_missed", "_order", "_presence")

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._order: deque[str | _Missed | HubEvent] = deque()
        self._missed: set[str] = set()
        self._presence: dict[str, PeerOnline | PeerOffline] = {}
        self._counts: Counter[type] = Counter()

    def put(self, event: HubEvent) -> bool:
        """Add an event; False when too many of its kind wait.

        Signals and letters are sent again by who made them; of changes the reader is told that it missed
        some.
        """
        if isinstance(event, PeerOnline | PeerOffline):
            if event.peer_id not in self._presence:
                self._order.append(event.peer_id)
            self._presence[event.peer_id] = event
        elif isinstance(event, _LIMITED):
            if self._counts[type(event)] >= SIGNALS_LIMIT:
                if isinstance(event, MembersChanged):
                    self._miss(event.namespace)
                return False
            self._counts[type(event)] += 1
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
        if isinstance(event, _Missed):
            self._missed.discard(event.namespace)
            return MembersChanged(event.namespace, (), (), True)
        if isinstance(event, _LIMITED):
            self._counts[type(event)] -= 1
        return event

    def _miss(self, namespace: str) -> None:
        if namespace not in self._missed:
            self._missed.add(namespace)
            self._order.append(_Missed(namespace))
            self._arrived.set()
