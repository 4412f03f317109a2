"""Two postmen, each on a real database, with a link between them in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from fixtures.databases import Database

from pgpeer.errors import LinkClosed, RemoteProtocolError
from pgpeer.store.database import Connection
from pgpeer.worker.postman import Postman


class Pipe:
    """One direction of a link: carries messages in order, a moment later."""

    def __init__(self, sender: str, receiver: Office) -> None:
        self._sender = sender
        self._receiver = receiver
        self.back: Pipe
        self.is_open = True
        self.carried = 0

    async def send_channel(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if not self.is_open:
            raise LinkClosed("The link was cut.")
        self.carried += 1
        try:
            self._receiver.postman.received(self._sender, self.back, data)
        except RemoteProtocolError as error:
            raise AssertionError("two honest sides") from error


class Office:
    """A database with its postman."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sql = database.connect()
        self._stack = AsyncExitStack()
        self.postman: Postman
        self.pipe: Pipe | None = None

    @property
    def peer_id(self) -> str:
        return self.database.peer_id

    async def start(self) -> None:
        connection = await Connection.open(self.database.dsn)
        self._stack.push_async_callback(connection.close)
        await connection.value("SELECT peer_internal.try_worker_lock()")
        ears = await Connection.open(self.database.dsn)
        self._stack.push_async_callback(ears.close)
        self.postman = Postman(connection)
        await ears.listen(["pgpeer_channel"], lambda _channel, _pid, payload: self.postman.notified(payload))
        await self.postman.begin()
        task = asyncio.get_running_loop().create_task(self.postman.run())

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        self._stack.push_async_callback(end)

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    def one(self, query: str, *arguments: object) -> Any:
        row = self.sql.execute(query.encode(), arguments or None).fetchone()
        return None if row is None else row[0]

    def all(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self.sql.execute(query.encode(), arguments or None).fetchall()

    async def until(self, query: str, *arguments: object, seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not self.one(query, *arguments):  # noqa: ASYNC110 - the database does not call back
                await asyncio.sleep(0.02)

    async def until_state(self, connection_id: object, state: str) -> None:
        await self.until(
            "SELECT EXISTS (SELECT FROM peer_internal.channel WHERE connection_id = %s AND state = %s)",
            connection_id,
            state,
        )

    def inbox(self) -> list[str]:
        return [data for (data,) in self.all("SELECT data FROM peer.message ORDER BY connection_id, number")]


def link(ann: Office, bob: Office) -> None:
    """Put a new link in the place of the one before."""
    cut(ann, bob)
    to_bob, to_ann = Pipe(ann.peer_id, bob), Pipe(bob.peer_id, ann)
    to_bob.back, to_ann.back = to_ann, to_bob
    ann.pipe, bob.pipe = to_bob, to_ann
    ann.postman.link_up(bob.peer_id, to_bob)
    bob.postman.link_up(ann.peer_id, to_ann)


def cut(ann: Office, bob: Office) -> None:
    """Cut the link; what is on its way is lost."""
    for here, there in ((ann, bob), (bob, ann)):
        if here.pipe is not None:
            here.pipe.is_open = False
            here.postman.link_down(there.peer_id, here.pipe)
            here.pipe = None


@asynccontextmanager
async def pair(make_database: Callable[..., Database]) -> AsyncIterator[tuple[Office, Office]]:
    """Two running offices that take connections of anybody."""
    ann, bob = Office(make_database("ann")), Office(make_database("bob"))
    for office in (ann, bob):
        office.sql.execute("UPDATE peer.config SET accept = 'open'")
        await office.start()
    try:
        yield ann, bob
    finally:
        await ann.stop()
        await bob.stop()


def connect(ann: Office, bob: Office, *, confirm: bool = False) -> psycopg.types.TypeInfo | Any:
    return ann.one("SELECT peer.connect(%s, %s)", bob.peer_id, confirm)
