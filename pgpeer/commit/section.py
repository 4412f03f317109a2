"""A section as its commit's header names it: which rows of which relation, and the hash of their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from uuid import UUID

from pgpeer.commit import dag_cbor
from pgpeer.commit.cid import COMMIT_PREFIX, DIGEST_BYTES, SECTION_PREFIX
from pgpeer.errors import CommitError

OPERATIONS: Final = frozenset({"INSERT", "UPDATE", "DELETE", "SCHEMA"})
COLUMNS_LIMIT: Final = 1600
UNSEEN_LIMIT: Final = 65_536

_UUID_BYTES: Final = 16
_OPERATION_BYTES_LIMIT: Final = 6


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """One section of a commit.

    Attributes:
        relation_id: the table's stable id within the bundle.
        op: 'INSERT', 'UPDATE', 'DELETE' or 'SCHEMA'.
        column_ids: stable ids of the columns that follow the key on each line, in that order.
        row_count: how many rows the data has.
        byte_count: how many bytes the data has.
        digest: sha256 of the data, 32 bytes.
        unseen: digests of commits that this section's author had merged but not seen in these rows (merge
            rule 12), ascending.
    """

    relation_id: UUID
    op: str
    column_ids: tuple[UUID, ...]
    row_count: int
    byte_count: int
    digest: bytes
    unseen: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raises CommitError when a part is outside its limits."""
        if self.op not in OPERATIONS:
            raise bad_header(f"a section has the unknown operation '{self.op}'")
        if len(self.column_ids) > COLUMNS_LIMIT:
            raise bad_header(f"a section has more than {COLUMNS_LIMIT} columns")
        if len(set(self.column_ids)) != len(self.column_ids):
            raise bad_header("a section names a column twice")
        require_integer("a section's rows", self.row_count)
        require_integer("a section's bytes", self.byte_count)
        if len(self.digest) != DIGEST_BYTES:
            raise bad_header(f"a section's digest is not {DIGEST_BYTES} bytes long")
        require_digest_list("unseen", self.unseen, UNSEEN_LIMIT)


def encode_section(section: SectionHeader) -> bytes:
    """Give the section's canonical bytes inside the header."""
    return dag_cbor.mapping(
        [
            ("op", dag_cbor.text(section.op)),
            ("cid", dag_cbor.link(SECTION_PREFIX + section.digest)),
            ("rows", dag_cbor.unsigned(section.row_count)),
            ("bytes", dag_cbor.unsigned(section.byte_count)),
            ("unseen", encode_commit_links(section.unseen)),
            (
                "columns",
                dag_cbor.array([dag_cbor.byte_string(column.bytes) for column in section.column_ids]),
            ),
            ("relation", dag_cbor.byte_string(section.relation_id.bytes)),
        ]
    )


def decode_section(reader: dag_cbor.Reader) -> SectionHeader:
    """Read one section.

    Raises:
        CommitError: it is not canonical or outside the limits.
    """
    if reader.length(dag_cbor.MAP, 7) != 7:
        raise bad_header("a section does not have 7 keys")
    reader.key("op")
    op = reader.text(_OPERATION_BYTES_LIMIT)
    reader.key("cid")
    digest = reader.link(SECTION_PREFIX, DIGEST_BYTES)
    reader.key("rows")
    row_count = reader.unsigned()
    reader.key("bytes")
    byte_count = reader.unsigned()
    reader.key("unseen")
    unseen = decode_commit_links(reader, UNSEEN_LIMIT)
    reader.key("columns")
    column_count = reader.length(dag_cbor.ARRAY, COLUMNS_LIMIT)
    column_ids = tuple(UUID(bytes=reader.byte_string(_UUID_BYTES)) for _ in range(column_count))
    reader.key("relation")
    relation_id = UUID(bytes=reader.byte_string(_UUID_BYTES))
    return SectionHeader(relation_id, op, column_ids, row_count, byte_count, digest, unseen)


def encode_commit_links(digests: tuple[bytes, ...]) -> bytes:
    """Give a list of links to commits."""
    return dag_cbor.array([dag_cbor.link(COMMIT_PREFIX + digest) for digest in digests])


def decode_commit_links(reader: dag_cbor.Reader, limit: int) -> tuple[bytes, ...]:
    """Read a list of at most `limit` links to commits; give the digests."""
    count = reader.length(dag_cbor.ARRAY, limit)
    return tuple(reader.link(COMMIT_PREFIX, DIGEST_BYTES) for _ in range(count))


def require_digest_list(name: str, digests: tuple[bytes, ...], limit: int) -> None:
    """Raise CommitError unless these are at most `limit` digests, ascending, none twice."""
    if len(digests) > limit:
        raise bad_header(f"'{name}' has more than {limit} entries")
    if any(len(digest) != DIGEST_BYTES for digest in digests):
        raise bad_header(f"'{name}' holds something that is not {DIGEST_BYTES} bytes long")
    if any(left >= right for left, right in pairwise(digests)):
        raise bad_header(f"'{name}' is not in ascending order")


def require_integer(name: str, value: int, minimum: int = 0) -> None:
    """Raise CommitError unless minimum ≤ value < 2⁶³."""
    if not minimum <= value < dag_cbor.INTEGER_LIMIT:
        raise bad_header(f"{name} is out of range")


def bad_header(reason: str) -> CommitError:
    """Make the error for a header that no honest author writes."""
    return CommitError(
        f"The commit header cannot be accepted: {reason}.",
        remedy="The peer that sent it is broken or hostile: ask another member for the commit.",
        code="bad_message",
    )
