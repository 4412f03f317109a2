"""The commit header: what is hashed and signed, the same bytes here and in SQL.

A map of eleven keys, shortest first: hlc, seq, prev, epoch, author, bundle, schema, message, parents,
version, sections. A section: op, cid, rows, bytes, unseen, columns, relation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pgpeer.commit import dag_cbor
from pgpeer.commit.cid import COMMIT_PREFIX, DIGEST_BYTES, commit_id, digest_of_bytes
from pgpeer.commit.section import (
    SectionHeader,
    bad_header,
    decode_commit_links,
    decode_section,
    encode_commit_links,
    encode_section,
    require_digest_list,
    require_integer,
)

__all__ = ["Header", "SectionHeader"]

VERSION: Final = 1
HEADER_BYTES_LIMIT: Final = 16 * 1024 * 1024
PARENTS_LIMIT: Final = 1024
SECTIONS_LIMIT: Final = 65_536
MESSAGE_BYTES_LIMIT: Final = 64 * 1024

_KEY_BYTES: Final = 32
_UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Header:
    """One commit's header.

    Attributes:
        bundle_id: the bundle.
        author: the author's 32-byte public key.
        epoch: the author's database incarnation, 0 ≤ epoch < 2⁶³.
        seq: the author's number in this epoch, from 1, without gaps.
        previous: digest of the author's commit before this one, None for the first.
        parents: digests of all heads seen, ascending.
        hlc: hybrid logical clock, greater than every parent's.
        schema: 32-byte fingerprint of the bundle's schema.
        message: what the author says about it, at most 64 KiB of UTF-8 without NUL.
        sections: what changed.
    """

    bundle_id: UUID
    author: bytes
    epoch: int
    seq: int
    previous: bytes | None
    parents: tuple[bytes, ...]
    hlc: int
    schema: bytes
    message: str | None
    sections: tuple[SectionHeader, ...]

    def __post_init__(self) -> None:
        """Raises CommitError when a part is outside its limits."""
        if len(self.author) != _KEY_BYTES:
            raise bad_header(f"the author's key is not {_KEY_BYTES} bytes long")
        if len(self.schema) != DIGEST_BYTES:
            raise bad_header(f"the schema fingerprint is not {DIGEST_BYTES} bytes long")
        if self.previous is not None and len(self.previous) != DIGEST_BYTES:
            raise bad_header(f"'prev' is not {DIGEST_BYTES} bytes long")
        require_integer("the epoch", self.epoch)
        require_integer("the number", self.seq, minimum=1)
        require_integer("the clock", self.hlc, minimum=1)
        require_digest_list("parents", self.parents, PARENTS_LIMIT)
        if len(self.sections) > SECTIONS_LIMIT:
            raise bad_header(f"it has more than {SECTIONS_LIMIT} sections")
        if self.message is not None:
            _require_message(self.message)

    @property
    def digest(self) -> bytes:
        """The sha256 of the header's bytes: what is signed and what the commit id says."""
        return digest_of_bytes(self.encode())

    @property
    def commit_id(self) -> str:
        """The commit's id, "bafyrei…"."""
        return commit_id(self.digest)

    def encode(self) -> bytes:
        """Give the canonical bytes.

        Raises:
            CommitError: they are more than 16 MiB.
        """
        previous = dag_cbor.NULL if self.previous is None else dag_cbor.link(COMMIT_PREFIX + self.previous)
        encoded = dag_cbor.mapping(
            [
                ("hlc", dag_cbor.unsigned(self.hlc)),
                ("seq", dag_cbor.unsigned(self.seq)),
                ("prev", previous),
                ("epoch", dag_cbor.unsigned(self.epoch)),
                ("author", dag_cbor.byte_string(self.author)),
                ("bundle", dag_cbor.byte_string(self.bundle_id.bytes)),
                ("schema", dag_cbor.byte_string(self.schema)),
                ("message", dag_cbor.NULL if self.message is None else dag_cbor.text(self.message)),
                ("parents", encode_commit_links(self.parents)),
                ("version", dag_cbor.unsigned(VERSION)),
                ("sections", dag_cbor.array([encode_section(section) for section in self.sections])),
            ]
        )
        _require_size(encoded)
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read a header; `Header.decode(data).encode() == data` for everything that is accepted.

        Raises:
            CommitError: the bytes are not the canonical form of a header of version 1 within the limits.
        """
        _require_size(data)
        reader = dag_cbor.Reader(data)
        if reader.length(dag_cbor.MAP, 11) != 11:
            raise bad_header("it does not have 11 keys")
        reader.key("hlc")
        hlc = reader.unsigned()
        reader.key("seq")
        seq = reader.unsigned()
        reader.key("prev")
        previous = None if reader.null() else reader.link(COMMIT_PREFIX, DIGEST_BYTES)
        reader.key("epoch")
        epoch = reader.unsigned()
        reader.key("author")
        author = reader.byte_string(_KEY_BYTES)
        reader.key("bundle")
        bundle_id = UUID(bytes=reader.byte_string(_UUID_BYTES))
        reader.key("schema")
        schema = reader.byte_string(DIGEST_BYTES)
        reader.key("message")
        message = None if reader.null() else reader.text(MESSAGE_BYTES_LIMIT)
        reader.key("parents")
        parents = decode_commit_links(reader, PARENTS_LIMIT)
        reader.key("version")
        if reader.unsigned() != VERSION:
            raise bad_header(f"it is not of version {VERSION}")
        reader.key("sections")
        section_count = reader.length(dag_cbor.ARRAY, SECTIONS_LIMIT)
        sections = tuple(decode_section(reader) for _ in range(section_count))
        reader.end()
        return cls(bundle_id, author, epoch, seq, previous, parents, hlc, schema, message, sections)


def _require_message(message: str) -> None:
    try:
        size = len(message.encode("utf-8"))
    except UnicodeEncodeError:
        raise bad_header("the message is not a valid text") from None
    if size > MESSAGE_BYTES_LIMIT:
        raise bad_header(f"the message has more than {MESSAGE_BYTES_LIMIT} bytes")
    if "\0" in message:
        raise bad_header("the message holds a NUL character")


def _require_size(encoded: bytes) -> None:
    if len(encoded) > HEADER_BYTES_LIMIT:
        raise bad_header(f"it has more than {HEADER_BYTES_LIMIT} bytes")
