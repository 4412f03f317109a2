"""What the worker and Python programs ask and tell PostgreSQL about application connections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pgpeer.store.database import Connection

Operation = dict[str, Any]
"""One thing that happened to a connection: a JSON object for peer_internal.channel_apply."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of peer.config that is about connections; times in seconds."""

    accept: str = "invited"
    slow: float = 3.0
    connect: float = 20.0
    fail: float = 30.0
    stall: float = 180.0


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """A connection that is not closed.

    Attributes:
        state: `connecting`, `open` or `closing`.
        age: seconds since it was asked for.
        acknowledged: the last message that the other side has stored, with the hash up to it.
        received: the last message that is stored here, with the hash up to it.
        room: bytes that its inbox takes now.
        is_leaving: whether the user disconnects it.
        last_number: the last message that was sent.
    """

    connection_id: UUID
    peer_id: str
    confirm: bool
    state: str
    age: float
    acknowledged: int
    acknowledged_chain: bytes | None
    received: int
    received_chain: bytes | None
    room: int
    is_leaving: bool
    last_number: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that waits to be sent; `has_more` when there is one after it."""

    connection_id: UUID
    number: int
    data: str
    has_more: bool


@dataclass(frozen=True, slots=True)
class SeenChannel:
    """A connection as a program sees it."""

    connection_id: UUID
    peer_id: str
    label: str | None
    direction: str
    confirm: bool
    state: str
    acknowledged: int
    reason: str | None
    code: str | None
    detail: str | None


# For the worker.


async def begin(connection: Connection) -> None:
    """A worker begins: nobody is known to be online, and what is long over is forgotten."""
    await connection.value("SELECT peer_internal.channel_begin()")


async def prune(connection: Connection) -> None:
    """Forget what has been over for an hour."""
    await connection.value("SELECT peer_internal.channel_prune('1 hour')")


async def channels(connection: Connection) -> tuple[Settings, list[StoredChannel]]:
    """Give the settings and every connection that is not closed, oldest first."""
    found = json.loads(await connection.value("SELECT peer_internal.channel_list()"))
    given = found["settings"]
    settings = Settings(
        given["accept"],
        float(given["slow"]),
        float(given["connect"]),
        float(given["fail"]),
        float(given["stall"]),
    )
    return settings, [
        StoredChannel(
            UUID(item["connection"]),
            item["peer_id"],
            item["confirm"],
            item["state"],
            float(item["age"]),
            item["acknowledged"],
            _bytes(item["acknowledged_chain"]),
            item["received"],
            _bytes(item["received_chain"]),
            item["room"],
            item["farewell"],
            item["last"],
        )
        for item in found["channels"]
    ]


async def ends(connection: Connection) -> list[tuple[str, UUID, bool]]:
    """Give the connections that ended as somebody wished: peer, connection, whether it was wished here."""
    rows = await connection.fetch("SELECT * FROM peer_internal.channel_ends()")
    return [(row["peer_id"], row["connection_id"], row["was_here"]) for row in rows]


async def outgoing(connection: Connection, after: dict[UUID, int], max_bytes: int) -> list[Outgoing]:
    """Give the next messages of connections after the numbers named, up to about so many bytes of each."""
    rows = await connection.fetch(
        "SELECT connection_id, number, data, has_more FROM peer_internal.channel_outgoing($1, $2, $3)",
        list(after),
        list(after.values()),
        max_bytes,
    )
    return [Outgoing(row["connection_id"], row["number"], row["data"], row["has_more"]) for row in rows]


async def apply(connection: Connection, operations: Sequence[Operation]) -> dict[UUID, int]:
    """Store what happened, in order, all of it or nothing.

    Returns:
        For each connection that got messages, the bytes that its inbox still takes.
    """
    found = await connection.value("SELECT peer_internal.channel_apply($1::jsonb)", json.dumps(operations))
    return {UUID(name): room for name, room in json.loads(found).items()}


async def accept(
    connection: Connection, connection_id: UUID, peer_id: str, confirm: bool
) -> tuple[str | None, int]:
    """Take a connection that a peer asks for; gives the code of a refusal, or None and the inbox's room."""
    (row,) = await connection.fetch(
        "SELECT refusal, room FROM peer_internal.channel_accept($1, $2, $3)", connection_id, peer_id, confirm
    )
    return row["refusal"], row["room"] or 0


async def rooms(connection: Connection, connection_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Give the bytes that inboxes take now."""
    found = await connection.value("SELECT peer_internal.channel_rooms($1)", list(connection_ids))
    return {UUID(name): room for name, room in json.loads(found).items()}


async def set_presence(connection: Connection, peer_ids: Sequence[str]) -> None:
    """Tell who is online."""
    await connection.value("SELECT peer_internal.set_presence($1)", list(peer_ids))


# For programs.


async def online_peers(connection: Connection) -> list[tuple[str, str | None]]:
    """Give peer id and label of everybody who is online."""
    rows = await connection.fetch("SELECT peer_id, label FROM peer.online_peers()")
    return [(row["peer_id"], row["label"]) for row in rows]


async def connect(connection: Connection, peer_id: str, confirm: bool) -> UUID:
    """Ask for a connection."""
    connection_id: UUID = await connection.value("SELECT peer.connect($1, $2)", peer_id, confirm)
    return connection_id


async def send(connection: Connection, connection_id: UUID, data: str) -> int:
    """Send a message; gives its number."""
    return int(await connection.value("SELECT peer.send($1, $2)", connection_id, data))


async def disconnect(connection: Connection, connection_id: UUID) -> None:
    """End a connection."""
    await connection.value("SELECT peer.disconnect($1)", connection_id)


async def look(connection: Connection, connection_ids: Sequence[UUID]) -> list[SeenChannel]:
    """Give the connections that are not closed, and these."""
    rows = await connection.fetch("SELECT * FROM peer_internal.client_look($1)", list(connection_ids))
    return [SeenChannel(*row.values()) for row in rows]


async def take(
    connection: Connection, connection_ids: Sequence[UUID], max_messages: int
) -> list[tuple[UUID, int, str]]:
    """Take the next messages out of the inbox: connection, number and data."""
    rows = await connection.fetch(
        "SELECT connection_id, number, data FROM peer_internal.client_take($1, $2)",
        list(connection_ids),
        max_messages,
    )
    return [(row["connection_id"], row["number"], row["data"]) for row in rows]


async def slow_since(connection: Connection, event_ids: Sequence[int]) -> list[tuple[UUID, str]]:
    """Give the connections, with the phase, that these events call slow."""
    rows = await connection.fetch(
        "SELECT connection_id, phase FROM peer.event"
        " WHERE id = ANY($1) AND kind = 'connection-slow' ORDER BY id",
        list(event_ids),
    )
    return [(row["connection_id"], row["phase"] or "") for row in rows]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
