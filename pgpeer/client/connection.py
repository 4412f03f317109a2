"""One connection to a peer, as programs use it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgpeer.client.emitter import Emitter
from pgpeer.client.errors import ConnectionEnded
from pgpeer.store.channels import SeenChannel

if TYPE_CHECKING:
    from pgpeer.client.peers import PeerConnectionManager

MAIL_AT_ONCE: Final = 400
"""So many events wait for listeners; more messages stay in the database."""

END: Final = "SELECT peer.connect(…) makes a new one, in Python connect_to_peer()."


class PeerConnection:
    """A connection to a peer; made by `PeerConnectionManager`, there or here.

    Events: `data(data)` for each message, in order, once there is a listener; `slow(phase)` when nothing
    moves for a while; `closed(reason)`.

    Attributes:
        connection_id: the same on both sides and in SQL.
        peer_id: who is on the other side, proven.
        label: the other side's name for people, or None.
        is_incoming: whether the other side asked for it.
        confirm_data_receival: whether `send` waits until the other side has stored the message.
        closed_reason: `peer-requested-closed` or `connection-error` once it is over, else None.
    """

    def __init__(self, owner: PeerConnectionManager, seen: SeenChannel) -> None:
        self.connection_id: UUID = seen.connection_id
        self.peer_id = seen.peer_id
        self.label = seen.label
        self.is_incoming = seen.direction == "incoming"
        self.confirm_data_receival = seen.confirm
        self.closed_reason: str | None = None
        self.events = Emitter("data", "slow", "closed", changed=owner.wake)
        self._owner = owner
        self._acknowledged = seen.acknowledged
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._mail: deque[tuple[str, object]] = deque()
        self._delivery: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: ConnectionEnded | None = None

    def __repr__(self) -> str:
        return f"PeerConnection({self.connection_id}, {self.label or self.peer_id})"

    async def send(self, data: str) -> None:
        """Send a message.

        Returns once it is committed to the queue of the worker, or, with `confirm_data_receival`, once the
        other side has stored it durably. Cancelled, it may be sent or not.

        Raises:
            ConnectionEnded: the connection is over; an unconfirmed message may have arrived or not.
            StoreError: it is too large (`PGN06`), too many wait (`PGN07`), or the database is lost.
        """
        if self._error is not None:
            raise self._error
        number = await self._owner.send(self.connection_id, data)
        if not self.confirm_data_receival or number <= self._acknowledged:
            return
        if self._error is not None:
            raise self._error
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = confirmed
        await confirmed

    async def disconnect(self) -> None:
        """End the connection after what was sent before is delivered, and return when it is over. Idempotent.

        Raises:
            StoreError: the database is lost.
        """
        if self._error is None:
            await self._owner.disconnect(self.connection_id)
            await asyncio.shield(self._ended)

    # For the manager.

    async def opened(self) -> None:
        """Return when the other side has accepted; raises ConnectionEnded when it did not."""
        await asyncio.shield(self._opened)

    @property
    def is_busy(self) -> bool:
        """Whether listeners are behind, so that messages should wait in the database."""
        return len(self._mail) >= MAIL_AT_ONCE

    @property
    def takes_data(self) -> bool:
        """Whether messages should be taken out of the inbox now."""
        return self.events.has("data") and not self.is_busy

    def deliver(self, name: str, argument: object) -> None:
        """Call the listeners of an event, after those of the events before it."""
        self._mail.append((name, argument))
        if self._delivery is None:
            self._delivery = self._owner.spawn(self._deliver())

    def follow(self, seen: SeenChannel) -> None:
        """Take notice of how the connection stands in the database."""
        if seen.state in ("open", "closing") and not self._opened.done():
            self._opened.set_result(None)
        self.label = seen.label
        self._acknowledged = max(self._acknowledged, seen.acknowledged)
        for number in [one for one in self._waiting if one <= self._acknowledged]:
            confirmed = self._waiting.pop(number)
            if not confirmed.done():
                confirmed.set_result(None)

    def end(self, reason: str, code: str, detail: str) -> None:
        """The connection is over."""
        self.closed_reason = reason
        self._error = ConnectionEnded(
            f"The connection is over: {detail}", reason=reason, code=code, remedy=END
        )
        for waiting in [self._opened, *self._waiting.values()]:
            if not waiting.done():
                waiting.set_exception(self._error)
                waiting.exception()  # nobody has to wait for it
        self._waiting.clear()
        self._ended.set_result(None)
        self.deliver("closed", reason)

    async def _deliver(self) -> None:
        while self._mail:
            name, argument = self._mail.popleft()
            await self.events.emit(name, argument)
            if len(self._mail) == MAIL_AT_ONCE - 1:
                self._owner.wake()
            if name == "closed":
                self._owner.announce("connection_closed", self, argument)
        self._delivery = None
