"""Notices between the processes of one hub, over LISTEN and NOTIFY; long ones go through a table."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import Final

from pgpeer.errors import StoreError
from pgpeer.hub.store import (
    Elsewhere,
    FateNotice,
    MailNotice,
    NamespaceNotice,
    Notice,
    PresenceNotice,
    SignalNotice,
)
from pgpeer.store.database import Connection, Row

ALL_CHANNEL: Final = "hub_all"
_LONG: Final = "SELECT body FROM hub.notice WHERE notice = $1"
Fetch = Callable[..., Awaitable[list[Row]]]


def channel_of(process: int) -> str:
    """Give the channel on which one process listens."""
    return f"hub_{process}"


class Bus:
    """The listening connection of a process; notices are handed on one after the other."""

    def __init__(self, dsn: str, fetch: Fetch, hear: Callable[[Notice], None]) -> None:
        """Prepare; nothing is opened yet.

        Args:
            dsn: the database.
            fetch: runs a statement there on another connection.
            hear: takes notices, in their order.
        """
        self._dsn = dsn
        self._fetch = fetch
        self._hear = hear
        self._connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, channels: tuple[str, ...]) -> None:
        """Listen on these channels, in place of an earlier connection.

        Raises:
            StoreError: the database cannot be reached.
        """
        await self.close()
        arrived: asyncio.Queue[str] = asyncio.Queue()
        connection = self._connection = await Connection.open(self._dsn)
        await connection.fetch("SET application_name = 'pgpeer hub bus'")
        await connection.listen(channels, lambda _channel, _pid, payload: arrived.put_nowait(payload))
        self._reader = asyncio.create_task(self._read(arrived, connection))

    async def lost(self) -> None:
        """Wait until the connection is over."""
        if self._connection is not None:
            await self._connection.lost.wait()

    async def close(self) -> None:
        """Listen no longer. Twice does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        if self._connection is not None:
            await self._connection.close()

    async def _read(self, arrived: asyncio.Queue[str], connection: Connection) -> None:
        while True:
            payload = await arrived.get()
            if payload.startswith("#"):
                try:
                    rows = await self._fetch(_LONG, int(payload[1:]))
                except StoreError:
                    await connection.close()  # a notice was missed: begin anew
                    return
                if not rows:
                    continue  # its minute is over: this process was far behind
                payload = rows[0]["body"]
            try:
                notice = _read(json.loads(payload))
            except (ValueError, KeyError, TypeError):
                await connection.close()  # it cannot be read, so something was missed: begin anew
                return
            if notice is not None:
                self._hear(notice)

    @staticmethod
    def write(notice: SignalNotice | FateNotice) -> str:
        """Give the text of a notice for one process."""
        match notice:
            case SignalNotice(process, number, sender, to, sid, box):
                written = {
                    "k": "signal",
                    "p": process,
                    "n": number,
                    "from": sender,
                    "to": to,
                    "sid": sid,
                    "box": b64encode(box).decode("ascii"),
                }
            case FateNotice(number, fate):
                written = {"k": "fate", "n": number, "fate": fate}
        return json.dumps(written)


def _read(fields: dict[str, object]) -> Notice | None:
    """Read a notice; None for one of a later version. Who may write to the database is trusted."""
    match fields:
        case {"k": "ns", "ns": str(namespace), "peer": str(peer_id), "record": record}:
            return NamespaceNotice(namespace, peer_id, b64decode(record) if isinstance(record, str) else None)
        case {"k": "mail", "peer": str(peer_id)}:
            return MailNotice(peer_id)
        case {"k": "presence", "p": int(process), "on": list(online), "off": list(offline)}:
            arrived = {peer: Elsewhere(process, session, label) for peer, session, label in online}
            return PresenceNotice(process, arrived, offline)
        case {"k": "signal", "p": int(process), "n": int(number), "from": str(sender), "to": str(to), **rest}:
            return SignalNotice(process, number, sender, to, str(rest["sid"]), b64decode(str(rest["box"])))
        case {"k": "fate", "n": int(number), "fate": str(fate)}:
            return FateNotice(number, fate)
    return None
