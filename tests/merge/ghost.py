"""An author without a database: commits made by hand, byte by byte, with any clock, parents and contents."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cbor2

from pgpeer.identity.key import PrivateKey

from .decoding import COMMIT_CID, SECTION_CID
from .oracle import Cells
from .replica import Envelope


@dataclass(frozen=True, slots=True)
class Lines:
    """A section to be: the operation, the relation and column ids, and key text -> cells in column order."""

    op: str
    relation: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    unseen: tuple[bytes, ...] = ()

    def data(self) -> bytes:
        lines = sorted((key.encode(), "\t".join((key, *cells)).encode() + b"\n") for key, cells in self.rows)
        return b"".join(line for _, line in lines)

    def header(self) -> dict[str, object]:
        data = self.data()
        return {
            "op": self.op,
            "cid": cbor2.CBORTag(42, b"\0" + SECTION_CID + hashlib.sha256(data).digest()),
            "rows": len(self.rows),
            "bytes": len(data),
            "unseen": [link(digest) for digest in sorted(self.unseen)],
            "columns": [uuid.UUID(column).bytes for column in self.columns],
            "relation": uuid.UUID(self.relation).bytes,
        }


def link(digest: bytes) -> cbor2.CBORTag:
    """A link to a commit."""
    return cbor2.CBORTag(42, b"\0" + COMMIT_CID + digest)


class Ghost:
    """A key that signs whatever it is given, in one bundle; it keeps its own chain unless told otherwise."""

    def __init__(self, like: Envelope, seed: int, epoch: int = 1) -> None:
        origin = like.decoded()
        self.key = PrivateKey.from_seed(seed.to_bytes(32))
        self.bundle, self.schema, self.epoch = uuid.UUID(origin.bundle), origin.schema, epoch
        self.last: Envelope | None = None

    def commit(
        self,
        hlc: int,
        parents: Iterable[Envelope],
        sections: Sequence[Lines],
        *,
        previous: Envelope | str | None = "last",
        message: str | None = None,
    ) -> Envelope:
        """Make and sign a commit."""
        before = self.last if isinstance(previous, str) else previous
        header = {
            "version": 1,
            "bundle": self.bundle.bytes,
            "author": self.key.public_key,
            "epoch": self.epoch,
            "seq": 1 if before is None else before.decoded().seq + 1,
            "prev": None if before is None else link(before.digest),
            "parents": [link(digest) for digest in sorted({parent.digest for parent in parents})],
            "hlc": hlc,
            "schema": self.schema,
            "message": message,
            "sections": [section.header() for section in sections],
        }
        encoded = cbor2.dumps(header, canonical=True)
        signature = self.key.sign("commit", hashlib.sha256(encoded).digest())
        self.last = Envelope(encoded, signature, tuple(section.data() for section in sections))
        return self.last


def insert(relation: str, columns: Sequence[str], rows: dict[str, Sequence[str]]) -> Lines:
    """An INSERT section."""
    return Lines(
        "INSERT", relation, tuple(columns), tuple((key, tuple(cells)) for key, cells in rows.items())
    )


def update(relation: str, key: str, cells: Cells, unseen: Iterable[bytes] = ()) -> Lines:
    """An UPDATE section of one row."""
    return Lines("UPDATE", relation, tuple(cells), ((key, tuple(cells.values())),), tuple(unseen))


def delete(relation: str, *keys: str) -> Lines:
    """A DELETE section."""
    return Lines("DELETE", relation, (), tuple((key, ()) for key in keys))
