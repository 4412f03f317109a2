"""Hands mail to the peers that are online: a few boxes at a time, the next when some were taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pgpeer.errors import HubError
from pgpeer.hub.store import HubStore
from pgpeer.signaling.messages import MAILBOX, Mail, Post, Posted, Taken
from pgpeer.signaling.server import ServerConversation


@dataclass(slots=True)
class _Round:
    """Where the delivery to one connection stands."""

    after: int = 0
    in_flight: set[int] = field(default_factory=set)
    busy: bool = False
    more: bool = True


class Mailroom:
    """The mailboxes of a hub, as one of its processes serves them."""

    def __init__(self, store: HubStore, touch: Callable[[ServerConversation], None]) -> None:
        """Begin with nobody to deliver to.

        Args:
            store: keeps the boxes.
            touch: called with every connection that has something to send.
        """
        self._store = store
        self._touch = touch
        self._rounds: dict[ServerConversation, _Round] = {}

    async def post(self, conversation: ServerConversation, message: Post) -> Posted:
        """Keep a box for a peer.

        Raises:
            HubError: the box is too large or its mailbox full.
        """
        limits = self._store.limits
        if len(message.box) > limits.mail_bytes or not message.box:
            raise HubError(
                f"A letter of {len(message.box)} bytes is not taken; 1 to {limits.mail_bytes} are.",
                remedy="Write a shorter one.",
                code="too_large",
                phase="signalling",
                retryable=False,
            )
        seconds = min(message.ttl_seconds, limits.mail_seconds)
        mail = await self._store.post(conversation.peer_id, message.to, message.box, max(1, seconds))
        return Posted(message.request, mail)

    def enter(self, conversation: ServerConversation) -> None:
        """A peer is online now; it gets mail if it takes any."""
        if MAILBOX in conversation.features:
            self._rounds[conversation] = _Round()

    def leave(self, conversation: ServerConversation) -> None:
        """A peer is gone; what it did not take stays."""
        self._rounds.pop(conversation, None)

    def arrived(self, conversation: ServerConversation) -> None:
        """There is, or may be, new mail for a peer: `deliver` will look."""
        found = self._rounds.get(conversation)
        if found is not None:
            found.more = True

    def due(self) -> list[ServerConversation]:
        """Give the connections to call `deliver` for; each once until that is done."""
        most = self._store.limits.mail_in_flight
        due = []
        for conversation, one in self._rounds.items():
            if one.more and not one.busy and len(one.in_flight) < most:
                one.busy = True
                due.append(conversation)
        return due

    async def take(self, conversation: ServerConversation, message: Taken) -> None:
        """A peer has these boxes: forget them.

        Raises:
            HubError: the store cannot be reached; the boxes will come again.
        """
        await self._store.take(conversation.peer_id, message.mails)
        found = self._rounds.get(conversation)
        if found is not None:
            found.in_flight.difference_update(message.mails)

    async def deliver(self, conversation: ServerConversation) -> None:
        """Push what may be pushed now, to a connection that `due` gave.

        Raises:
            HubError: the store cannot be reached; `due` gives the connection again.
        """
        one = self._rounds.get(conversation)
        if one is None:
            return
        room = self._store.limits.mail_in_flight - len(one.in_flight)
        one.more = False
        try:
            boxes = await self._store.mail_for(conversation.peer_id, one.after, room)
            one.more = one.more or len(boxes) == room
            for kept in boxes:
                if not conversation.push_mail(Mail(kept.mail, kept.sender, kept.sent_at, kept.box)):
                    one.more = True
                    break
                one.after = kept.mail
                one.in_flight.add(kept.mail)
        except HubError:
            one.more = True
            raise
        finally:
            one.busy = False
            self._touch(conversation)
