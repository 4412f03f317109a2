"""Two sides of application connections with stores that outlive a crash, and a link in the test's hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from pgpeer.channel import events
from pgpeer.channel.channels import Channels, Record
from pgpeer.channel.limits import Timing
from pgpeer.errors import RemoteProtocolError

ID = UUID(int=7)
ROOM = 10_000_000


@dataclass
class Stored:
    """What one side keeps of one connection."""

    is_outgoing: bool
    confirm: bool = False
    state: str = "connecting"
    queue: list[str] = field(default_factory=list)
    acknowledged: int = 0
    acknowledged_chain: bytes | None = None
    received: list[str] = field(default_factory=list)
    received_chain: bytes | None = None
    farewell: bool = False
    closed: events.ConnectionClosed | None = None


class Side:
    """An owner: it stores what the events tell, in order, and goes on from that after a crash."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.stored: dict[UUID, Stored] = {}
        self.told: list[events.Event] = []
        self.room = ROOM
        self.refusal: str | None = None
        self.is_storing = True
        self.machine = Channels(self.timing)

    def connect(self, now: float = 0.0, connection_id: UUID = ID, *, confirm: bool = False) -> None:
        self.stored[connection_id] = Stored(True, confirm)
        self.machine.connect(connection_id, confirm, self.room, now)

    def send(self, *data: str, now: float = 0.0, connection_id: UUID = ID) -> None:
        self.stored[connection_id].queue += data
        self.work(now)

    def disconnect(self, now: float = 0.0, connection_id: UUID = ID) -> None:
        stored = self.stored[connection_id]
        stored.farewell = True
        self.machine.disconnect(connection_id, len(stored.queue), now)
        self.work(now)

    def crash(self, now: float) -> None:
        """Begin again from what is stored."""
        self.machine = Channels(self.timing)
        for connection_id, one in self.stored.items():
            if one.closed is not None:
                if one.closed.reason == "peer-requested-closed":
                    self.machine.remember(connection_id, was_here=one.closed.code == "local_closed")
                continue
            if one.state == "connecting":  # whether the other side has heard of it is not known any more
                self.machine.connect(connection_id, one.confirm, self.room, now)
            else:
                self.machine.restore(
                    Record(
                        connection_id, True, one.confirm, one.acknowledged, one.acknowledged_chain,
                        len(one.received), one.received_chain, self.room,
                    ),
                    now,
                )  # fmt: skip
            if one.farewell:
                self.machine.disconnect(connection_id, len(one.queue), now)

    def work(self, now: float) -> None:
        """Store what happened and feed what waits."""
        while happened := self.machine.events() if self.is_storing else []:
            for event in happened:
                self.told.append(event)
                self._store(event, now)
        for connection_id, stored in self.stored.items():
            while (number := self.machine.next_number(connection_id)) is not None and number <= len(
                stored.queue
            ):
                self.machine.send(connection_id, number, stored.queue[number - 1], now)

    def _store(self, event: events.Event, now: float) -> None:
        connection_id = event.connection_id
        match event:
            case events.ConnectionRequested(_, confirm):
                if self.refusal is not None:
                    self.machine.refuse(connection_id, self.refusal, "Not here.", now)
                else:
                    assert connection_id not in self.stored
                    self.stored[connection_id] = Stored(False, confirm, "open")
                    self.machine.accept(connection_id, self.room, now)
            case events.ConnectionOpened():
                self.stored[connection_id].state = "open"
            case events.MessageReceived(_, number, data, chain):
                stored = self.stored[connection_id]
                stored.received.append(data)
                assert len(stored.received) == number
                stored.received_chain = chain
                self.machine.stored(connection_id, number, self.room, now)
            case events.MessagesAcknowledged(_, number, chain):
                stored = self.stored[connection_id]
                stored.acknowledged, stored.acknowledged_chain = number, chain
            case events.ConnectionClosing():
                self.stored[connection_id].state = "closing"
            case events.ConnectionClosed():
                assert self.stored[connection_id].closed is None
                self.stored[connection_id].closed = event

    def closed(self, connection_id: UUID = ID) -> tuple[str, str] | None:
        end = self.stored[connection_id].closed
        return None if end is None else (end.reason, end.code)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


@dataclass
class Pair:
    """A link between two sides that carries one message at a time each way, while it is up."""

    ann: Side = field(default_factory=Side)
    bob: Side = field(default_factory=Side)
    is_up: bool = False

    def up(self, now: float = 0.0) -> Pair:
        self.is_up = True
        self.ann.machine.link_up(now)
        self.bob.machine.link_up(now)
        return self

    def down(self, now: float = 0.0) -> None:
        self.is_up = False
        self.ann.machine.link_down(now)
        self.bob.machine.link_down(now)

    def step(self, now: float = 0.0) -> bool:
        moved = False
        for sender, receiver in ((self.ann, self.bob), (self.bob, self.ann)):
            sender.work(now)
            message = sender.machine.next_message(now)
            if message is not None:
                moved = True
                receiver.machine.receive(message, now)
                receiver.work(now)
        return moved

    def run(self, now: float = 0.0) -> Pair:
        while self.step(now):
            pass
        return self

    def tick(self, now: float) -> None:
        for side in (self.ann, self.bob):
            side.machine.tick(now)
            side.work(now)


def opened(timing: Timing | None = None) -> Pair:
    """A connection from ann to bob, open on both sides."""
    pair = Pair(Side(timing), Side(timing)).up()
    pair.ann.connect()
    pair.run()
    assert pair.ann.stored[ID].state == pair.bob.stored[ID].state == "open"
    return pair


def hostile(side: Side, data: bytes, now: float = 0.0) -> RemoteProtocolError | None:
    """Feed a side and give what it raises."""
    try:
        side.machine.receive(data, now)
    except RemoteProtocolError as error:
        return error
    finally:
        side.work(now)
    return None
