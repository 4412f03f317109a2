"""All connections between this peer and one other, over the one link between their workers.

The owner feeds commands, `link_up`, `link_down`, `receive` and `tick`; it takes `events` and every
`next_message` while there is a link, and calls `tick` again at `next_deadline`. All times are seconds of one
monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.channel import events, limits, messages
from pgpeer.channel.channel import Channel
from pgpeer.channel.limits import Timing
from pgpeer.channel.receiving import Receiving
from pgpeer.channel.sending import Sending, first_chain
from pgpeer.channel.states import State
from pgpeer.errors import RemoteProtocolError

MAX_WAITING_ANSWERS: Final = 256
"""Answers about unknown connections that may wait to be sent; a peer that asks for more is cut off."""

MAX_ENDED: Final = 1024
"""Of so many connections that ended as somebody wished it is known who did; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Record:
    """A connection as it is stored, to go on with after a restart.

    Attributes:
        is_open: whether the other side has accepted it.
        confirm: whether confirmations were asked for.
        acknowledged: the last message that the other side has stored.
        acknowledged_chain: the hash stored with it; None before the first.
        received: the last message stored here.
        received_chain: the hash stored with it; None before the first.
        room: bytes that its inbox takes now.
    """

    connection_id: UUID
    is_open: bool
    confirm: bool
    acknowledged: int
    acknowledged_chain: bytes | None
    received: int
    received_chain: bytes | None
    room: int


class Channels:
    """The connections with one peer."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._channels: dict[UUID, Channel] = {}
        self._turns: deque[UUID] = deque()
        self._answers: deque[messages.Message] = deque()
        self._ended: dict[UUID, bool] = {}
        """Whether the end was wished for here, of connections that are over."""
        self._events: list[events.Event] = []
        self._has_link = False

    @property
    def connections(self) -> Mapping[UUID, Channel]:
        """The connections that are not over."""
        return self._channels

    def follow(self, timing: Timing) -> None:
        """Use other time-outs from now on."""
        self.timing = timing
        for channel in self._channels.values():
            channel.timing = timing

    # What the owner wants. Calls about connections that are over change nothing.

    def connect(self, connection_id: UUID, confirm: bool, room: int, now: float) -> None:
        """Ask the other side for a connection; `room` is what its inbox takes."""
        record = Record(connection_id, False, confirm, 0, None, 0, None, room)
        self._begin(record, now, is_new=True)

    def restore(self, record: Record, now: float) -> None:
        """Go on with a stored connection after a restart."""
        self._begin(record, now, is_new=False)

    def remember(self, connection_id: UUID, *, was_here: bool) -> None:
        """A connection is over because somebody wished it, here or on the other side.

        The other side may have forgotten its end in a crash: then it is told how it ended, and not that
        nobody knows it.
        """
        self._ended[connection_id] = was_here
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def accept(self, connection_id: UUID, room: int, now: float) -> None:
        """Take a connection that the other side asked for, once it is stored."""
        channel = self._channels.get(connection_id)
        if channel is not None and channel.state is State.ASKED:
            channel.accept(room, now)

    def refuse(self, connection_id: UUID, code: str, detail: str, now: float) -> None:
        """Do not take a connection that the other side asked for."""
        channel = self._channels.get(connection_id)
        if channel is not None and channel.state is State.ASKED:
            channel.fail(code, "hello", False, detail)
            self._sweep(now)

    def give_up(self, code: str, phase: str, detail: str, now: float) -> None:
        """End what the other side has not accepted yet: it will not."""
        for channel in self._channels.values():
            if channel.state is State.CONNECTING:
                channel.fail(code, phase, False, detail)
        self._sweep(now)

    def disconnect(self, connection_id: UUID, last: int, now: float) -> None:
        """End a connection after message `last` is delivered."""
        if connection_id in self._channels:
            self._channels[connection_id].disconnect(last, now)
            self._sweep(now)

    def next_number(self, connection_id: UUID) -> int | None:
        """Give the number of the message that a connection takes now; None when it takes none."""
        channel = self._channels.get(connection_id)
        if channel is None or channel.state is State.ASKED or not channel.sending.has_room:
            return None
        return channel.sending.next_number

    def send(self, connection_id: UUID, number: int, data: str, now: float) -> None:
        """Give a connection its next message.

        Raises:
            LocalProtocolError: it is not the one of `next_number`, or too large.
        """
        channel = self._channels.get(connection_id)
        if channel is not None:
            channel.sending.keep(number, data)
            channel.kept(now)
            self._sweep(now)

    def stored(self, connection_id: UUID, number: int, room: int, now: float) -> None:
        """Received messages up to `number` are durable; the inbox takes `room` more bytes."""
        channel = self._channels.get(connection_id)
        if channel is not None:
            channel.stored(number, room, now)

    def full(self) -> list[UUID]:
        """Give the connections whose other side may wait for room in the inbox here."""
        return [one for one, channel in self._channels.items() if channel.receiving.is_full]

    def give_room(self, connection_id: UUID, room: int) -> None:
        """The inbox of a connection takes `room` more bytes."""
        if connection_id in self._channels:
            self._channels[connection_id].give_room(room)

    # What the link does.

    def link_up(self, now: float) -> None:
        """There is a new link, in the place of the one before if that was not told to be down."""
        self._answers.clear()
        self._has_link = True
        for channel in self._channels.values():
            channel.link_up(now)
        self._sweep(now)

    def link_down(self, now: float) -> None:
        """There is no link any more."""
        self._answers.clear()
        self._has_link = False
        for channel in self._channels.values():
            channel.link_down(now)

    def receive(self, data: bytes, now: float) -> None:
        """Take a message from the link.

        Raises:
            RemoteProtocolError: it is malformed; the link should be closed.
        """
        message = messages.decode(data)
        channel = self._channels.get(message.connection_id)
        if channel is not None:
            channel.hear(message, now)
            self._sweep(now)
        elif isinstance(message, messages.Open) and message.connection_id not in self._ended:
            self._asked(message, now)
        else:
            self._answer_unknown(message)

    def next_message(self, now: float) -> bytes | None:
        """Give what to send next; None when there is nothing now. The connections take turns."""
        if not self._has_link:
            return None
        if self._answers:
            return messages.encode(self._answers.popleft())
        for _ in range(len(self._turns)):
            connection_id = self._turns[0]
            self._turns.rotate(-1)
            message = self._channels[connection_id].next_message(now)
            if message is not None:
                return messages.encode(message)
        return None

    # Time and events.

    def next_deadline(self) -> float | None:
        """Give when `tick` must be called next; None for never."""
        deadlines = [one for one in (c.deadline() for c in self._channels.values()) if one is not None]
        return min(deadlines, default=None)

    def tick(self, now: float) -> None:
        """Let time pass; harmless at any moment."""
        for channel in self._channels.values():
            channel.tick(now)
        self._sweep(now)

    def events(self) -> list[events.Event]:
        """Give what happened since the last call, in order."""
        happened = self._events.copy()
        self._events.clear()
        return happened

    # Steps.

    def _begin(self, record: Record, now: float, *, is_new: bool) -> None:
        connection_id, first = record.connection_id, first_chain(record.connection_id)
        if connection_id in self._channels:
            return
        self._add(
            Channel(
                connection_id,
                State.OPEN if record.is_open else State.CONNECTING,
                Sending(record.acknowledged, record.acknowledged_chain or first),
                Receiving(record.received, record.received_chain or first, record.room),
                record.confirm,
                self.timing,
                self._events.append,
                now,
                is_new=is_new,
            ),
            now,
        )

    def _asked(self, message: messages.Open, now: float) -> None:
        connection_id = message.connection_id
        if len(self._channels) >= limits.MAX_CONNECTIONS:
            detail = "There are too many connections between these peers."
            self._answer(messages.Close(connection_id, False, "rate_limited", detail))
            return
        first = first_chain(connection_id)
        channel = Channel(
            connection_id,
            State.ASKED,
            Sending(0, first),
            Receiving(0, first, 0),
            message.confirm,
            self.timing,
            self._events.append,
            now,
        )
        self._add(channel, now)
        channel.hear(message, now)
        self._events.append(events.ConnectionRequested(connection_id, message.confirm))

    def _add(self, channel: Channel, now: float) -> None:
        self._channels[channel.connection_id] = channel
        self._turns.append(channel.connection_id)
        if self._has_link:
            channel.link_up(now)

    def _answer_unknown(self, message: messages.Message) -> None:
        """Answer about a connection that is over here, or never was; what was on its way is ignored."""
        match message:
            case messages.Open(ended) | messages.Resume(ended) if ended in self._ended:
                # who asks for it again has forgotten also that it was accepted
                if self._ended[ended]:
                    self._answer(messages.Close(ended, True, "remote_closed", ""))
                else:
                    self._answer(messages.Closed(ended))
            case messages.Resume() | messages.Opened():
                detail = "The other side does not know this connection any more."
                self._answer(messages.Close(message.connection_id, False, "id_unknown", detail))
            case messages.Close(connection_id, True):
                self._answer(messages.Closed(connection_id))

    def _answer(self, message: messages.Message) -> None:
        if len(self._answers) >= MAX_WAITING_ANSWERS:
            raise RemoteProtocolError("The other side asks for too many connections.", code="rate_limited")
        self._answers.append(message)

    def _sweep(self, now: float) -> None:
        """Forget connections that are over, once their last words are taken over."""
        for connection_id in [one for one, c in self._channels.items() if c.state is State.CLOSED]:
            channel = self._channels.pop(connection_id)
            self._turns.remove(connection_id)
            if channel.ended_by is not None:
                self.remember(connection_id, was_here=channel.ended_by == "here")
            while (message := channel.next_message(now)) is not None:
                self._answers.append(message)
