"""Programs of two peers that talk through the real channel room in virtual time, while links break and workers die.

A link is reliable and ordered as long as it lives; what is on its way when it ends is lost, and so is what a
worker knew that its database did not. What was received and not acknowledged is sent again on the next link.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from pgpeer.channel import events, limits
from pgpeer.channel.channels import Channels, Record
from pgpeer.channel.limits import Timing
from pgpeer.errors import RemoteProtocolError

from .disk import Disk
from .link import Link
from .timeline import Timeline
from .violation import Violation, require
from .weather import CHANGING, Weather

PATIENT = Timing(
    slow=50_000.0, connect=100_000.0, answer=100_000.0, link=100_000.0, stall_slow=50_000.0, stall=100_000.0
)
"""So that nothing ends but by a bug: what is written before the last fault must arrive."""

PATIENCE_SECONDS = 400.0
ROOM_BYTES = 40_000
"""Of an inbox; a program reads it now and then."""


@dataclass
class Kept:
    """What one side has durably of one connection."""

    is_outgoing: bool
    state: str = "connecting"
    queue: list[str] = field(default_factory=list)
    acknowledged: int = 0
    acknowledged_chain: bytes | None = None
    received: list[str] = field(default_factory=list)
    received_chain: bytes | None = None
    unread: int = 0
    has_left: bool = False
    closed: str = ""
    was_here: bool = False


@dataclass
class Met:
    """What happened in a simulation, so that it is known to try what it is meant to try."""

    messages: int = 0
    links: int = 0
    crashes: int = 0
    full: int = 0


@dataclass(frozen=True)
class Carrier:
    """One side's end of one link; what an old link tells concerns nobody any more."""

    side: Side
    link: Link

    def receive(self, frame: bytes) -> None:
        if self.side.link is self.link:
            self.side.receive(frame)

    def lost(self) -> None:
        if self.side.link is self.link:
            self.side.lost()

    def writable(self) -> None:
        if self.side.link is self.link:
            self.side.flow()


class Side:
    """A database, its worker, and programs that write and read."""

    def __init__(self, world: Programs, number: int) -> None:
        self.world = world
        self.number = number
        self.disk = Disk(world.timeline, world.random, world.disk_seconds)
        self.kept: dict[UUID, Kept] = {}
        self.machine = Channels(PATIENT)
        self.link: Link | None = None
        self._early: list[bytes] | None = None
        self._refused: set[UUID] = set()
        self._is_busy = False

    @property
    def other(self) -> Side:
        return self.world.sides[1 - self.number]

    # Programs.

    def connect(self, connection_id: UUID) -> None:
        self.kept[connection_id] = Kept(is_outgoing=True)
        self.machine.connect(connection_id, False, ROOM_BYTES, self.world.now)
        self.work()

    def write(self, connection_id: UUID, text: str) -> None:
        kept = self.kept.get(connection_id)
        if kept is not None and not kept.has_left and not kept.closed:
            kept.queue.append(text)
            self.work()

    def leave(self, connection_id: UUID) -> None:
        kept = self.kept.get(connection_id)
        if kept is not None and not kept.has_left and not kept.closed:
            kept.has_left = True
            self.machine.disconnect(connection_id, len(kept.queue), self.world.now)
            self.work()

    def read(self) -> None:
        """A program takes what is in its inboxes."""
        for connection_id, kept in self.kept.items():
            kept.unread = 0
            self.machine.give_room(connection_id, ROOM_BYTES)
        self.work()

    # The worker.

    def crash(self) -> None:
        """It forgets everything, and begins again from what is durable."""
        self.world.met.crashes += 1
        self.disk.crash()
        self.link = self._early = None
        self._refused.clear()
        self._is_busy = False
        self.machine = Channels(PATIENT)
        for connection_id, kept in self.kept.items():
            if kept.closed:
                self.machine.remember(connection_id, was_here=kept.was_here)
                continue
            if kept.state == "connecting":  # whether the other side has heard of it is not known any more
                self.machine.connect(connection_id, False, ROOM_BYTES, self.world.now)
            else:
                record = Record(
                    connection_id, True, False, kept.acknowledged, kept.acknowledged_chain,
                    len(kept.received), kept.received_chain, ROOM_BYTES - kept.unread,
                )  # fmt: skip
                self.machine.restore(record, self.world.now)
            if kept.has_left:
                self.machine.disconnect(connection_id, len(kept.queue), self.world.now)

    def work(self) -> None:
        """Store what happened, give what waits, and send what there is to say."""
        if not self._is_busy:
            happened = self.machine.events()
            if happened:
                self._is_busy = True
                self.disk.transact(lambda: self._store(happened), lambda: self._stored(happened))
        for connection_id, kept in self.kept.items():
            while (number := self.machine.next_number(connection_id)) is not None and number <= len(
                kept.queue
            ):
                self.machine.send(connection_id, number, kept.queue[number - 1], self.world.now)
        self.flow()

    def _store(self, happened: list[events.Event]) -> None:
        for event in happened:
            match event:
                case events.ConnectionRequested(connection_id):
                    if connection_id in self.kept:  # as the database does
                        self._refused.add(connection_id)
                    else:
                        self.kept[connection_id] = Kept(is_outgoing=False, state="open")
                case events.ConnectionOpened(connection_id):
                    self.kept[connection_id].state = "open"
                case events.MessageReceived(connection_id, number, data, chain):
                    kept, sent = self.kept[connection_id], self.other.kept[connection_id].queue
                    require(
                        number == len(kept.received) + 1,
                        "once",
                        f"message {number} came at {len(kept.received)}",
                    )
                    require(
                        data == sent[number - 1], "order", f"message {number} is not the one that was sent"
                    )
                    kept.received.append(data)
                    kept.received_chain = chain
                    kept.unread += len(data.encode()) + limits.MESSAGE_COST_BYTES
                    self.world.met.messages += 1
                case events.MessagesAcknowledged(connection_id, number, chain):
                    kept = self.kept[connection_id]
                    there = self.other.kept[connection_id].received
                    require(number <= len(there), "durable", f"message {number} was acknowledged too early")
                    require(number >= kept.acknowledged, "order", "an acknowledgement was taken back")
                    kept.acknowledged, kept.acknowledged_chain = number, chain
                case events.ConnectionClosed(connection_id, reason, code, _, _, detail):
                    require(reason == "peer-requested-closed", "honest", f"a connection ended: {detail}")
                    kept, there = self.kept[connection_id], self.other.kept.get(connection_id)
                    has_left = kept.has_left or (there is not None and there.has_left)
                    require(has_left, "honest", "nobody wanted this end")
                    kept.closed, kept.was_here = reason, code == "local_closed"

    def _stored(self, happened: list[events.Event]) -> None:
        self._is_busy = False
        now = self.world.now
        for event in happened:
            connection_id = event.connection_id
            room = ROOM_BYTES - self.kept[connection_id].unread
            self.world.met.full += room < ROOM_BYTES // 4
            if connection_id in self._refused:
                self._refused.remove(connection_id)
                self.machine.refuse(connection_id, "replay", "It was there before.", now)
            elif isinstance(event, events.ConnectionRequested):
                self.machine.accept(connection_id, room, now)
            elif isinstance(event, events.MessageReceived):
                self.machine.stored(connection_id, event.number, room, now)
        self.work()

    # The link.

    def attach(self, link: Link) -> None:
        """There will be a link; what comes before it is taken into use waits."""
        self.link, self._early = link, []

    def up(self, link: Link) -> None:
        if self.link is not link or self._early is None:
            return
        early, self._early = self._early, None
        self.machine.link_up(self.world.now)
        for data in early:
            self._hear(data)
        self.work()

    def receive(self, frame: bytes) -> None:
        if self._early is not None:
            self._early.append(frame)
        else:
            self._hear(frame)
            self.work()

    def _hear(self, data: bytes) -> None:
        try:
            self.machine.receive(data, self.world.now)
        except RemoteProtocolError as error:
            raise Violation("honest", f"an honest side was refused: {error}") from error

    def lost(self) -> None:
        self.link = self._early = None
        self.machine.link_down(self.world.now)
        self.world.reconnect()

    def flow(self) -> None:
        """Send what there is to say and to send it with."""
        link = self.link
        while link is not None and self._early is None and link.has_room(self.number):
            data = self.machine.next_message(self.world.now)
            if data is None:
                break
            link.send(self.number, data)
        waiting = sum(
            one.receiving._arrived_cost - one.receiving._stored_cost
            for one in self.machine.connections.values()
        )
        most = len(self.machine.connections) * (limits.WINDOW_BYTES + limits.MESSAGE_COST_BYTES)
        require(waiting <= most, "bounded", f"{waiting} bytes wait to be stored")


class Programs:
    """Two sides, one link at a time, and one integer that decides everything."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.weather = weather
        self.random = random = Random(f"programs {seed}")
        self.timeline = Timeline()
        self.met = Met()
        self.disk_seconds = (0.0005, random.choice([0.002, 0.05, 0.5]))
        self.sides = (Side(self, 0), Side(self, 1))
        self.end = random.uniform(*weather.length)
        self._latency = random.choice([0.002, 0.05, 0.4])
        self._rate = random.choice([5e3, 50e3, 1e6])
        self._ids = [UUID(int=number + 1) for number in range(random.randint(1, 6))]
        self._is_connecting = False
        self._link: Link | None = None

    @property
    def now(self) -> float:
        return self.timeline.now

    def run(self) -> Met:
        random, timeline, weather = self.random, self.timeline, self.weather
        for connection_id in self._ids:
            asker, began = self.sides[random.randrange(2)], random.uniform(0.0, self.end / 2)
            timeline.at(began, lambda asker=asker, one=connection_id: asker.connect(one))
            for side in self.sides:
                for number in range(random.choice(weather.messages)):
                    text = self._text(connection_id, side.number, number)
                    when = random.uniform(began, self.end)
                    timeline.at(when, lambda side=side, one=connection_id, text=text: side.write(one, text))
            if random.random() < weather.leaving:
                leaver = random.choice(self.sides)
                timeline.at(
                    random.uniform(began, self.end),
                    lambda leaver=leaver, one=connection_id: leaver.leave(one),
                )
        faults = [self._cut] * weather.cuts + [self._stall] * weather.stalls + [self._crash] * weather.crashes
        for _ in range(random.choice(weather.faults)):
            timeline.at(random.uniform(0.0, self.end), random.choice(faults))
        self._read_now_and_then()
        self.reconnect()
        timeline.run(self.end, lambda: False)
        if self._link is not None and not self._link.is_cut:
            self._link.heal()
        else:
            self.reconnect()
        if not timeline.run(timeline.now + PATIENCE_SECONDS, self._is_delivered):
            raise Violation("progress", self._missing())
        return self.met

    def _text(self, connection_id: UUID, side: int, number: int) -> str:
        size = self.random.choice([0, 5, 200, 200, 3000, 15_000])
        return f"{connection_id.int} {side} {number} " + "ä" * self.random.randint(0, size)

    def _read_now_and_then(self) -> None:
        for side in self.sides:
            side.read()
        self.timeline.after(self.random.uniform(0.05, 3.0), self._read_now_and_then)

    # Links.

    def reconnect(self) -> None:
        if not self._is_connecting:
            self._is_connecting = True
            self.timeline.after(self.random.uniform(0.05, 4.0), self._connect)

    def _connect(self) -> None:
        self._is_connecting = False
        self.met.links += 1
        before, link = self._link, Link(self.timeline, self.random, self._latency, self._rate)
        if before is not None and not before.is_cut:
            before.cut((None, None))
        self._link = link
        for side in self.sides:
            link.attach(side.number, Carrier(side, link))
            side.attach(link)
        for side in self.sides:  # each takes it into use when it has noticed
            self.timeline.after(self.random.uniform(0.0, 0.3), lambda side=side: side.up(link))

    def _cut(self) -> None:
        if self._link is not None and not self._link.is_cut:
            notices = [self.random.uniform(0.0, 5.0) if self.random.random() < 0.7 else None for _ in "01"]
            self._link.cut((notices[0], notices[1]))
            self.timeline.after(8.0, self.reconnect)

    def _stall(self) -> None:
        if self._link is not None:
            self._link.stall(self.random.uniform(0.1, 10.0))

    def _crash(self) -> None:
        if self._link is not None and not self._link.is_cut:
            self._link.cut((None, None))
        self.random.choice(self.sides).crash()
        self.reconnect()

    # The end.

    def _is_over(self, connection_id: UUID) -> bool:
        one, other = (side.kept.get(connection_id) for side in self.sides)
        if one is None or other is None:
            lonely = one or other  # asked for and taken back before anybody heard of it
            return lonely is None or lonely.closed != ""
        if one.has_left or other.has_left:
            # what the one that left had written is delivered; what was under way to it may be lost
            arrived = [
                there.received == here.queue for here, there in ((one, other), (other, one)) if here.has_left
            ]
            return any(arrived) and bool(one.closed) and bool(other.closed)
        return one.received == other.queue and other.received == one.queue

    def _is_delivered(self) -> bool:
        return all(self._is_over(one) for one in self._ids)

    def _missing(self) -> str:
        lacking = [one.int for one in self._ids if not self._is_over(one)]
        states = [
            [(kept.state, len(kept.queue), kept.acknowledged, len(kept.received), kept.has_left, kept.closed)
             for side in self.sides if (kept := side.kept.get(UUID(int=number)))]
            for number in lacking
        ]  # fmt: skip
        return f"connections {lacking} are not done: {states}"


def simulate_programs(seed: int, weather: Weather = CHANGING) -> Met:
    """Run one seed.

    Raises:
        Violation: a promise was broken.
    """
    return Programs(seed, weather).run()
