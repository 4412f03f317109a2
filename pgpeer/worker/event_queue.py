"""What a conversation tells its owner, in order and in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pgpeer.protocol import events
from pgpeer.protocol.events import Event
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Roughly how much of events outside the credit may wait for the owner; a peer that sends more is cut off."""


class EventQueue(asyncio.Queue[Event]):
    """Events for the owner, in order; the last is `SessionClosed`.

    Taking a commit from the queue grants its credit; sections are unpacked when they are taken, and granted
    by the owner (`Conversation.grant`) when their data is taken care of. So commits and sections are bounded
    by the credit, and the rest by `MAX_WAITING_BYTES`. A large one is handed out when it has its turn, which
    ends when the next event is asked for.
    """

    def __init__(self, open_event: Callable[[Event], Event | None], session: Session) -> None:
        super().__init__()
        self._open = open_event
        self._session = session
        self.has_turn = False
        """Whether the owner has an event in hand that takes a place for large messages."""
        self.waiting_bytes = 0
        self.turn_begun = asyncio.Event()

    def add(self, event: Event) -> None:
        """Put an event at the end."""
        self.waiting_bytes += _size(event)
        self.put_nowait(event)

    async def get(self) -> Event:
        """Give the next event; the one before it is taken care of."""
        while True:
            if self.has_turn:
                self.has_turn = False
                self._session.large.done()
            event = await super().get()
            if isinstance(event, events.CommitReceived | events.SectionReceived) and event.is_large:
                if not await self._turn():
                    continue  # the conversation is over, and will go on with this message
                self.has_turn = True
            opened = self._open(event)
            if opened is not None:
                return opened

    async def _turn(self) -> bool:
        """Wait for the turn of a large message; False when the conversation was over before."""
        while not self._session.large.is_ready:
            if self._session.state is State.CLOSED:
                return False
            self.turn_begun.clear()
            await self.turn_begun.wait()
        return True

    def take_channel(self) -> list[bytes]:
        """Take what programs have said out of the queue, in order."""
        waiting = [self.get_nowait() for _ in range(self.qsize())]
        for event in waiting:
            if not isinstance(event, events.ChannelReceived):
                self.add(event)
        return [event.data for event in waiting if isinstance(event, events.ChannelReceived)]

    def _get(self) -> Event:
        event = super()._get()
        self.waiting_bytes -= _size(event)
        return event


def _size(event: Event) -> int:
    """Give roughly the bytes of an event that no credit covers."""
    match event:
        case events.CommitReceived() | events.SectionReceived():
            return 0
        case events.VectorReceived(_, entries, partial):
            return 256 + 256 * len(entries) + sum(256 + 8 * len(numbers) for numbers in partial.values())
        case events.AcknowledgementReceived(_, entries):
            return 256 + 256 * len(entries)
        case events.ChannelReceived(data):
            return 256 + len(data)
        case events.JoinAccepted():
            return MAX_WAITING_BYTES // 8
        case _:
            return 4096
