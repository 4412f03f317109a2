"""Takes commits from one peer: verifies them, stores small ones in batches and large ones bit by bit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from pgpeer.commit.cid import digest_of_bytes
from pgpeer.commit.header import Header
from pgpeer.commit.signature import verify_commit
from pgpeer.errors import PgpeerError, RemoteProtocolError, StoreError
from pgpeer.protocol.events import CommitReceived, SectionReceived
from pgpeer.store import commits
from pgpeer.store.commits import ReceivedCommit
from pgpeer.store.database import Connection
from pgpeer.worker.merger import Merger

SMALL_BYTES: Final = 256 * 1024
"""A commit up to this size is kept in memory until it is whole."""

SMALL_SECTIONS: Final = 64
BATCH_COMMITS: Final = 50
BATCH_BYTES: Final = 1024 * 1024

OPEN_COMMITS: Final = 1024
"""So many large or ignored commits are remembered until the peer is past them."""

Vet = Callable[[Header], Awaitable[bool]]
"""Tells whether a commit may be stored; False ignores it and its sections."""


@dataclass(slots=True)
class _Arriving:
    """A small commit whose sections are on their way."""

    header: Header
    event: CommitReceived
    digest: bytes
    data: list[str] = field(default_factory=list)
    credit: int = 0


class Intake:
    """What one peer sends.

    Args:
        store: a connection for what is stored bit by bit.
        merger: takes small commits, and is woken for large ones.
        vet: asked about every verified header.
        grant: gives credit back to the peer.
    """

    def __init__(self, store: Connection, merger: Merger, vet: Vet, grant: Callable[[int], None]) -> None:
        self._store = store
        self._merger = merger
        self._vet = vet
        self._grant = grant
        self._arriving: _Arriving | None = None
        self._batch: list[ReceivedCommit] = []
        self._batch_bytes = 0
        self._batch_credit = 0
        self._large: OrderedDict[bytes, Header | None] = OrderedDict()
        self._told_partial: set[bytes] = set()
        self._to_merge: set[UUID] = set()

    def told_partial(self, digests: set[bytes]) -> None:
        """The peer knows that parts of these commits are here, and leaves those out."""
        self._told_partial |= digests

    async def take_commit(self, event: CommitReceived) -> bytes:
        """Take a header and give its digest.

        Raises:
            CommitError, RemoteProtocolError: the peer is broken or hostile.
            StoreError: the database refused.
        """
        if self._arriving is not None:
            raise RemoteProtocolError("A commit came before the sections of the last one.", phase="transfer")
        header = Header.decode(event.header)
        digest = digest_of_bytes(event.header)
        if header.bundle_id != event.bundle_id:
            raise RemoteProtocolError("A commit was sent as one of another bundle.", phase="transfer")
        verify_commit(header.author, digest, event.signature)
        if not await self._vet(header):
            self._remember(digest, None)
            return digest
        if self._batch and self._batch[0].header.bundle_id != header.bundle_id:
            await self.flush()
        size = sum(section.byte_count for section in header.sections)
        if (
            len(header.sections) <= SMALL_SECTIONS
            and size + len(event.header) <= SMALL_BYTES
            and digest not in self._told_partial
        ):
            self._arriving = _Arriving(header, event, digest)
            await self._complete()
        else:
            await self.flush()
            await self._blame(
                commits.receive_header(
                    self._store, ReceivedCommit(digest, header, event.header, event.signature, ())
                )
            )
            self._remember(digest, header)
            self._to_merge.add(header.bundle_id)
        return digest

    async def take_section(self, event: SectionReceived) -> None:
        """Take a section; raises as `take_commit`."""
        arriving = self._arriving
        if arriving is not None:
            if event.commit_digest != arriving.digest or event.section_no != len(arriving.data) + 1:
                raise RemoteProtocolError("A section came out of order.", phase="transfer")
            if len(event.data) != arriving.header.sections[len(arriving.data)].byte_count:
                raise RemoteProtocolError(
                    "A section has another size than its commit says.", phase="transfer"
                )
            arriving.data.append(_text(event.data))
            arriving.credit += event.credit
            await self._complete()
            return
        if event.commit_digest not in self._large:
            raise RemoteProtocolError("A section came without its commit.", phase="transfer")
        header = self._large[event.commit_digest]
        if header is not None:
            if event.section_no > len(header.sections):
                raise RemoteProtocolError("A commit has fewer sections than were sent.", phase="transfer")
            await self._blame(
                commits.receive_section(self._store, event.commit_digest, event.section_no, _text(event.data))
            )
            if event.section_no == len(header.sections):
                self._merger.wake(header.bundle_id)
        self._grant(event.credit)

    async def flush(self) -> None:
        """Store what is whole; to be called when nothing more waits to be taken. Raises as `take_commit`."""
        for bundle_id in self._to_merge:
            self._merger.wake(bundle_id)
        self._to_merge.clear()
        if not self._batch:
            return
        batch, credit = self._batch, self._batch_credit
        self._batch, self._batch_bytes, self._batch_credit = [], 0, 0
        await self._blame(self._merger.take(batch[0].header.bundle_id, batch))
        self._grant(credit)

    async def _complete(self) -> None:
        """Put the arriving commit into the batch when it is whole."""
        arriving = self._arriving
        assert arriving is not None, "called while a commit arrives"
        if len(arriving.data) < len(arriving.header.sections):
            return
        self._arriving = None
        event = arriving.event
        self._batch.append(
            ReceivedCommit(
                arriving.digest, arriving.header, event.header, event.signature, tuple(arriving.data)
            )
        )
        self._batch_bytes += len(event.header) + sum(map(len, arriving.data))
        self._batch_credit += arriving.credit
        if len(self._batch) >= BATCH_COMMITS or self._batch_bytes >= BATCH_BYTES:
            await self.flush()

    def _remember(self, digest: bytes, header: Header | None) -> None:
        self._large[digest] = header
        if len(self._large) > OPEN_COMMITS:
            self._large.popitem(last=False)

    @staticmethod
    async def _blame(work: Awaitable[object]) -> None:
        """Wait for a database call; what it refuses in the data is the peer's fault."""
        try:
            await work
        except StoreError as error:
            if error.sqlstate == "PGM01" or error.sqlstate.startswith("22"):
                raise PgpeerError(
                    f"What the peer sent was refused: {error}.",
                    remedy=error.remedy,
                    code="bad_message",
                    phase="transfer",
                ) from error
            raise


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("A section is not a text.", phase="transfer") from error
    if "\0" in text:
        raise RemoteProtocolError("A section holds a NUL character.", phase="transfer")
    return text
