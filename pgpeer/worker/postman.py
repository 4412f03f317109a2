"""Carries messages of applications between the database and the links to peers.

All connections with one peer share its link. What a peer sends is acknowledged once it is committed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol
from uuid import UUID

import structlog

from pgpeer.channel import events
from pgpeer.channel.channels import Channels, Record
from pgpeer.channel.limits import WINDOW_BYTES, Timing
from pgpeer.errors import LinkClosed, RemoteProtocolError, StoreError
from pgpeer.store import channels as store
from pgpeer.store.channels import Operation, Settings, StoredChannel
from pgpeer.store.database import Connection
from pgpeer.worker.mailbag import REFUSALS, operations_of, timing_of

ROOM_SECONDS: Final = 0.5
"""So often a full inbox is looked at again."""

PRUNE_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 30.0
"""So often the settings are read again while there are connections."""

EARLY_MESSAGES: Final = 128
"""So much may be said on a link before it is taken into use: more than all connections need."""


class Carrier(Protocol):
    """A link to a peer whose identity is proven."""

    async def send_channel(self, data: bytes) -> None:
        """Send a message about connections; waits while the link is busy.

        Raises:
            LinkClosed: the link is over.
        """


class Line:
    """The connections with one peer and the link that carries them now."""

    def __init__(self, peer_id: str, timing: Timing) -> None:
        self.peer_id = peer_id
        self.channels = Channels(timing)
        self.carrier: Carrier | None = None
        self.writer: asyncio.Task[None] | None = None
        self.to_write = asyncio.Event()


class Postman:
    """The connections of all peers.

    Args:
        connection: to the database, for nothing else.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.follow: Callable[[], None] = lambda: None
        """Called when the peers that connections are wanted with have changed."""
        self._early: dict[Carrier, list[bytes]] = {}
        self._lines: dict[str, Line] = {}
        self._peers: dict[UUID, str] = {}
        self._unread: set[UUID] = set()
        self._look_due = True
        self._presence: frozenset[str] | None = None
        self._stored_presence: frozenset[str] | None = None
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looked = self._pruned = self._loop.time()
        self._log = structlog.get_logger("pgpeer.postman")
        self.settings = Settings()

    # Called by others; none of these wait.

    def wanted(self) -> set[str]:
        """The peers that a link is needed to for the sake of connections."""
        return set(self._peers.values())

    def notified(self, payload: str) -> None:
        """A user asked for something: a message on a connection, or anything else when empty."""
        try:
            self._unread.add(UUID(payload))
        except ValueError:
            self._look_due = True
        self._wake.set()

    def configuration_changed(self) -> None:
        """The settings may have changed."""
        self._look_due = True
        self._wake.set()

    def online(self, peer_ids: Iterable[str]) -> None:
        """The hubs say that exactly these peers are online."""
        self._presence = frozenset(peer_ids)
        if self._presence != self._stored_presence:
            self._wake.set()

    def link_up(self, peer_id: str, carrier: Carrier) -> None:
        """There is a link to a peer, in the place of the one before."""
        line = self._line(peer_id)
        self._unlink(line)
        line.carrier = carrier
        line.channels.link_up(self._loop.time())
        line.writer = self._loop.create_task(self._write(line, carrier))
        for data in self._early.pop(carrier, []):
            line.channels.receive(data, self._loop.time())
        self._wake.set()

    def link_down(self, peer_id: str, carrier: Carrier) -> None:
        """A link is over, or is not used for connections any more. Idempotent."""
        self._early.pop(carrier, None)
        line = self._lines.get(peer_id)
        if line is not None and line.carrier is carrier:
            self._unlink(line)
            line.channels.link_down(self._loop.time())
            self._wake.set()

    def refused(self, peer_id: str, code: str) -> None:
        """A peer takes no link of this one: what was asked for does not have to wait any longer."""
        if peer_id in self._lines:
            detail = "The peer does not take links of this one."
            self._lines[peer_id].channels.give_up(code, "signalling", detail, self._loop.time())
            self._wake.set()

    def received(self, peer_id: str, carrier: Carrier, data: bytes) -> None:
        """A peer says something about connections; what comes before `link_up` waits for it.

        Raises:
            RemoteProtocolError: it is malformed; the link should be closed.
        """
        line = self._lines.get(peer_id)
        if line is not None and line.carrier is carrier:
            line.channels.receive(data, self._loop.time())
            self._wake.set()
        else:
            early = self._early.setdefault(carrier, [])
            if len(early) >= EARLY_MESSAGES:
                raise RemoteProtocolError("Too much was said before the link was taken into use.")
            early.append(data)

    # Running.

    async def begin(self) -> None:
        """Go on with the connections that are stored.

        Raises:
            StoreError: the database is lost.
        """
        await store.begin(self._connection)
        for peer_id, connection_id, was_here in await store.ends(self._connection):
            self._line(peer_id).channels.remember(connection_id, was_here=was_here)
        await self._look()
        self._unread |= set(self._peers)

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        try:
            while True:
                self._wake.clear()
                try:
                    await self._work()
                except StoreError as error:
                    # what was taken from the connections is stored or lost: only a new beginning is sure
                    raise StoreError(
                        str(error),
                        sqlstate=error.sqlstate,
                        remedy=error.remedy,
                        code=error.code,
                        retryable=True,
                    ) from error
                for line in self._lines.values():
                    line.to_write.set()
                try:
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for line in self._lines.values():
                self._unlink(line)

    async def _work(self) -> None:
        """Do everything that is to be done now."""
        if self._look_due or (self._peers and self._loop.time() - self._looked >= LOOK_SECONDS):
            await self._look()
        if self._presence is not None and self._presence != self._stored_presence:
            presence = self._presence
            await store.set_presence(self._connection, sorted(presence))
            self._stored_presence = presence
        now = self._loop.time()
        for line in self._lines.values():
            line.channels.tick(now)
        await self._store()
        await self._feed()
        await self._measure()
        if now - self._pruned > PRUNE_SECONDS:
            self._pruned = now
            await store.prune(self._connection)

    def _pause(self) -> float | None:
        deadlines = (line.channels.next_deadline() for line in self._lines.values())
        pauses = [max(0.0, one - self._loop.time()) + 0.001 for one in deadlines if one is not None]
        if any(line.channels.full() for line in self._lines.values()):
            pauses.append(ROOM_SECONDS)
        if self._peers:
            pauses.append(LOOK_SECONDS)
        return min(pauses, default=None)

    async def _look(self) -> None:
        """Take up connections that users asked for, and those that they end."""
        self._look_due = False
        self._looked = self._loop.time()
        self.settings, found = await store.channels(self._connection)
        timing = timing_of(self.settings)
        for line in self._lines.values():
            line.channels.follow(timing)
        now = self._loop.time()
        before = self.wanted()
        for channel in found:
            line = self._line(channel.peer_id)
            if channel.connection_id not in self._peers:
                self._peers[channel.connection_id] = channel.peer_id
                self._take_up(line, channel, now)
            if channel.is_leaving:
                line.channels.disconnect(channel.connection_id, channel.last_number, now)
        self._unread &= self._peers.keys()
        if self.wanted() != before:
            self.follow()

    def _take_up(self, line: Line, channel: StoredChannel, now: float) -> None:
        is_new = channel.state == "connecting" and channel.acknowledged == 0
        if is_new and channel.age < self.settings.connect:
            line.channels.connect(channel.connection_id, channel.confirm, channel.room, now)
        else:
            line.channels.restore(
                Record(
                    channel.connection_id,
                    channel.state != "connecting",
                    channel.confirm,
                    channel.acknowledged,
                    channel.acknowledged_chain,
                    channel.received,
                    channel.received_chain,
                    channel.room,
                ),
                # what was asked for long ago, while no worker ran, is too late
                now - channel.age if is_new else now,
            )
        self._unread.add(channel.connection_id)

    async def _store(self) -> None:
        """Commit what happened, then let the peers know of it."""
        for line in list(self._lines.values()):
            while happened := line.channels.events():
                for event in happened:
                    if isinstance(event, events.ConnectionRequested):
                        await self._answer(line, event)
                told = [one for one in happened if not isinstance(one, events.ConnectionRequested)]
                await self._apply(line, operations_of(line.peer_id, told))
                for event in told:
                    if isinstance(event, events.ConnectionClosed):
                        self._forget(event)

    async def _apply(self, line: Line, operations: list[Operation]) -> None:
        if not operations:
            return
        rooms = await store.apply(self._connection, operations)
        now = self._loop.time()
        for operation in operations:
            if operation["op"] == "messages":
                connection_id = UUID(operation["connection"])
                line.channels.stored(connection_id, operation["number"], rooms[connection_id], now)

    def _forget(self, event: events.ConnectionClosed) -> None:
        peer_id = self._peers.pop(event.connection_id, None)
        self._unread.discard(event.connection_id)
        self._log.info("connection closed", peer=peer_id, reason=event.reason, code=event.code)
        self.follow()

    async def _answer(self, line: Line, event: events.ConnectionRequested) -> None:
        connection_id = event.connection_id
        if connection_id not in line.channels.connections:
            return  # taken back already
        refusal, room = await store.accept(self._connection, connection_id, line.peer_id, event.confirm)
        now = self._loop.time()
        if refusal is None and connection_id in line.channels.connections:
            self._peers[connection_id] = line.peer_id
            line.channels.accept(connection_id, room, now)
        elif refusal is None:
            detail = "The other side took its request back."
            end = events.ConnectionClosed(
                connection_id, "connection-error", "remote_closed", "hello", True, detail
            )
            await self._apply(line, operations_of(line.peer_id, [end]))
        else:
            line.channels.refuse(connection_id, refusal, REFUSALS.get(refusal, "It was refused."), now)

    async def _feed(self) -> None:
        """Give the connections what users sent, as far as they take it."""
        after: dict[UUID, int] = {}
        for connection_id in self._unread & self._peers.keys():
            number = self._lines[self._peers[connection_id]].channels.next_number(connection_id)
            if number is not None:
                after[connection_id] = number - 1
        if not after:
            return
        self._unread -= after.keys()
        for message in await store.outgoing(self._connection, after, WINDOW_BYTES):
            connection_id = message.connection_id
            peer_id = self._peers.get(connection_id)
            if peer_id is None:
                continue
            channels = self._lines[peer_id].channels
            if channels.next_number(connection_id) == message.number:
                channels.send(connection_id, message.number, message.data, self._loop.time())
                self._wake.set()
                if not message.has_more:
                    continue
            self._unread.add(connection_id)

    async def _measure(self) -> None:
        """Look whether full inboxes have room again."""
        full = [one for line in self._lines.values() for one in line.channels.full() if one in self._peers]
        if full:
            for connection_id, room in (await store.rooms(self._connection, full)).items():
                if connection_id in self._peers:
                    self._lines[self._peers[connection_id]].channels.give_room(connection_id, room)

    # Links.

    def _line(self, peer_id: str) -> Line:
        if peer_id not in self._lines:
            self._lines[peer_id] = Line(peer_id, timing_of(self.settings))
        return self._lines[peer_id]

    @staticmethod
    def _unlink(line: Line) -> None:
        line.carrier = None
        if line.writer is not None:
            line.writer.cancel()
            line.writer = None

    async def _write(self, line: Line, carrier: Carrier) -> None:
        """Send what there is to say to one peer until the link is over."""
        try:
            while True:
                line.to_write.clear()
                data = line.channels.next_message(self._loop.time())
                if data is None:
                    # acknowledgements make room for more
                    await line.to_write.wait()
                else:
                    self._wake.set()
                    await carrier.send_channel(data)
        except LinkClosed:
            self.link_down(line.peer_id, carrier)
        except RemoteProtocolError as error:
            self._log.warning("a peer broke the rules", peer=line.peer_id, detail=str(error))
        except StoreError:
            pass  # whoever watches the connections ends the worker's shift
