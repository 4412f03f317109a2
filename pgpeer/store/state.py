"""What the worker asks and tells PostgreSQL about this peer and the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import ConfigError, StoreError
from pgpeer.identity.peer_id import peer_id_from_public_key
from pgpeer.store.commits import vector_document
from pgpeer.store.database import Connection


@dataclass(frozen=True, slots=True)
class Standing:
    """Who the database is, at the start of a worker.

    Attributes:
        public_key: 32 bytes; None before `pgpeer init`.
        epoch: in which it numbers its commits.
        is_copy: whether it is a copy of the database whose identity it carries.
        numbers: the last own commit number in this epoch of every bundle.
    """

    public_key: bytes | None
    epoch: int
    is_copy: bool
    numbers: dict[UUID, int]


@dataclass(frozen=True, slots=True)
class BundleState:
    """A bundle as the worker sees it.

    Attributes:
        is_auto: whether the worker commits its changes.
        has_changes: whether uncommitted changes wait for the worker.
        has_unsigned: whether commits wait for their signature.
        has_due: whether commits may wait for a merge.
        is_joining: whether it is not filled yet.
    """

    bundle_id: UUID
    name: str
    is_auto: bool
    has_changes: bool
    has_unsigned: bool
    has_due: bool
    is_joining: bool


@dataclass(frozen=True, slots=True)
class IceEntry:
    """A row of peer.stun_server."""

    url: str
    username: str | None
    credential: str | None


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """An invite that this database follows; `expires` in unix seconds."""

    request_id: UUID
    invite_id: UUID
    bundle_id: UUID
    name: str
    inviter: str
    secret: str
    expires: float

    def __repr__(self) -> str:
        return f"JoinRequest({self.request_id}, {self.name!r}, {self.inviter})"


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the worker acts on, as it was at one moment; times in seconds.

    Attributes:
        members: peer id → bundle → role, of active members other than this database.
        has_invites: whether strangers may come with an invite.
    """

    label: str = ""
    connect_timeout: float = 20.0
    reconnect_delay_max: float = 30.0
    hubs: tuple[str, ...] = ()
    ice: tuple[IceEntry, ...] = ()
    bundles: dict[UUID, BundleState] = field(default_factory=dict)
    members: dict[str, dict[UUID, str]] = field(default_factory=dict)
    joins: tuple[JoinRequest, ...] = ()
    has_invites: bool = False

    def shared_with(self, peer_id: str) -> dict[UUID, str]:
        """The bundles that a peer may exchange with this database, with its role."""
        shared = self.members.get(peer_id, {})
        return {bundle_id: role for bundle_id, role in shared.items() if bundle_id in self.bundles}

    def joins_at(self, peer_id: str) -> list[JoinRequest]:
        """The open requests to join that this peer must answer."""
        return [join for join in self.joins if join.inviter == peer_id]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The counters of one connection; `rtt` in seconds."""

    connection_id: UUID
    bytes_sent: int
    bytes_received: int
    rtt: float | None


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to a peer that presented an invite; the rest counts when `outcome` is `accepted`."""

    outcome: str
    bundle_id: UUID | None
    name: str
    commit_mode: str
    role: str


async def take_lock(connection: Connection) -> None:
    """Become the one worker of this database, for as long as the connection lives.

    Raises:
        StoreError: pgpeer is not installed here, or another worker runs.
    """
    if await connection.value("SELECT to_regprocedure('peer_internal.worker_begin()') IS NULL"):
        raise StoreError(
            "pgpeer is not installed in this database, or in an older version.",
            remedy="Run: pgpeer init --dsn …",
            code="not_installed",
        )
    if not await connection.value("SELECT peer_internal.try_worker_lock()"):
        raise StoreError(
            "Another worker already serves this database.",
            remedy="Nothing is to be done; to replace it, stop the other one first.",
            code="worker_runs",
        )


async def prepare_for_merging(connection: Connection) -> None:
    """Make a connection one that merges only: its writes fire no triggers, as merges need.

    Merging sets this for itself. But a change of the setting makes PostgreSQL plan all statements of the
    connection again, which costs more than the merge of a small commit.
    """
    try:
        await connection.value("SELECT set_config('session_replication_role', 'replica', false)")
    except StoreError as error:
        if error.sqlstate != "42501":
            raise
        # without the right the commits are held with that reason, and peer.problem tells


async def begin(connection: Connection) -> Standing:
    """Clear what an earlier worker left and give who this database is."""
    found = json.loads(await connection.value("SELECT peer_internal.worker_begin()"))
    key = found["public_key"]
    return Standing(
        None if key is None else bytes.fromhex(key),
        found["epoch"] or 0,
        found["is_copy"],
        {UUID(item["bundle"]): item["seq"] for item in found["bundles"]},
    )


async def end(connection: Connection) -> None:
    """The worker stops: list no links, and let writers notify again."""
    await connection.value("SELECT peer_internal.worker_end()")


async def set_awake(connection: Connection, awake: bool) -> int:
    """While awake, writers do not notify. Gives a transaction id; lesser ones may not have seen it."""
    return int(await connection.value("SELECT peer_internal.set_worker_awake($1)", awake))


async def oldest_transaction(connection: Connection) -> int:
    """Give a transaction id; all lesser ones are over."""
    return int(await connection.value("SELECT peer_internal.oldest_transaction()"))


async def renew_epoch(connection: Connection) -> int:
    """Go on in a new epoch, which is returned; unsigned commits are authored again."""
    return int(await connection.value("SELECT peer_internal.renew_epoch()"))


async def look(connection: Connection, traffic: Sequence[Traffic]) -> View:
    """Store the counters of connections and give the present view."""
    counters = [
        {
            "connection_id": str(one.connection_id),
            "bytes_sent": one.bytes_sent,
            "bytes_received": one.bytes_received,
            "rtt": one.rtt,
        }
        for one in traffic
    ]
    text = await connection.value(
        "SELECT peer_internal.worker_look($1::jsonb)", json.dumps(counters) if counters else None
    )
    return _view(json.loads(text))


async def announce(
    connection: Connection,
    kind: str,
    *,
    peer_id: str | None = None,
    bundle: str | None = None,
    connection_id: UUID | None = None,
    phase: str | None = None,
    code: str | None = None,
    retryable: bool | None = None,
    detail: str | None = None,
    hint: str | None = None,
) -> None:
    """Write an event."""
    await connection.value(
        "SELECT peer_internal.announce($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        kind,
        peer_id,
        bundle,
        connection_id,
        phase or None,
        code,
        retryable,
        detail,
        hint or None,
    )


async def report_problem(
    connection: Connection, kind: str, subject: str, detail: str, remedy: str, bundle_id: UUID | None = None
) -> None:
    """List a problem until it is cleared."""
    await connection.value(
        "SELECT peer_internal.report_problem($1, $2, $3, $4, $5)", kind, subject, detail, remedy, bundle_id
    )


async def clear_problem(connection: Connection, kind: str, subject: str) -> None:
    """A problem is over."""
    await connection.value("SELECT peer_internal.clear_problem($1, $2)", kind, subject)


async def connected(
    connection: Connection, connection_id: UUID, peer_id: str, label: str, direction: str, path: Sequence[str]
) -> None:
    """List a link; `path` is path, engine, local and remote candidate."""
    await connection.value(
        "SELECT peer_internal.worker_connected($1, $2, $3, $4, $5, $6, $7, $8)",
        connection_id,
        peer_id,
        label,
        direction,
        *path,
    )


async def disconnected(
    connection: Connection, connection_id: UUID, code: str, phase: str, retryable: bool, detail: str
) -> None:
    """A link is gone."""
    await connection.value(
        "SELECT peer_internal.worker_disconnected($1, $2, $3, $4, $5)",
        connection_id,
        code,
        phase or None,
        retryable,
        detail,
    )


async def acknowledged(connection: Connection, known: dict[tuple[UUID, str], Sequence[VectorEntry]]) -> None:
    """Remember what peers have merged durably, by bundle and peer id."""
    await connection.value(
        "SELECT peer_internal.worker_acknowledged($1::jsonb)",
        json.dumps(
            [
                {"bundle": str(bundle_id), "peer_id": peer_id, "vector": vector_document(entries)}
                for (bundle_id, peer_id), entries in known.items()
            ]
        ),
    )


async def redeem_invite(
    connection: Connection, invite_id: UUID, secret: bytes, public_key: bytes, label: str
) -> Admission:
    """A peer presents an invite; an accepted peer is a member on return."""
    rows = await connection.fetch(
        "SELECT * FROM peer_internal.redeem_invite($1, $2, $3, $4)",
        invite_id,
        secret.hex(),
        public_key,
        label,
    )
    row = rows[0]
    return Admission(
        row["outcome"],
        row["bundle_id"],
        row["name"] or "",
        row["commit_mode"] or "",
        row["role"] or "",
    )


async def join_accepted(
    connection: Connection,
    request_id: UUID,
    name: str,
    commit_mode: str,
    inviter_label: str,
    goal: Sequence[VectorEntry],
) -> None:
    """The inviter took this database in: make room for the bundle."""
    await connection.value(
        "SELECT peer_internal.worker_join_accepted($1, $2, $3, $4, $5::jsonb)",
        request_id,
        name,
        commit_mode,
        inviter_label,
        json.dumps(vector_document(goal)),
    )


async def join_failed(connection: Connection, request_id: UUID, code: str, detail: str, hint: str) -> None:
    """A request to join is over for good."""
    await connection.value(
        "SELECT peer_internal.worker_join_failed($1, $2, $3, $4)", request_id, code, detail, hint
    )


async def join_reached(connection: Connection, bundle_id: UUID) -> bool:
    """Announce a bundle as joined when it is filled; True when nothing is left to wait for."""
    return bool(await connection.value("SELECT peer_internal.worker_join_reached($1)", bundle_id))


def _view(found: dict[str, Any]) -> View:
    config = found["config"]
    if config is None:
        raise ConfigError("peer.config has no row.", remedy="INSERT INTO peer.config DEFAULT VALUES;")
    members: dict[str, dict[UUID, str]] = {}
    for item in found["members"]:
        members.setdefault(item["peer_id"], {})[UUID(item["bundle"])] = item["role"]
    bundles = [
        BundleState(
            UUID(item["id"]),
            item["name"],
            item["mode"] == "auto",
            item["changed"],
            item["unsigned"],
            item["due"],
            item["joining"],
        )
        for item in found["bundles"]
    ]
    return View(
        label=config["label"],
        connect_timeout=float(config["connect_timeout"]),
        reconnect_delay_max=float(config["reconnect_delay_max"]),
        hubs=tuple(found["hubs"]),
        ice=tuple(IceEntry(item["url"], item["username"], item["credential"]) for item in found["ice"]),
        bundles={bundle.bundle_id: bundle for bundle in bundles},
        members=members,
        joins=tuple(_join(item) for item in found["joins"]),
        has_invites=found["invites"],
    )


def _join(item: dict[str, Any]) -> JoinRequest:
    return JoinRequest(
        UUID(item["request"]),
        UUID(item["invite"]),
        UUID(item["bundle"]),
        item["name"],
        peer_id_from_public_key(bytes.fromhex(item["inviter"])),
        item["secret"] or "",
        float(item["expires"]),
    )
