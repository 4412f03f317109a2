"""The state of a hub in PostgreSQL: durable, and shared by all processes that serve one community."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pgpeer.errors import StoreError
from pgpeer.hub.bus import ALL_CHANNEL, Bus, channel_of
from pgpeer.hub.refusals import full_mailbox, older_record, same_number, too_many_namespaces, unreachable
from pgpeer.hub.store import Elsewhere, FateNotice, Kept, Listed, Notice, SignalNotice
from pgpeer.signaling.limits import HubLimits
from pgpeer.store.database import Connection, Row
from pgpeer.store.transaction import transaction

CONNECTIONS: Final = 6
"""For requests; one more listens."""

RETRY_SECONDS: Final = 1.0
ATTEMPTS: Final = 3
_SCHEMA: Final = Path(__file__).with_name("schema.sql")
_LOCK: Final = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgpeer/hub/install', 0))"


def install_schema(dsn: str) -> str:
    """Make or upgrade the schema `hub` in a database, and give the hub's id. Again changes nothing.

    Raises:
        StoreError: the database cannot be reached, or the role may not create the schema.
    """
    text = _SCHEMA.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    with transaction(dsn) as connection:
        connection.execute("SET search_path = pg_catalog, pg_temp")
        connection.execute(_LOCK)
        there = connection.execute("SELECT to_regclass('hub.community')").fetchone()
        if there is not None and there[0] is not None:
            row = connection.execute("SELECT hub_id, schema_digest FROM hub.community").fetchone()
            if row is not None and row[1] == digest:
                return str(row[0])
        connection.execute(text.encode())
        row = connection.execute(
            "INSERT INTO hub.community (hub_id, schema_digest) VALUES (%s, %s)"
            " ON CONFLICT (one_row) DO UPDATE SET schema_digest = excluded.schema_digest RETURNING hub_id",
            [secrets.token_hex(16), digest],
        ).fetchone()
        assert row is not None
        return str(row[0])


class PostgresStore:
    """Keeps the hub's state in a database. See `HubStore`.

    When the database is lost, requests are refused until it is back; presence at this process, signals and
    circuits go on. Then `lost` is called, for the other processes may have forgotten this one meanwhile.
    """

    durable = True

    def __init__(self, dsn: str, limits: HubLimits) -> None:
        """Prepare; nothing is opened yet.

        Args:
            dsn: the database; its schema `hub` is made when it is not there.
            limits: how much is kept.
        """
        self.limits = limits
        self.hub_id = ""
        self.process = 0
        self._dsn = dsn
        self._url = ""
        self._turns = asyncio.Semaphore(CONNECTIONS)  # a queue would let newcomers pass those who wait
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._bus: Bus | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost: Callable[[], None] = lambda: None
        self._mail_bytes = 0
        self._former: list[int] = []
        self.reachable = False

    async def open(self, url: str, hear: Callable[[Notice], None], lost: Callable[[], None]) -> None:
        """Begin: install the schema, enter this process, listen.

        Raises:
            StoreError: the database cannot be reached, or the role may not create the schema.
        """
        self._url, self._lost = url, lost
        self.hub_id = await asyncio.to_thread(install_schema, self._dsn)
        self._bus = Bus(self._dsn, self._fetch, hear)
        await self._enter()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End: this process' peers are offline for the others. Twice does nothing."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if self.reachable:
            try:
                await self._fetch("SELECT hub.leave($1)", self.process)
            except StoreError:
                pass  # the others find out by the clock
        self.reachable = False
        if self._bus is not None:
            await self._bus.close()
        for connection in list(self._connections):
            await connection.close()
        self._connections.clear()

    async def register(self, namespace: str, peer_id: str, seq: int, record: bytes, seconds: int) -> None:
        """List a peer in a namespace, in place of an older record."""
        arguments = (namespace, peer_id, seq, record, float(seconds), self.limits.namespaces)
        (row,) = await self._request("SELECT hub.register($1, $2, $3, $4, $5, $6)", *arguments)
        match row[0]:
            case "older":
                raise older_record()
            case "same_number":
                raise same_number()
            case "quota":
                raise too_many_namespaces(self.limits.namespaces)

    async def unregister(self, namespace: str, peer_id: str) -> None:
        """List a peer there no longer."""
        await self._request("SELECT hub.unregister($1, $2)", namespace, peer_id)

    async def discover(self, namespace: str, after: int, limit: int) -> list[Listed]:
        """Give registrations in the order of their change."""
        rows = await self._request(
            "SELECT position, peer_id, record FROM hub.registration"
            " WHERE namespace = $1 AND position > $2 AND expires_at > clock_timestamp()"
            " ORDER BY position LIMIT $3",
            namespace,
            after,
            limit,
        )
        return [Listed(row["position"], row["peer_id"], row["record"]) for row in rows]

    async def post(self, sender: str, to: str, box: bytes, seconds: int) -> int:
        """Keep a box and give its number."""
        limits = self.limits
        if self._mail_bytes + len(box) > limits.mail_total_bytes:
            raise full_mailbox()
        (row,) = await self._request(
            "SELECT hub.post($1, $2, $3, $4, $5, $6, $7, $8)",
            sender,
            to,
            box,
            float(seconds),
            limits.mailbox_messages,
            limits.mailbox_bytes,
            limits.mailbox_messages_per_sender,
            limits.mail_sent_per_peer,
        )
        if row[0] is None:
            raise full_mailbox()
        self._mail_bytes += len(box)
        return int(row[0])

    async def mail_for(self, peer_id: str, after: int, limit: int) -> list[Kept]:
        """Give boxes of a peer, oldest first."""
        rows = await self._request(
            "SELECT mail, sender, extract(epoch FROM sent_at)::bigint AS sent_at, box FROM hub.mail"
            " WHERE recipient = $1 AND mail > $2 AND expires_at > clock_timestamp() ORDER BY mail LIMIT $3",
            peer_id,
            after,
            limit,
        )
        return [Kept(row["mail"], row["sender"], row["sent_at"], row["box"]) for row in rows]

    async def take(self, peer_id: str, mails: Sequence[int]) -> None:
        """Forget these boxes of a peer."""
        await self._request(
            "DELETE FROM hub.mail WHERE recipient = $1 AND mail = ANY ($2::bigint[])", peer_id, list(mails)
        )

    async def announce(self, online: Mapping[str, str], offline: Sequence[str]) -> Mapping[str, int]:
        """Tell the other processes who came (with labels) and who left; gives the sessions of who came."""
        rows = await self._request(
            "SELECT peer_id, session FROM hub.announce($1, $2, $3, $4)",
            self.process,
            list(online),
            list(online.values()),
            list(offline),
        )
        while self._former:  # who is still here has been announced anew
            await self._request("SELECT hub.leave($1)", self._former[-1])
            self._former.pop()
        return {row["peer_id"]: row["session"] for row in rows}

    async def presence(self) -> Mapping[str, Elsewhere]:
        """Give who is online at the other processes."""
        rows = await self._request(
            "SELECT peer_id, process, session, label FROM hub.presence WHERE process <> $1", self.process
        )
        return {row["peer_id"]: Elsewhere(row["process"], row["session"], row["label"]) for row in rows}

    async def url_of(self, process: int) -> str:
        """Give the URL at which clients reach another process; empty when there is none."""
        rows = await self._request("SELECT url FROM hub.process WHERE process = $1", process)
        return str(rows[0]["url"]) if rows else ""

    async def send(self, process: int, notice: SignalNotice | FateNotice) -> None:
        """Give a notice to another process."""
        written = Bus.write(notice)
        await self._request("SELECT hub.notify($1, $2::jsonb)", channel_of(process), written)

    async def sweep(self) -> None:
        """Forget what has expired, and processes that died; come back when we were taken for dead."""
        (row,) = await self._request("SELECT alive, mail_bytes FROM hub.sweep($1)", self.process)
        self._mail_bytes = int(row["mail_bytes"])
        if not row["alive"]:
            self.reachable = False  # the keeper enters this process anew
            if self._bus is not None:
                await self._bus.close()

    async def _enter(self) -> None:
        assert self._bus is not None
        entered = int((await self._fetch("SELECT hub.begin($1)", self._url))[0][0])
        if self.process:
            self._former.append(self.process)
        self.process = entered
        await self._bus.open((ALL_CHANNEL, channel_of(self.process)))
        self.reachable = True

    async def _keep(self) -> None:
        """Come back whenever the listening connection is lost, and say so."""
        assert self._bus is not None
        while True:
            await self._bus.lost()
            self.reachable = False
            while not self.reachable:
                await asyncio.sleep(RETRY_SECONDS)
                try:
                    await self._enter()
                except StoreError:
                    await self._bus.close()
            self._lost()

    async def _request(self, query: str, *arguments: object) -> list[Row]:
        """Run a statement for a client or the server; HubError when the database cannot be reached."""
        if not self.reachable:
            raise unreachable()
        try:
            return await self._fetch(query, *arguments)
        except StoreError as error:
            raise unreachable() from error

    async def _fetch(self, query: str, *arguments: object) -> list[Row]:
        for attempt in range(ATTEMPTS):
            try:
                async with self._connection() as connection:
                    return await connection.fetch(query, *arguments)
            except StoreError as error:
                if not error.retryable or error.code == "unreachable" or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in turn, made when there is none idle or that was lost."""
        async with self._turns:
            connection = self._idle.pop() if self._idle else None
            if connection is not None and connection.lost.is_set():
                self._connections.discard(connection)
                connection = None
            if connection is None:
                connection = await Connection.open(self._dsn)
                self._connections.add(connection)
                await connection.fetch("SET application_name = 'pgpeer hub'")
            try:
                yield connection
            finally:
                self._idle.append(connection)
