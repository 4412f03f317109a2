"""What one peer gets from another: everything it lacks, parents first, and never past its credit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.protocol.session import Session

from .store import Store, Stored

BUNDLE = UUID(int=7)


class Feed:
    """Goes through the commits in the order in which they were merged here."""

    def __init__(self, session: Session, store: Store) -> None:
        self._session = session
        self._store = store
        self._has: dict[bytes, int] | None = None
        self._partial: Mapping[bytes, Sequence[int]] = {}
        self._position = 0
        self._open: tuple[Stored, list[int]] | None = None
        self.received: set[bytes] = set()
        self.sent: list[tuple[bytes, int, bytes]] = []
        """What was handed to the session: digest, number of the section or 0 for the header, bytes."""

    def begin(self, entries: Sequence[VectorEntry], partial: Mapping[bytes, Sequence[int]]) -> None:
        self._has = {}
        self._partial = dict(partial)
        self._position = 0
        self.acknowledged(entries)

    def acknowledged(self, entries: Sequence[VectorEntry]) -> None:
        if self._has is not None:
            for entry in entries:
                self._has[entry.author] = max(self._has.get(entry.author, 0), entry.seq)

    @property
    def has_begun(self) -> bool:
        return self._has is not None

    def fill(self) -> bool:
        """Hand over as much as the session wants; tell whether there was anything."""
        moved = False
        while self._session.wants_section() and self._step():
            moved = True
        return moved

    def _step(self) -> bool:
        if self._open is not None:
            commit, numbers = self._open
            number = numbers.pop(0)
            if not numbers:
                self._open = None
            data = commit.sections[number - 1]
            assert data is not None, "only whole commits are merged and sent"
            self._session.send_section(BUNDLE, commit.digest, number, data)
            self.sent.append((commit.digest, number, data))
            return True
        following = self._following()
        if following is None:
            return False
        held = self._partial.get(following.digest, ())
        numbers = [n for n in range(1, len(following.sections) + 1) if n not in held]
        self._open = (following, numbers) if numbers else None
        self._session.send_commit(BUNDLE, following.encoded, following.signature)
        self.sent.append((following.digest, 0, following.encoded))
        return True

    def _following(self) -> Stored | None:
        if self._has is None:
            return None
        while self._position < len(self._store.merged):
            digest = self._store.merged[self._position]
            self._position += 1
            header = self._store.commits[digest].header
            if self._has.get(header.author, 0) < header.seq and digest not in self.received:
                return self._store.commits[digest]
        return None
