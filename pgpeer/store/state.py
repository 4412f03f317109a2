"""What the worker asks and tells PostgreSQL about this peer and the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import StoreError
from pgpeer.store.commits import vector_document
from pgpeer.store.database import Connection

MIXED_STATES: Final = frozenset({"26000", "42P05", "08P01", "34000"})
"""A prepared statement is missing or there already: another connection used the session in between."""

FORMER_SECONDS: Final = 5
"""So long the sessions of a former worker may take to end."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who the database is, at the start of a worker.

    Attributes:
        public_key: 32 bytes; None before `pgpeer init`.
        epoch: in which it numbers its commits.
        is_copy: whether it is a copy of the database whose identity it carries.
        numbers: the last own commit number in this epoch of every bundle, signed or not.
        signed: the same of commits that are signed, which others may have.
        is_ahead: whether its clock was ahead of other members' and may be so still.
    """

    public_key: bytes | None
    epoch: int
    is_copy: bool
    numbers: dict[UUID, int]
    signed: dict[UUID, int]
    is_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to a peer that presented an invite; the rest counts when `outcome` is `accepted`."""

    outcome: str
    bundle_id: UUID | None
    name: str
    commit_mode: str
    role: str


async def check_sessions(connections: Sequence[Connection]) -> None:
    """Refuse connections that share sessions of the server.

    Args:
        connections: at least two, on which nothing was done yet.

    Raises:
        StoreError: a pooler gives a session to each transaction (code `pooled`).
    """
    try:
        marks = [
            await one.value(
                "SELECT pg_backend_pid() || set_config('pgpeer.session', $1, false)", f"/{number}"
            )
            for number, one in enumerate(connections)
        ]
        found = [
            await one.value("SELECT pg_backend_pid() || current_setting('pgpeer.session')")
            for one in connections
        ]
        is_pooled = marks != found or len({one.partition("/")[0] for one in marks}) < len(marks)
    except StoreError as error:
        if error.sqlstate not in MIXED_STATES:
            raise
        is_pooled = True
    if is_pooled:
        raise StoreError(
            "The database is reached through a pooler that gives sessions to single transactions.",
            remedy="Give the address of the server itself, or of a pool in session mode (PgBouncer: "
            "pool_mode = session).",
            code="pooled",
        )


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


async def enter_sessions(desk: Connection, others: Sequence[Connection]) -> None:
    """Make further connections ones of the worker, once those of a former worker are over.

    Args:
        desk: the connection that called `take_lock`.
        others: the worker's other connections.

    Raises:
        StoreError: sessions of a former worker go on (code `worker_runs`).
    """
    for _ in range(FORMER_SECONDS * 10):
        if await desk.value("SELECT peer_internal.no_worker_session()"):
            break
        await asyncio.sleep(0.1)
    else:
        raise StoreError(
            "A former worker of this database has not ended all its sessions yet.",
            remedy="Wait a moment, or end them: SELECT peer_internal.end_worker_sessions();",
            code="worker_runs",
            retryable=True,
        )
    for connection in others:
        # what the server said at the start may be the number of a pooler
        connection.pid = await connection.value("SELECT peer_internal.enter_worker_session()")


async def is_unserved(connection: Connection) -> bool:
    """Tell whether no worker serves the database."""
    return bool(await connection.value("SELECT NOT EXISTS (SELECT FROM peer_internal.worker_sessions())"))


async def end_sessions(connection: Connection) -> int:
    """End the sessions of a worker that hangs; gives how many.

    Raises:
        StoreError: this role may not.
    """
    return int(await connection.value("SELECT peer_internal.end_worker_sessions()"))


async def notify(connection: Connection, channel: str) -> None:
    """Notify a channel, without more."""
    await connection.value("SELECT pg_notify($1, '')", channel)


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
        {UUID(item["bundle"]): item["signed"] for item in found["bundles"]},
        found["is_ahead"],
    )


async def arrive(connection: Connection, place: str) -> bool:
    """Tell from where the database is served; True when it was served before, but never from there."""
    return bool(await connection.value("SELECT peer_internal.worker_arrive($1)", place))


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


async def path_changed(
    connection: Connection, connection_id: UUID, path: Sequence[str], rtt_seconds: float | None
) -> None:
    """A link goes on over another path; `path` as for `connected`. One that is not listed is let be."""
    await connection.value(
        "SELECT peer_internal.worker_path_changed($1, $2, $3, $4, $5, $6)", connection_id, *path, rtt_seconds
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


async def redate(connection: Connection, bundle_id: UUID) -> int:
    """Date the unsigned commits of a bundle anew, after the clock was corrected; gives how many changed."""
    return int(await connection.value("SELECT peer_internal.worker_redate($1)", bundle_id))


async def members_told(
    connection: Connection, bundle_id: UUID, teller: str, members: Sequence[tuple[str, str]]
) -> int:
    """A member tells who the others are, as (peer id, role); gives how many are new here."""
    return int(
        await connection.value(
            "SELECT peer_internal.worker_members_told($1, $2, $3::text[], $4::text[])",
            bundle_id,
            teller,
            [peer_id for peer_id, _ in members],
            [role for _, role in members],
        )
    )


async def diagnosed(connection: Connection, report: str) -> None:
    """Keep what the worker says about its process, a JSON object."""
    await connection.value("SELECT peer_internal.worker_diagnosed($1::jsonb)", report)
