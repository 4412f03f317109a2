"""The merge rules once more, naively: state and conflicts as a function of a set of commits.

This file is a literal transcription of rules 1, 2, 3, 5 and 12 and of the decision record on writes,
existence and conflicts. It shares no code with pgpeer and knows nothing of the SQL. It is quadratic and proud
of it: every function can be read beside the sentence that it transcribes.

Words: a *commit* is identified by its digest (sha256 of the header). An *operation* is one line of one
section: what a commit did to one key. A *write* is an operation together with its commit. Cells are kept as
COPY text, exactly as in the section, so that two values are equal when their bytes are; `\\N` is NULL. A key
is the text of the key fields, as in the section line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

INSERT, UPDATE, DELETE = "INSERT", "UPDATE", "DELETE"
Cells = dict[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """What one commit did to one key: the columns that it wrote, and the commits that it had not seen."""

    op: str
    relation: str
    key: str
    cells: tuple[tuple[str, str], ...] = ()
    unseen: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, decoded: all that the rules look at."""

    digest: bytes
    author: bytes
    hlc: int
    parents: frozenset[bytes]
    operations: tuple[Operation, ...]
    epoch: int = 0
    seq: int = 0
    previous: bytes | None = None

    @property
    def order(self) -> tuple[int, bytes, bytes]:
        """Rule 2: the total order of writes."""
        return (self.hlc, self.author, self.digest)


@dataclass(frozen=True, slots=True)
class Write:
    """An operation of a commit, with the digests of the commits in its ancestry, its own among them."""

    commit: Commit
    operation: Operation
    ancestry: frozenset[bytes]

    @property
    def op(self) -> str:
        return self.operation.op

    @property
    def order(self) -> tuple[int, bytes, bytes]:
        return self.commit.order

    def saw(self, other: Write) -> bool:
        """Whether the other write's commit is in this write's ancestry."""
        return other.commit.digest in self.ancestry

    def value(self, column: str) -> str | None:
        """The COPY text that this write gives the column; None when it does not write it."""
        return dict(self.operation.cells).get(column)


@dataclass(frozen=True, slots=True)
class Conflict:
    """One row of peer.conflict: values are a cell's COPY text or a row's cells; None is "no row"."""

    conflict_id: str
    relation: str
    key: str
    column: str | None
    kind: str
    state: str
    winner: bytes
    loser: bytes
    base_value: str | Cells | None = field(hash=False)
    winning_value: str | Cells | None = field(hash=False)
    losing_value: str | Cells | None = field(hash=False)


def concurrent(a: Write, b: Write) -> bool:
    """a ∥ b: writes of different commits, neither commit in the other write's ancestry."""
    return a.commit.digest != b.commit.digest and not a.saw(b) and not b.saw(a)


def annuls(delete: Write, write: Write, writes: Iterable[Write]) -> bool:
    """Rule 3: D annuls W when D ∉ anc(W) and no insert I with I = W or I ∈ anc(W) is greater than D."""
    if delete.op != DELETE or write.saw(delete):
        return False
    return not any(
        insert.op == INSERT and (insert is write or write.saw(insert)) and insert.order > delete.order
        for insert in writes
    )


def row_of(writes: list[Write]) -> Cells | None:
    """Rule 3: the row that these writes of one key leave behind; None when it does not exist."""
    standing = [
        write
        for write in writes
        if write.op != DELETE and not any(annuls(delete, write, writes) for delete in writes)
    ]
    if not any(write.op == INSERT for write in standing):
        return None
    row: Cells = {}
    for write in sorted(standing, key=lambda w: w.order):
        row.update(write.operation.cells)
    return row


def superseded(a: Write, b: Write, writes: Iterable[Write]) -> bool:
    """Rule 5: a later write a′ has a in its ancestry and is concurrent to b."""
    return any(
        later.commit.digest != a.commit.digest and later.saw(a) and concurrent(later, b) for later in writes
    )


def kind_of(a: Write, b: Write) -> str:
    """Both operations in alphabetical order, lower case."""
    return "_".join(sorted((a.op.lower(), b.op.lower())))


def conflict_id(relation: str, key: str, column: str | None, a: Write, b: Write) -> str:
    """The first 32 hexadecimal digits of a hash over relation, column, both commits and the key."""
    lesser, greater = sorted((a, b), key=lambda w: w.order)
    text = "|".join(
        (relation, column or "", lesser.commit.digest.hex(), greater.commit.digest.hex(), key),
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Oracle:
    """The bundle's state according to the rules, for one set of commits.

    The set must be closed under parents. Nothing here depends on the order in which the commits are given.
    """

    def __init__(self, commits: Iterable[Commit]) -> None:
        self.commits = {commit.digest: commit for commit in commits}
        self._reachable: dict[bytes, frozenset[bytes]] = {}
        for commit in sorted(self.commits.values(), key=lambda c: c.order):
            for parent in commit.parents:
                if self.commits[parent].hlc >= commit.hlc:
                    raise ValueError(f"{commit.digest.hex()} is not later than its parent {parent.hex()}")
            parents = (self._reachable[parent] for parent in commit.parents)
            self._reachable[commit.digest] = frozenset({commit.digest}).union(*parents)
        self._writes: dict[tuple[str, str], list[Write]] = {}
        for commit in self.commits.values():
            for operation in commit.operations:
                ancestry = self._reachable[commit.digest] - operation.unseen
                write = Write(commit, operation, ancestry)
                self._writes.setdefault((operation.relation, operation.key), []).append(write)

    def reachable(self, digest: bytes) -> frozenset[bytes]:
        """The commit and everything reachable through parents (no unseen list subtracted)."""
        return self._reachable[digest]

    def heads(self) -> set[bytes]:
        """The commits that are no other commit's ancestor."""
        covered = {p for commit in self.commits.values() for p in commit.parents}
        return set(self.commits) - covered

    def keys(self, relation: str) -> list[str]:
        """Every key of the relation that some commit touched."""
        return sorted(key for r, key in self._writes if r == relation)

    def relations(self) -> list[str]:
        """Every relation that some commit touched."""
        return sorted({r for r, _ in self._writes})

    def writes(self, relation: str, key: str, among: frozenset[bytes] | None = None) -> list[Write]:
        """The writes of one key; with `among`, only those of these commits."""
        found = self._writes.get((relation, key), [])
        return [write for write in found if among is None or write.commit.digest in among]

    def row(self, relation: str, key: str, among: frozenset[bytes] | None = None) -> Cells | None:
        """The row in the state of all commits, or of the commits `among`; None when it does not exist."""
        return row_of(self.writes(relation, key, among))

    def rows(self, relation: str) -> dict[str, Cells]:
        """Every row that exists: key text -> cells."""
        found = ((key, self.row(relation, key)) for key in self.keys(relation))
        return {key: row for key, row in found if row is not None}

    def conflicts(self, relation: str | None = None) -> dict[str, Conflict]:
        """Every conflict, resolved ones included, by id."""
        found: dict[str, Conflict] = {}
        for (rel, key), writes in self._writes.items():
            if relation is None or rel == relation:
                for conflict in (
                    *self._cell_conflicts(rel, key, writes),
                    *self._row_conflicts(rel, key, writes),
                ):
                    if found.setdefault(conflict.conflict_id, conflict) != conflict:
                        raise ValueError(
                            f"one conflict id, two meanings: {conflict} {found[conflict.conflict_id]}"
                        )
        return found

    def _cell_conflicts(self, relation: str, key: str, writes: list[Write]) -> Iterator[Conflict]:
        for column in sorted({column for write in writes for column, _ in write.operation.cells}):
            cell = [write for write in writes if write.value(column) is not None]
            for a, b in pairs(cell):
                if a.value(column) == b.value(column):
                    continue
                if superseded(a, b, cell) or superseded(b, a, cell):
                    continue
                loser, winner = sorted((a, b), key=lambda w: w.order)
                base = self.row(relation, key, a.ancestry & b.ancestry)
                yield Conflict(
                    conflict_id(relation, key, column, a, b),
                    relation,
                    key,
                    column,
                    kind_of(a, b),
                    "resolved" if any(w.saw(a) and w.saw(b) for w in cell) else "settled",
                    winner.commit.digest,
                    loser.commit.digest,
                    None if base is None else base.get(column),
                    winner.value(column),
                    loser.value(column),
                )

    def _row_conflicts(self, relation: str, key: str, sections: list[Write]) -> Iterator[Conflict]:
        writes = operations_of(sections)
        for a, b in pairs(writes):
            if (a.op == DELETE) == (b.op == DELETE):
                continue
            if superseded(a, b, writes) or superseded(b, a, writes):
                continue
            delete, other = (a, b) if a.op == DELETE else (b, a)
            winner, loser = (delete, other) if annuls(delete, other, writes) else (other, delete)
            yield Conflict(
                conflict_id(relation, key, None, a, b),
                relation,
                key,
                None,
                kind_of(a, b),
                "resolved" if any(w.saw(a) and w.saw(b) for w in writes) else "settled",
                winner.commit.digest,
                loser.commit.digest,
                self.row(relation, key, a.ancestry & b.ancestry),
                self.row(relation, key, winner.ancestry),
                self.row(relation, key, loser.ancestry),
            )

    def lost_writes(self) -> list[str]:
        """The writes that nobody accounts for: there must be none.

        A written cell is accounted for when its value stands, when a write that saw it followed (on the cell,
        or a delete of the row), when a concurrent write says the same, when a conflict names it, or when a
        conflict about the row names a later operation that saw it (the row is kept there). A delete is
        accounted for when the row is absent, when an operation that saw it followed, or when a conflict
        names it.
        """
        named: dict[tuple[str, str, str | None], set[bytes]] = {}
        for c in self.conflicts().values():
            named.setdefault((c.relation, c.key, c.column), set()).update((c.winner, c.loser))
        lost = []
        for (relation, key), writes in self._writes.items():
            row = self.row(relation, key)
            for write in writes:
                name = f"{write.op} of {key!r} by {write.commit.digest.hex()[:12]}"
                others = [other for other in writes if other.commit.digest != write.commit.digest]
                told = named.get((relation, key, None), ())
                existence = any(
                    other.commit.digest in told for other in writes if other is write or other.saw(write)
                )
                if write.op == DELETE:
                    if not (row is None or existence or any(other.saw(write) for other in others)):
                        lost.append(name)
                    continue
                if existence or any(other.op == DELETE and other.saw(write) for other in others):
                    continue
                for column, value in write.operation.cells:
                    cell = [other for other in others if other.value(column) is not None]
                    stands = row is not None and row.get(column) == value
                    followed = any(other.saw(write) for other in cell)
                    echoed = any(concurrent(other, write) and other.value(column) == value for other in cell)
                    listed = write.commit.digest in named.get((relation, key, column), ())
                    if not (stands or followed or echoed or listed):
                        lost.append(f"{name}, column {column}")
        return lost


def operations_of(writes: list[Write]) -> list[Write]:
    """One write per commit: the existence of a row is judged by the union of its sections' unseen lists."""
    found: dict[bytes, Write] = {}
    for write in writes:
        earlier = found.get(write.commit.digest, write)
        found[write.commit.digest] = (
            write
            if earlier is write
            else Write(write.commit, write.operation, write.ancestry & earlier.ancestry)
        )
    return list(found.values())


def pairs(writes: list[Write]) -> Iterator[tuple[Write, Write]]:
    """Every unordered pair of concurrent writes."""
    for i, a in enumerate(writes):
        for b in writes[i + 1 :]:
            if concurrent(a, b):
                yield a, b
