"""Connections to peers for programs: who is online, connecting, and being connected to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import structlog

from pgpeer.client.connection import PeerConnection
from pgpeer.client.emitter import Emitter
from pgpeer.client.errors import ConnectionEnded
from pgpeer.errors import PgpeerError, StoreError
from pgpeer.store import channels as store
from pgpeer.store.channels import SeenChannel
from pgpeer.store.database import Connection

TAKE_MESSAGES: Final = 200
RETRY_SECONDS: Final = 1.0
"""So long is waited before a lost database is tried again."""

STALE_SECONDS: Final = 30.0
"""So often is looked without having been told."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer that is online; `label` is its name for people, not unique and not trusted."""

    id: str
    label: str


class PeerConnectionManager:
    """The connections of one program to peers, through the database and its worker.

    Events: `incoming_connection(connection)` when a peer has connected; `connection_closed(connection,
    reason)` with reason `peer-requested-closed` or `connection-error`; `error(error)` when a listener or the
    connection to the database fails. Usable with `async with`; else `close` ends it.

    Args:
        dsn: the database, as libpq takes it. Its worker must run for anything to happen.
    """

    def __init__(self, dsn: str) -> None:
        self.events = Emitter("incoming_connection", "connection_closed", changed=self._listened)
        self._dsn = dsn
        self._hands: Connection | None = None
        self._ears: Connection | None = None
        self._starting: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._connections: dict[UUID, PeerConnection] = {}
        self._event_ids: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._dialling = asyncio.Lock()
        self._log = structlog.get_logger("pgpeer.client")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect to the database and begin to listen. The other methods and `events.on` do so themselves.

        Connections that exist already are not incoming ones; idempotent.

        Raises:
            StoreError: the database cannot be reached, or has no pgpeer.
            ConfigError: the address cannot be read.
        """
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except PgpeerError:
            self._starting = None
            raise

    async def close(self) -> None:
        """Stop listening, also what listeners do at this moment. Connections stay: `disconnect` ends one."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        tasks = [
            one for one in (self._task, *self._tasks) if one is not None and one is not asyncio.current_task()
        ]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._hang_up()
        self._task = self._starting = None

    async def get_online_peers(self) -> list[PeerInfo]:
        """Give the known peers that are online now; none when no worker runs.

        Raises:
            StoreError: the database is lost.
        """
        found = await store.online_peers(await self._open())
        return [PeerInfo(peer_id, label or "") for peer_id, label in found]

    async def connect_to_peer(self, id: str, confirm_data_receival: bool = False) -> PeerConnection:
        """Connect to a peer and return when it has accepted.

        Args:
            id: its peer id.
            confirm_data_receival: let `send`, on both sides, wait until the message is stored at the other.

        Raises:
            ConnectionEnded: it was not reached in time (`timeout`), or refused (`refused_policy`, …).
            StoreError: this is not a peer id (`PGN01`), …, or the database is lost.
        """
        connection_id = await store.connect(await self._open(), id, confirm_data_receival)
        seen = SeenChannel(
            connection_id, id, None, "outgoing", confirm_data_receival, "connecting", 0, None, None, None
        )
        connection = self._connections[connection_id] = PeerConnection(self, seen)
        self.wake()
        try:
            await connection.opened()
        except asyncio.CancelledError:
            await asyncio.shield(store.disconnect(await self._open(), connection_id))
            raise
        return connection

    # For connections.

    async def send(self, connection_id: UUID, data: str) -> int:
        """Put a message into the queue of the worker; gives its number."""
        try:
            return await store.send(await self._open(), connection_id, data)
        except StoreError as error:
            if error.sqlstate in ("PGN04", "PGN05"):
                reason = self._connections[connection_id].closed_reason or "connection-error"
                raise ConnectionEnded(
                    str(error), reason=reason, code="local_closed", remedy=error.remedy
                ) from error
            raise

    async def disconnect(self, connection_id: UUID) -> None:
        """Ask the worker to end a connection."""
        await store.disconnect(await self._open(), connection_id)
        self.wake()

    def wake(self) -> None:
        """Look soon."""
        self._wake.set()

    def announce(self, name: str, *arguments: object) -> None:
        """Call the listeners of an event of the manager, without waiting for them."""
        self.spawn(self.events.emit(name, *arguments))

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something until it ends or `close` is called."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Steps.

    def _listened(self) -> None:
        """Somebody wants to hear of events: there must be something to hear."""
        self.wake()
        if self._starting is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # outside of a loop: the first call that awaits starts
            self._starting = loop.create_task(self._start())
            self._starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.error("the database cannot be listened to", exc_info=task.exception())

    async def _start(self) -> None:
        try:
            for seen in await store.look(await self._open_now(), []):
                # what was there before belongs to other programs
                self._connections.setdefault(seen.connection_id, _Foreign(self, seen))
        except BaseException:
            await self._hang_up()
            raise
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _open(self) -> Connection:
        await self.start()
        return await self._open_now()

    async def _open_now(self) -> Connection:
        """Give the connection that asks, after making both again when one was lost."""
        async with self._dialling:
            if (
                self._hands is None
                or self._ears is None
                or self._hands.lost.is_set()
                or self._ears.lost.is_set()
            ):
                await self._hang_up()
                try:
                    self._hands = await self._dial()
                    self._ears = await self._dial()
                    await self._ears.listen(["peer_event"], self._notified)
                except BaseException:
                    await self._hang_up()
                    raise
                self.spawn(self._watch(self._ears))
                self.wake()
            return self._hands

    async def _dial(self) -> Connection:
        connection = await Connection.open(self._dsn)
        try:
            await connection.value("SELECT set_config('application_name', 'pgpeer client', false)")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _watch(self, ears: Connection) -> None:
        """Dial again when nothing can be heard any more."""
        await ears.lost.wait()
        self.wake()

    async def _hang_up(self) -> None:
        hung_up, self._hands, self._ears = (self._hands, self._ears), None, None
        for one in hung_up:
            if one is not None:
                await one.close()

    def _notified(self, channel: str, pid: int, payload: str) -> None:
        if payload.isdecimal():
            self._event_ids.append(int(payload))
        self.wake()

    async def _run(self) -> None:
        """Follow the database until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._look()
            except StoreError as error:
                self.announce("error", error)
                await asyncio.sleep(RETRY_SECONDS)
                self.wake()
            try:
                async with asyncio.timeout(STALE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        """See how connections stand, and hand out what came."""
        ids, self._event_ids = self._event_ids, []
        hands = await self._open_now()
        held = list(self._connections)
        seen = {one.connection_id: one for one in await store.look(hands, held)}
        for connection_id, channel in seen.items():
            connection = self._connections.get(connection_id)
            if connection is None:
                if channel.direction == "outgoing":
                    continue  # asked for by another program, or by this one at this moment
                connection = self._connections[connection_id] = PeerConnection(self, channel)
                # not awaited: it may want to wait for messages
                self.announce("incoming_connection", connection)
            connection.follow(channel)
        if ids:
            for connection_id, phase in await store.slow_since(hands, ids):
                if connection_id in self._connections:
                    self._connections[connection_id].deliver("slow", phase)
        # before the ends: what came before them is heard before them
        await self._take(hands)
        for connection_id in held:
            found = seen.get(connection_id)
            if (found is None or found.state == "closed") and not self._connections[connection_id].is_busy:
                self._end(connection_id, found)

    async def _take(self, hands: Connection) -> None:
        while True:
            wanted = [one for one, connection in self._connections.items() if connection.takes_data]
            taken = await store.take(hands, wanted, TAKE_MESSAGES) if wanted else []
            for connection_id, _, data in taken:
                self._connections[connection_id].deliver("data", data)
            if len(taken) < TAKE_MESSAGES:
                return

    def _end(self, connection_id: UUID, seen: SeenChannel | None) -> None:
        connection = self._connections.pop(connection_id)
        if seen is None:
            connection.end("connection-error", "id_unknown", "it is not known any more")
        else:
            connection.follow(seen)
            connection.end(seen.reason or "connection-error", seen.code or "internal", seen.detail or "")


class _Foreign(PeerConnection):
    """A connection that was there before this program began; it is not this program's business."""

    def end(self, reason: str, code: str, detail: str) -> None:
        """It is over, which is nobody's news."""
