"""What one peer takes from another: small commits whole and in batches, large ones bit by bit.

Credit goes back when the database has what arrived, and not before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache

from pgpeer.commit.cid import digest_of_bytes
from pgpeer.commit.header import Header
from pgpeer.commit.signature import verify_commit
from pgpeer.protocol import limits
from pgpeer.protocol.events import CommitReceived, SectionReceived
from pgpeer.protocol.session import Session

from .disk import Disk
from .store import Store, Stored
from .tally import Tally
from .violation import require


@lru_cache(maxsize=1024)
def read_commit(encoded: bytes, signature: bytes) -> tuple[Header, bytes]:
    """Decode and verify a header and give its digest; what many peers get is computed once."""
    header, digest = Header.decode(encoded), digest_of_bytes(encoded)
    verify_commit(header.author, digest, signature)
    return header, digest


class Intake:
    """Takes commits and sections in the order in which they came."""

    def __init__(
        self, session: Session, store: Store, disk: Disk, tally: Tally, settled: Callable[[], None]
    ) -> None:
        self._session = session
        self._store = store
        self._disk = disk
        self._tally = tally
        self._settled = settled
        self._waiting: deque[CommitReceived | SectionReceived] = deque()
        self._busy = 0
        self._has_turn = False
        self._arriving: Stored | None = None
        self._arriving_credit = 0
        self._batch: list[Stored] = []
        self._batch_credit = 0
        self._large: set[bytes] = set()
        self.told_partial: set[bytes] = set()
        self.arrived: list[tuple[bytes, int, bytes]] = []
        """What came out of the session, as `Feed.sent`."""
        self._seen: set[bytes] = set()

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._busy and self._arriving is None and not self._batch

    @property
    def waiting_bytes(self) -> int:
        return sum(event.credit for event in self._waiting) + self._arriving_credit + self._batch_credit

    def put(self, event: CommitReceived | SectionReceived) -> None:
        self._waiting.append(event)

    def work(self) -> None:
        """Take what waits, until the database is asked for something."""
        while not self._busy:
            if self._has_turn:
                self._has_turn = False
                self._session.large.done()
            if not self._waiting or (self._waiting[0].is_large and not self._session.large.is_ready):
                break
            event = self._waiting.popleft()
            self._has_turn = event.is_large
            self._tally.large += event.is_large
            if isinstance(event, CommitReceived):
                self._take_commit(event)
            else:
                self._take_section(self._session.unpack(event))
        if not self._waiting and not self._busy and self._batch:
            self._flush()

    def _take_commit(self, event: CommitReceived) -> None:
        require(self._arriving is None, "order", "a commit came amid the sections of another")
        self._session.grant(event.credit)
        header, digest = read_commit(event.header, event.signature)
        self.arrived.append((digest, 0, event.header))
        commit = Stored(digest, header, event.header, event.signature, [None] * len(header.sections))
        for before in commit.needed:
            known = before in self._seen or self._store.has_whole(before)
            require(known, "causal", "a commit came before one of its ancestors")
        self._seen.add(digest)
        size = sum(section.byte_count for section in header.sections)
        if size <= limits.CREDIT_WINDOW_BYTES // 16 and digest not in self.told_partial:
            self._arriving = commit
            self._complete()
            return
        self._flush()
        self._large.add(digest)
        self._transact(lambda: self._add([commit]), 0)

    def _take_section(self, event: SectionReceived) -> None:
        self.arrived.append((event.commit_digest, event.section_no, event.data))
        arriving, number = self._arriving, event.section_no
        if arriving is not None:
            is_next = event.commit_digest == arriving.digest and number == arriving.sections.index(None) + 1
            require(is_next, "order", "a section came out of order")
            self._check(arriving.header, number, event.data)
            arriving.sections[number - 1] = event.data
            self._arriving_credit += event.credit
            self._complete()
            return
        require(event.commit_digest in self._large, "order", "a section came without its commit")
        commit = self._store.commits[event.commit_digest]
        self._check(commit.header, number, event.data)

        def add() -> None:
            if commit.sections[number - 1] is None:
                self._store.add_section(commit.digest, number, event.data)
                self._store.merge_ready()
            else:
                self._tally.repeated += 1

        self._transact(add, event.credit)

    @staticmethod
    def _check(header: Header, number: int, data: bytes) -> None:
        digest = header.sections[number - 1].digest
        require(digest_of_bytes(data) == digest, "order", "a section has other bytes than its commit says")

    def _complete(self) -> None:
        if self._arriving is not None and self._arriving.is_whole:
            self._batch.append(self._arriving)
            self._batch_credit += self._arriving_credit
            self._arriving, self._arriving_credit = None, 0
            if self._batch_credit >= limits.CREDIT_WINDOW_BYTES // 4:
                self._flush()

    def _flush(self) -> None:
        batch, credit = self._batch, self._batch_credit
        self._batch, self._batch_credit = [], 0
        if batch:
            self._transact(lambda: self._add(batch), credit)

    def _add(self, commits: list[Stored]) -> None:
        for commit in commits:
            if self._store.has(commit.digest):
                self._tally.repeated += 1
            else:
                self._store.add(commit)
        self._store.merge_ready()

    def _transact(self, change: Callable[[], None], credit: int) -> None:
        self._busy += 1

        def then() -> None:
            self._session.grant(credit)
            self._busy -= 1
            self._settled()
            self.work()

        self._disk.transact(change, then)
