"""The version vector: how far one has each author's commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgpeer.commit import dag_cbor
from pgpeer.commit.cid import DIGEST_BYTES, digest_of_bytes
from pgpeer.errors import CommitError


@dataclass(frozen=True, slots=True, order=True)
class VectorEntry:
    """One author's line: the highest number had without gaps, and the commit that bears it.

    Entries sort by author, epoch, seq and head. A vector holds an author and epoch twice only when that
    author's history has forked.

    Attributes:
        author: 32-byte public key.
        epoch: the author's database incarnation, 0 ≤ epoch < 2⁶³.
        seq: number of the commit, 0 ≤ seq < 2⁶³.
        head: 32-byte digest of that commit.
    """

    author: bytes
    epoch: int
    seq: int
    head: bytes

    def __post_init__(self) -> None:
        """Raises CommitError when a part has a wrong size."""
        if len(self.author) != DIGEST_BYTES or len(self.head) != DIGEST_BYTES:
            raise CommitError("A version vector's author or head is not 32 bytes long.", code="bad_message")
        if not (0 <= self.epoch < dag_cbor.INTEGER_LIMIT and 0 <= self.seq < dag_cbor.INTEGER_LIMIT):
            raise CommitError("A version vector's epoch or number is out of range.", code="bad_message")


def vector_digest(entries: Iterable[VectorEntry]) -> bytes:
    """Give 32 bytes that are equal exactly when two vectors are.

    The order and repetition of entries do not count. It is the sha256 of the canonical CBOR of the sorted
    list of [author, epoch, seq, head].
    """
    encoded = [
        dag_cbor.array(
            [
                dag_cbor.byte_string(entry.author),
                dag_cbor.unsigned(entry.epoch),
                dag_cbor.unsigned(entry.seq),
                dag_cbor.byte_string(entry.head),
            ]
        )
        for entry in sorted(set(entries))
    ]
    return digest_of_bytes(dag_cbor.array(encoded))
