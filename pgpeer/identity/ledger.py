"""The signature ledger: what this key has signed, durable before any signature is released.

A database that was restored or copied would otherwise sign a second commit with a number that is already
taken, and the author's history would fork (merge rule 15). The file has one line for each call of
`record_all`, with a check sum, so that a crash can damage only the last line, for which no signature was
released.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from pgpeer.errors import IdentityError

RETAINED_DIGESTS: Final = 1024
"""So many last commits of each (bundle, epoch) can be signed again after a crash; a batch is never larger."""


DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One commit that may be signed: its bundle, epoch, sequence number (from 1) and 32-byte digest."""

    bundle_id: UUID
    epoch: int
    seq: int
    digest: bytes


class SignatureLedger:
    """The ledger of one key. Hold the identity file's lock while it is open.

    All calls block on the disk: an event loop calls them in a thread.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger, creating it when missing, and compact it.

        Raises:
            IdentityError: the file cannot be read or written, or is damaged before its last line.
        """
        self._path = path
        self._recorded: dict[tuple[UUID, int], dict[int, bytes]] = {}
        try:
            self._replay(path.read_bytes() if path.exists() else b"")
            self._compact()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise IdentityError(
                f"The signature ledger '{path}' cannot be opened: {error.strerror}.",
                remedy="Make room on the disk, or let the worker's user write the file and its directory.",
                code="ledger",
                retryable=True,
            ) from error
        self._size = os.fstat(self._descriptor).st_size
        self._broken = False

    def last(self, bundle_id: UUID, epoch: int) -> tuple[int, bytes] | None:
        """Give the highest recorded (seq, digest) of a bundle and epoch, or None."""
        digests = self._recorded.get((bundle_id, epoch))
        if not digests:
            return None
        seq = max(digests)
        return seq, digests[seq]

    def record(self, bundle_id: UUID, epoch: int, seq: int, digest: bytes) -> None:
        """Record one commit; see `record_all`."""
        self.record_all([LedgerEntry(bundle_id, epoch, seq, digest)])

    def record_all(self, entries: Sequence[LedgerEntry]) -> None:
        """Make durable that these commits are about to be signed; on return their signatures may be released.

        Recording the same commits again is allowed (a crash between recording and storing the signature).
        Either all entries are recorded or none.

        Raises:
            IdentityError: an entry has a number at or below a recorded one but another digest (code
            `ledger_fork`),
                or the disk refused (code `ledger`); no signature may be released.
        """
        if self._broken:
            raise IdentityError(
                f"The signature ledger '{self._path}' could not be written and is closed.",
                remedy="Make room on the disk: the worker tries again by itself.",
                code="ledger",
                retryable=True,
            )
        fresh = self._fresh(entries)
        if not fresh:
            return
        line = _line(fresh)
        try:
            _write_whole(self._descriptor, line)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._broken = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise IdentityError(
                f"The signature ledger '{self._path}' could not be written: {error.strerror}.",
                remedy="Make room on the disk: the worker tries again by itself.",
                code="ledger",
                retryable=True,
            ) from error
        self._size += len(line)
        self._remember(fresh)

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._broken = True

    def _fresh(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        if len(entries) > RETAINED_DIGESTS:
            raise IdentityError(
                f"At most {RETAINED_DIGESTS} commits can be recorded at once, not {len(entries)}.",
                code="internal",
            )
        highest: dict[tuple[UUID, int], int] = {}
        fresh: list[LedgerEntry] = []
        for entry in entries:
            digests = self._recorded.get((entry.bundle_id, entry.epoch), {})
            if digests.get(entry.seq) == entry.digest:
                continue
            floor = highest.get((entry.bundle_id, entry.epoch), max(digests, default=0))
            if entry.seq <= floor:
                raise IdentityError(
                    f"This key has already signed another commit with number {entry.seq} or a later one "
                    f"in epoch {entry.epoch} of bundle {entry.bundle_id}.",
                    remedy="The database was restored or copied: its commits must go on in a new epoch.",
                    code="ledger_fork",
                )
            highest[entry.bundle_id, entry.epoch] = entry.seq
            fresh.append(entry)
        return fresh

    def _remember(self, entries: Iterable[LedgerEntry]) -> None:
        for entry in entries:
            digests = self._recorded.setdefault((entry.bundle_id, entry.epoch), {})
            digests[entry.seq] = entry.digest
            while len(digests) > RETAINED_DIGESTS:
                del digests[next(iter(digests))]

    def _replay(self, content: bytes) -> None:
        lines = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                entries = _entries(line)
                is_damaged = entries is None and any(lines[number:])
            except (ValueError, TypeError, RecursionError):
                entries, is_damaged = None, True  # no crash writes a good check sum before bad words
            if entries is not None:
                self._remember(entries)
            elif is_damaged:
                raise IdentityError(
                    f"The signature ledger '{self._path}' is damaged in line {number}.",
                    remedy="Restore the file, or move it away: the database then goes on in a new epoch.",
                    code="ledger",
                )

    def _compact(self) -> None:
        """Rewrite the file with what is still needed; the old one stays until the new one is durable."""
        fresh = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for (bundle_id, epoch), digests in self._recorded.items():
                entries = [LedgerEntry(bundle_id, epoch, seq, digest) for seq, digest in digests.items()]
                _write_whole(descriptor, _line(entries))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(self._path)
        sync_directory(self._path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(entries: Sequence[LedgerEntry]) -> bytes:
    records = [[str(entry.bundle_id), entry.epoch, entry.seq, entry.digest.hex()] for entry in entries]
    body = json.dumps(records, separators=(",", ":")).encode("ascii")
    return f"{zlib.crc32(body):08x} ".encode("ascii") + body + b"\n"


def _entries(line: bytes) -> list[LedgerEntry] | None:
    """Read one line without its newline; None when its check sum is wrong.

    Raises:
        ValueError, TypeError, RecursionError: the check sum is right and what stands behind it is not.
    """
    if not line:
        return []
    checksum, _, body = line.partition(b" ")
    if checksum != f"{zlib.crc32(body):08x}".encode("ascii"):
        return None
    records = json.loads(body)
    if not isinstance(records, list):
        raise ValueError("a line holds no list")
    return [_entry(*record) for record in records]


def _entry(bundle: str, epoch: int, seq: int, digest: str) -> LedgerEntry:
    numbers = type(epoch) is type(seq) is int
    if not isinstance(bundle, str) or not numbers or len(bytes.fromhex(digest)) != DIGEST_BYTES:
        raise ValueError("a number or digest is malformed")
    return LedgerEntry(UUID(bundle), epoch, seq, bytes.fromhex(digest))


def _write_whole(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])
