"""Targets of the channel room: what programs of a peer say, message by message and as a conversation."""

from __future__ import annotations

from uuid import UUID

from pgpeer.channel import limits, messages
from pgpeer.channel.channels import Channels
from pgpeer.channel.events import ConnectionRequested, MessageReceived
from pgpeer.channel.messages import Ack, Close, Closed, Data, Message, Open, Opened, Resume
from pgpeer.channel.sending import first_chain

from .conversations import frames_of, stream_of

OURS, THEIRS = UUID(int=7), UUID(int=8)
ROOM = 1_000_000
MESSAGES: tuple[Message, ...] = (
    Open(THEIRS, True, limits.WINDOW_BYTES),
    Opened(OURS, limits.WINDOW_BYTES),
    Data(THEIRS, 1, "zwei Städte"),
    Ack(OURS, 1, 300_000),
    Resume(OURS, 0, first_chain(OURS), 70_000),
    Close(OURS, False, "timeout", "nobody is here"),
    Close(THEIRS, True, "remote_closed", ""),
    Closed(OURS),
)


def message(data: bytes) -> None:
    read = messages.decode(data)
    if not isinstance(read, Close):  # what a terminal would obey is replaced in its text
        assert messages.encode(read) == data
    assert messages.decode(messages.encode(read)) == read


def message_samples() -> list[bytes]:
    return [messages.encode(one) for one in MESSAGES]


def conversation(data: bytes) -> None:
    """Connections hand out every message once and in order, and never more than was promised room."""
    channels, moment = Channels(), 0.0
    channels.connect(OURS, False, ROOM, moment)
    channels.send(OURS, 1, "hello", moment)
    channels.link_up(moment)
    received: dict[UUID, int] = {}
    for said in frames_of(data):
        moment += 0.25
        channels.receive(said, moment)
        while happened := channels.events():
            for event in happened:
                if isinstance(event, ConnectionRequested):
                    channels.accept(event.connection_id, ROOM, moment)
                elif isinstance(event, MessageReceived):
                    assert event.number == received.get(event.connection_id, 0) + 1
                    received[event.connection_id] = event.number
                    channels.stored(event.connection_id, event.number, ROOM, moment)
        while (answer := channels.next_message(moment)) is not None:
            messages.decode(answer)
        channels.tick(moment)
        assert len(channels.connections) <= limits.MAX_CONNECTIONS


def conversation_samples() -> list[bytes]:
    said = [messages.encode(one) for one in MESSAGES]
    return [
        stream_of(*said),
        stream_of(*said[:4]),
        stream_of(said[0], said[2], said[2], said[6]),
        stream_of(*said[4:]),
    ]
