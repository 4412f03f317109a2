"""Two ends of a stream and paths between them, in virtual time: frames take time, stall, and are cut."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

from pgpeer.transport.multipath import PathSwitch
from pgpeer.transport.multipath_events import PathDropped, SwitchEvent


@dataclass
class Wire:
    """A path between the ends: each direction keeps its order; a stalled one swallows."""

    latency: float
    is_open: bool = True
    is_stalled: bool = False
    last_arrival: dict[int, float] = field(default_factory=lambda: {0: 0.0, 1: 0.0})


class PathWorld:
    """What is under way, the clock, and both ends."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ends = (PathSwitch(self.now), PathSwitch(self.now))
        self.wires: dict[int, Wire] = {}
        self.received: tuple[list[bytes], list[bytes]] = ([], [])
        self.events: tuple[list[tuple[float, SwitchEvent]], list[tuple[float, SwitchEvent]]] = ([], [])
        self._reads = [True, True]
        self._unread: tuple[list[int], list[int]] = ([], [])
        self.sent_on: dict[tuple[int, int], int] = {}
        self._agenda: list[tuple[float, int, int, int, bytes | None]] = []
        self._order = count()
        self._numbers = count(1)

    def open(self, rank: int, latency: float = 0.01, *, is_preferred: bool = True) -> int:
        """Connect the ends by one more path."""
        number = next(self._numbers)
        self.wires[number] = Wire(latency)
        for end in self.ends:
            if end.ended is None:
                end.add_path(number, rank, self.now, is_preferred=is_preferred)
        self._flush()
        return number

    def cut(self, number: int) -> None:
        """Break a path: what is under way is lost, and both ends hear of it at once."""
        wire = self.wires[number]
        if wire.is_open:
            wire.is_open = False
            for side in (0, 1):
                self.ends[side].lose(number, self.now)
            self._flush()

    def send(self, side: int, message: bytes) -> None:
        self.ends[side].send(message)
        self._flush()

    def pause(self, side: int) -> None:
        """Whoever uses the stream on this side reads nothing for now."""
        self._reads[side] = False

    def resume(self, side: int) -> None:
        """And now reads everything that waited."""
        self._reads[side] = True
        for size in self._unread[side]:
            self.ends[side].consumed(size, self.now)
        self._unread[side].clear()
        self._flush()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            due = [end.next_deadline(self.now) for end in self.ends]
            times = [time for time in due if time is not None]
            if self._agenda:
                times.append(self._agenda[0][0])
            if not times or min(times) > until:
                break
            self.now = max(self.now, min(times))
            while self._agenda and self._agenda[0][0] <= self.now:
                self._arrive()
            for end in self.ends:
                end.tick(self.now)
            self._flush()
        self.now = until

    def _arrive(self) -> None:
        _, _, side, number, frame = heapq.heappop(self._agenda)
        wire = self.wires[number]
        if frame is None:
            self.ends[side].lose(number, self.now)
        elif wire.is_open and not wire.is_stalled:
            self.ends[side].receive(number, frame, self.now)

    def _flush(self) -> None:
        """Read messages, take events and send frames until nothing moves."""
        moved = True
        while moved:
            moved = False
            for side, end in enumerate(self.ends):
                for message, _ in end.messages():
                    self.received[side].append(message)
                    if self._reads[side]:
                        end.consumed(len(message), self.now)
                    else:
                        self._unread[side].append(len(message))
                for event in end.events():
                    self.events[side].append((self.now, event))
                    if isinstance(event, PathDropped):
                        self._shut(side, event.path)
                for number, wire in self.wires.items():
                    while wire.is_open and (frame := end.next_frame(number, self.now)) is not None:
                        moved = True
                        self._launch(side, number, wire, frame)

    def _launch(self, side: int, number: int, wire: Wire, frame: bytes) -> None:
        self.sent_on[side, number] = self.sent_on.get((side, number), 0) + 1
        arrival = max(self.now + wire.latency, wire.last_arrival[side])
        wire.last_arrival[side] = arrival
        heapq.heappush(self._agenda, (arrival, next(self._order), 1 - side, number, frame))

    def _shut(self, side: int, number: int) -> None:
        """One end closes a path in order: what is under way arrives, then the other end hears of it."""
        wire = self.wires[number]
        arrival = max(self.now + wire.latency, wire.last_arrival[side])
        if wire.is_stalled:
            arrival += 60.0
        heapq.heappush(self._agenda, (arrival, next(self._order), 1 - side, number, None))
