"""What the worker asks PostgreSQL about commits: seal, sign, send, receive, merge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pgpeer.commit.header import Header
from pgpeer.commit.vector import VectorEntry
from pgpeer.store.database import Connection, Row

CARRIED_BYTES: Final = 64 * 1024
"""A sealed commit up to this size comes with its sections, so that it can be sent without asking again."""

PAGE_COMMITS: Final = 64


@dataclass(frozen=True, slots=True)
class OwnCommit:
    """A commit made here that waits for its signature.

    Attributes:
        position: its place in the order in which commits were merged here.
        position_before: the place of the commit before it in its bundle; 0 for the first.
        data: its sections when it is small, else None.
    """

    digest: bytes
    epoch: int
    seq: int
    position: int
    position_before: int
    header: bytes
    section_count: int
    data: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class SignedCommit:
    """A merged commit that may be sent; the positions and `data` are as in `OwnCommit`."""

    position: int
    digest: bytes
    header: bytes
    signature: bytes
    section_count: int
    position_before: int = 0
    data: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReceivedCommit:
    """A verified commit from a peer with all its sections."""

    digest: bytes
    header: Header
    encoded: bytes
    signature: bytes
    data: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A commit that could not be merged.

    Attributes:
        detail: why, for people.
        kind: of the row in `peer.problem`.
        author: its peer id.
        is_new: whether it is held since this moment; otherwise it was tried again.
    """

    detail: str
    kind: str
    author: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge did.

    Attributes:
        count: how many commits were merged.
        held: what could not be merged.
        is_more: whether it stopped because it had done enough.
        vector: what is merged now; None when nothing was added.
        has_unsigned: whether commits wait for their signature.
    """

    count: int
    held: tuple[Held, ...]
    is_more: bool
    vector: tuple[VectorEntry, ...] | None
    has_unsigned: bool


async def seal(connection: Connection, bundle_id: UUID) -> list[OwnCommit]:
    """Commit what has changed in a bundle and give its unsigned commits in order, also older ones."""
    rows = await connection.fetch("SELECT * FROM peer_internal.worker_seal($1, $2)", bundle_id, CARRIED_BYTES)
    return [_own(row) for row in rows]


async def unsigned(connection: Connection, bundle_id: UUID) -> list[OwnCommit]:
    """Give the unsigned commits of a bundle in order, at most a hundred."""
    rows = await connection.fetch("SELECT * FROM peer_internal.worker_unsigned($1)", bundle_id)
    return [_own(row) for row in rows]


async def attach_signatures(
    connection: Connection, digests: Sequence[bytes], signatures: Sequence[bytes]
) -> None:
    """Store signatures; durable on return, as is everything that was sealed before."""
    await connection.value(
        "SELECT peer_internal.worker_sign($1::bytea[], $2::bytea[])", list(digests), list(signatures)
    )


async def page(
    connection: Connection, bundle_id: UUID, vector: str, after: int
) -> tuple[list[SignedCommit], int]:
    """Give the next commits that a peer with this vector (JSON) lacks, merged here after a position.

    Returns:
        The commits, and the position up to which the peer lacks nothing else.
    """
    rows = await connection.fetch(
        "SELECT * FROM peer_internal.worker_page($1, $2::jsonb, $3, $4)",
        bundle_id,
        vector,
        after,
        PAGE_COMMITS,
    )
    found = [
        SignedCommit(row["position"], row["digest"], row["header"], row["signature"], row["section_count"])
        for row in rows
        if row["digest"] is not None
    ]
    return found, rows[-1]["position"]


async def section(connection: Connection, digest: bytes, section_no: int) -> bytes:
    """Give the bytes of one section, counting from 1."""
    data = await connection.value("SELECT peer_internal.section_data($1, $2)", digest, section_no)
    return str(data).encode()


async def vector(connection: Connection, bundle_id: UUID, which: str) -> tuple[VectorEntry, ...]:
    """Give the version vector of what is `merged` or `stored` here."""
    text = await connection.value("SELECT peer_internal.vector_json($1, $2)", bundle_id, which)
    return vector_of(json.loads(text))


async def is_known(connection: Connection, digest: bytes) -> bool:
    """Tell whether a commit is here."""
    found = await connection.value(
        "SELECT EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.digest = $1)", digest
    )
    return bool(found)


async def incomplete(connection: Connection, bundle_id: UUID) -> dict[bytes, list[int]]:
    """Give the sections that are here of commits that are not complete."""
    rows = await connection.fetch("SELECT * FROM peer_internal.worker_incomplete($1)", bundle_id)
    return {row["digest"]: row["section_nos"] for row in rows}


async def receive_header(connection: Connection, commit: ReceivedCommit) -> str:
    """Store a verified header without its sections; gives `new`, `incomplete` or `known`."""
    header = commit.header
    outcome = await connection.value(
        "SELECT peer_internal.receive_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb)",
        header.bundle_id,
        commit.digest,
        commit.encoded,
        commit.signature,
        header.author,
        header.epoch,
        header.seq,
        header.previous,
        list(header.parents),
        header.hlc,
        header.schema,
        header.message,
        json.dumps(_sections(header)),
    )
    return str(outcome)


async def receive_section(connection: Connection, digest: bytes, section_no: int, data: str) -> None:
    """Store one section of a commit whose header is here."""
    await connection.value("SELECT peer_internal.receive_section($1, $2, $3)", digest, section_no, data)


async def receive(
    connection: Connection, bundle_id: UUID, received: Sequence[ReceivedCommit], merge_commits: int
) -> Merged | None:
    """Store whole commits and merge at most so many in one transaction; None with `merge_commits` 0."""
    outcome = await connection.value(
        "SELECT peer_internal.worker_receive($1, $2::jsonb, $3::text[], $4)",
        bundle_id,
        json.dumps([_document(commit) for commit in received]),
        [data for commit in received for data in commit.data],
        merge_commits,
    )
    return None if outcome is None else _merged(json.loads(outcome))


async def merge(connection: Connection, bundle_id: UUID, max_commits: int) -> Merged:
    """Merge what is complete and whose time has come; durable on return."""
    outcome = await connection.value("SELECT peer_internal.worker_merge($1, $2)", bundle_id, max_commits)
    return _merged(json.loads(outcome))


def vector_of(document: object) -> tuple[VectorEntry, ...]:
    """Read a vector from JSON that was made here or checked.

    Raises:
        ValueError, KeyError, TypeError, CommitError: it is malformed.
    """
    if not isinstance(document, list):
        raise TypeError("a vector is a list")
    return tuple(
        VectorEntry(
            bytes.fromhex(entry["author"]),
            int(entry["epoch"]),
            int(entry["seq"]),
            bytes.fromhex(entry["head"]),
        )
        for entry in document
    )


def vector_document(entries: Sequence[VectorEntry]) -> list[dict[str, str | int]]:
    """Write a vector for JSON."""
    return [
        {
            "author": entry.author.hex(),
            "epoch": entry.epoch,
            "seq": entry.seq,
            "head": entry.head.hex(),
        }
        for entry in entries
    ]


def _own(row: Row) -> OwnCommit:
    data = row["data"]
    return OwnCommit(
        row["digest"],
        row["epoch"],
        row["seq"],
        row["position"],
        row["position_before"],
        row["header"],
        row["section_count"],
        None if data is None else tuple(data),
    )


def _merged(document: dict[str, Any]) -> Merged:
    return Merged(
        document["merged"],
        tuple(
            Held(item["detail"], item["kind"], item["author"], item["is_new"]) for item in document["held"]
        ),
        document["more"],
        None if document["vector"] is None else vector_of(document["vector"]),
        document["unsigned"],
    )


def _document(commit: ReceivedCommit) -> dict[str, object]:
    header = commit.header
    return {
        "digest": commit.digest.hex(),
        "header": commit.encoded.hex(),
        "signature": commit.signature.hex(),
        "author": header.author.hex(),
        "epoch": header.epoch,
        "seq": header.seq,
        "previous": None if header.previous is None else header.previous.hex(),
        "parents": [parent.hex() for parent in header.parents],
        "hlc": header.hlc,
        "schema": header.schema.hex(),
        "message": header.message,
        "sections": _sections(header),
    }


def _sections(header: Header) -> list[dict[str, object]]:
    return [
        {
            "op": section.op,
            "relation": str(section.relation_id),
            "columns": [str(column) for column in section.column_ids],
            "rows": section.row_count,
            "bytes": section.byte_count,
            "digest": section.digest.hex(),
            "unseen": [digest.hex() for digest in section.unseen],
        }
        for section in header.sections
    ]
