"""Commits as a villain makes them: signed with its own key, and wrong in one way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from uuid import UUID

from system.processes import Peer

from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.signature import sign_commit
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import messages

EPOCH = 7


@dataclass(frozen=True)
class Ground:
    """What every member knows of the bundle: ids, and the first commit to build upon."""

    bundle_id: UUID
    relation_id: UUID
    name_id: UUID
    root: bytes
    root_hlc: int
    schema: bytes


def ground_of(peer: Peer) -> Ground:
    digest, hlc, schema = peer.run(
        "SELECT digest, hlc, schema_fingerprint FROM peer_internal.commit WHERE state = 'merged' ORDER BY position LIMIT 1"
    )[0]
    return Ground(
        peer.value("SELECT bundle_id FROM peer_internal.bundle"),
        peer.value("SELECT relation_id FROM peer_internal.relation"),
        peer.value("SELECT column_id FROM peer_internal.relation_column WHERE name = 'name'"),
        bytes(digest),
        hlc,
        bytes(schema),
    )


@dataclass(frozen=True)
class Made:
    """A commit and its sections."""

    key: PrivateKey
    header: Header
    data: tuple[bytes, ...]

    def changed(self, **members: object) -> Made:
        return replace(self, header=replace(self.header, **members))  # type: ignore[arg-type]

    def commit(self, signature: bytes | None = None) -> messages.Commit:
        signed = sign_commit(self.key, self.header.digest) if signature is None else signature
        return messages.Commit(self.header.bundle_id, self.header.encode(), signed)

    def sections(self) -> list[messages.Section]:
        return [
            messages.Section(self.header.bundle_id, self.header.digest, number, False, data)
            for number, data in enumerate(self.data, start=1)
        ]

    def said(self) -> list[messages.Message]:
        return [self.commit(), *self.sections()]


def update(ground: Ground, key: PrivateKey, name: str, row: int = 1, *, seq: int = 1) -> Made:
    """An update of a city's name, as an honest member would commit it."""
    data = f"{row}\t{name}\n".encode()
    section = SectionHeader(
        ground.relation_id, "UPDATE", (ground.name_id,), 1, len(data), hashlib.sha256(data).digest()
    )
    header = Header(
        ground.bundle_id,
        key.public_key,
        EPOCH,
        seq,
        None,
        (ground.root,),
        ground.root_hlc + 1 + seq,
        ground.schema,
        None,
        (section,),
    )
    return Made(key, header, (data,))


def named_as(section: SectionHeader, data: bytes) -> SectionHeader:
    """A section's name for other bytes."""
    return replace(
        section, row_count=data.count(b"\n"), byte_count=len(data), digest=hashlib.sha256(data).digest()
    )


def with_data(made: Made, data: bytes) -> Made:
    """The same commit with another section, named as it is."""
    section = named_as(made.header.sections[0], data)
    return replace(made, header=replace(made.header, sections=(section,)), data=(data,))
