"""Hand-written histories for the oracle's own tests: commits by name, no bytes, no database."""

from __future__ import annotations

import hashlib

from .oracle import DELETE, INSERT, UPDATE, Cells, Commit, Conflict, Operation, Oracle

RELATION = "00000000-0000-0000-0000-000000000001"


class History:
    """A growing set of commits that are spoken of by name.

    The author is the first letter of the name; the clock is given, so that the order of writes is plain.
    """

    def __init__(self) -> None:
        self.commits: dict[str, Commit] = {}

    def commit(
        self,
        name: str,
        hlc: int,
        after: str = "",
        *,
        insert: dict[str, Cells] | None = None,
        update: dict[str, Cells] | None = None,
        delete: str = "",
        unseen: str = "",
    ) -> Commit:
        """Add a commit; `after`, `unseen` and `delete` are names separated by spaces."""
        hidden = frozenset(self.commits[other].digest for other in unseen.split())
        operations = [
            *(Operation(INSERT, RELATION, k, tuple(c.items()), hidden) for k, c in (insert or {}).items()),
            *(Operation(UPDATE, RELATION, k, tuple(c.items()), hidden) for k, c in (update or {}).items()),
            *(Operation(DELETE, RELATION, k, (), hidden) for k in delete.split()),
        ]
        self.commits[name] = commit = Commit(
            digest=hashlib.sha256(name.encode()).digest(),
            author=name[:1].encode() * 32,
            hlc=hlc,
            parents=frozenset(self.commits[parent].digest for parent in after.split()),
            operations=tuple(operations),
        )
        return commit

    def oracle(self) -> Oracle:
        """The oracle of all commits so far."""
        return Oracle(self.commits.values())

    def row(self, key: str = "k") -> Cells | None:
        """The row of a key."""
        return self.oracle().row(RELATION, key)

    def conflicts(self) -> list[Conflict]:
        """All conflicts, in the order of column and id."""
        return sorted(self.oracle().conflicts().values(), key=lambda c: (c.column or "", c.conflict_id))

    def name(self, digest: bytes) -> str:
        """The name of a commit."""
        return next(name for name, commit in self.commits.items() if commit.digest == digest)

    def told(self) -> set[tuple[str, str | None, str, str, str]]:
        """The conflicts as (kind, column, winner, loser, state)."""
        return {
            (c.kind, c.column, self.name(c.winner), self.name(c.loser), c.state) for c in self.conflicts()
        }
