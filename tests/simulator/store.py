"""What a peer has durably: commits with their sections, and the order in which it merged them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgpeer.commit.header import Header
from pgpeer.commit.vector import VectorEntry

from .violation import require


@dataclass
class Stored:
    """One commit; a section that has not come is None."""

    digest: bytes
    header: Header
    encoded: bytes
    signature: bytes
    sections: list[bytes | None]

    @property
    def is_whole(self) -> bool:
        return None not in self.sections

    @property
    def needed(self) -> set[bytes]:
        before = {self.header.previous} if self.header.previous is not None else set()
        return before | set(self.header.parents)


@dataclass
class Chain:
    """How far an author's commits go without gaps."""

    digests: dict[int, bytes] = field(default_factory=dict)
    top: int = 0

    def add(self, seq: int, digest: bytes) -> None:
        require(seq not in self.digests, "once", f"number {seq} of an author is there already")
        self.digests[seq] = digest
        while self.top + 1 in self.digests:
            self.top += 1


class Store:
    """The durable state of one peer. It survives crashes, and refuses what it has already."""

    def __init__(self) -> None:
        self.commits: dict[bytes, Stored] = {}
        self.merged: list[bytes] = []
        self.heads: set[bytes] = set()
        self.hlc = 0
        self._is_merged: set[bytes] = set()
        self._waiting: dict[bytes, Stored] = {}
        self._stored: dict[bytes, Chain] = {}
        self._done: dict[bytes, Chain] = {}

    def has(self, digest: bytes) -> bool:
        return digest in self.commits

    def has_merged(self, digest: bytes) -> bool:
        return digest in self._is_merged

    def has_whole(self, digest: bytes) -> bool:
        return digest in self.commits and self.commits[digest].is_whole

    def add(self, commit: Stored) -> None:
        """Keep a commit, whole or only its header."""
        require(commit.digest not in self.commits, "once", "a commit was delivered twice to the store")
        self.commits[commit.digest] = commit
        self._note_whole(commit)

    def add_section(self, digest: bytes, number: int, data: bytes) -> None:
        commit = self.commits[digest]
        require(commit.sections[number - 1] is None, "once", "a section was delivered twice to the store")
        commit.sections[number - 1] = data
        self._note_whole(commit)

    def _note_whole(self, commit: Stored) -> None:
        if commit.is_whole:
            self._stored.setdefault(commit.header.author, Chain()).add(commit.header.seq, commit.digest)
            self._waiting[commit.digest] = commit

    def merge_ready(self) -> int:
        """Merge what is whole and whose ancestors are merged; give how many commits that were."""
        before = len(self.merged)
        found = True
        while found:
            found = False
            for digest, commit in list(self._waiting.items()):
                if commit.needed <= self._is_merged:
                    del self._waiting[digest]
                    self._merge(commit)
                    found = True
        return len(self.merged) - before

    def _merge(self, commit: Stored) -> None:
        header = commit.header
        for parent in header.parents:
            require(
                self.commits[parent].header.hlc < header.hlc, "clock", "a commit is not after its parents"
            )
        require(
            self._done.setdefault(header.author, Chain()).top == header.seq - 1, "causal", "a gap was merged"
        )
        self._done[header.author].add(header.seq, commit.digest)
        self.merged.append(commit.digest)
        self._is_merged.add(commit.digest)
        self.heads -= commit.needed
        self.heads.add(commit.digest)
        self.hlc = max(self.hlc, header.hlc)

    def stored_vector(self) -> list[VectorEntry]:
        return _vector(self._stored)

    def merged_vector(self) -> list[VectorEntry]:
        return _vector(self._done)

    def incomplete(self) -> dict[bytes, tuple[int, ...]]:
        """Which sections are here of commits that are not whole."""
        return {
            digest: tuple(n for n, data in enumerate(commit.sections, start=1) if data is not None)
            for digest, commit in self.commits.items()
            if not commit.is_whole
        }


def _vector(chains: dict[bytes, Chain]) -> list[VectorEntry]:
    return [
        VectorEntry(author, 1, chain.top, chain.digests[chain.top])
        for author, chain in sorted(chains.items())
        if chain.top
    ]
