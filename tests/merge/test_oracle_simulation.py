"""Random histories of three peers without any database: the rules themselves keep what they promise.

Each peer knows a set of commits closed under ancestry; its state is the oracle's answer for that set. A peer
in auto mode commits each change at once; a peer in manual mode gathers changes while others' commits arrive,
and lists those that touched its dirty cells as unseen (rule 12).
"""

from __future__ import annotations

import random

import pytest

from .histories import RELATION
from .oracle import DELETE, INSERT, UPDATE, Cells, Commit, Operation, Oracle

COLUMNS = ("x", "y")
KEYS = ("a", "b")
SEEDS = range(40)


class Peer:
    """A simulated peer: the commits it knows, its clock and its uncommitted changes."""

    def __init__(self, name: str, manual: bool) -> None:
        self.name, self.manual = name, manual
        self.known: dict[bytes, Commit] = {}
        self.clock = 0
        self.physical = 0
        self.count = 0
        self.dirty: dict[str, tuple[str, Cells]] = {}
        self.since: dict[tuple[str, str], frozenset[bytes]] = {}

    def oracle(self) -> Oracle:
        return Oracle(self.known.values())

    def receive(self, commit: Commit) -> None:
        self.known[commit.digest] = commit
        self.clock = max(self.clock, commit.hlc)

    def change(self, chance: random.Random) -> None:
        """One change of a user, folded into the uncommitted changes of the key."""
        key = chance.choice(KEYS)
        base = self.oracle().row(RELATION, key)
        op, cells = self.dirty.get(key, ("", {}))
        present = op in (INSERT, UPDATE) or (not op and base is not None)
        self.count += 1
        value = f"{self.name}{self.count}"
        if present and chance.random() < 0.35:
            if op == INSERT:
                self.forget(key)
            else:
                self.note(key, DELETE, {})
        elif present:
            written = {column: value for column in COLUMNS if chance.random() < 0.6} or {"x": value}
            self.note(key, op or UPDATE, cells | written)
        else:
            self.note(key, UPDATE if op == DELETE else INSERT, dict.fromkeys(COLUMNS, value))

    def note(self, key: str, op: str, cells: Cells) -> None:
        self.dirty[key] = (op, cells)
        for column in (*cells, ""):
            self.since.setdefault((key, column), frozenset(self.known))

    def forget(self, key: str) -> None:
        del self.dirty[key]
        self.since = {place: known for place, known in self.since.items() if place[0] != key}

    def unseen(self, key: str, column: str) -> frozenset[bytes]:
        """The commits that wrote the cell since it is dirty, or made or removed the row since the row is."""
        return frozenset(
            commit.digest
            for commit in self.known.values()
            for operation in commit.operations
            if operation.key == key
            if (commit.digest not in self.since[key, ""] and (not column or operation.op != UPDATE))
            or (commit.digest not in self.since[key, column] and column in dict(operation.cells))
        )

    def commit(self) -> Commit | None:
        """Commit what is dirty, and check that the user's changes are what the state now says."""
        if not self.dirty:
            return None
        operations = []
        for key, (op, cells) in self.dirty.items():
            if op != UPDATE:
                operations.append(Operation(op, RELATION, key, tuple(cells.items()), self.unseen(key, "")))
                continue
            lists: dict[frozenset[bytes], Cells] = {}
            for column, value in cells.items():
                lists.setdefault(self.unseen(key, column), {})[column] = value
            for unseen, some in lists.items():
                operations.append(Operation(op, RELATION, key, tuple(some.items()), unseen))
        self.clock = max(self.clock + 1, self.physical)
        self.count += 1
        digest = f"{self.name}/{self.count}".encode().ljust(32)
        parents = frozenset(self.oracle().heads())
        made = Commit(digest, self.name.encode() * 32, self.clock, parents, tuple(operations))
        dirty, self.dirty, self.since = self.dirty, {}, {}
        self.known[digest] = made
        self.check(made, dirty)
        return made

    def check(self, made: Commit, dirty: dict[str, tuple[str, Cells]]) -> None:
        oracle = self.oracle()
        named = {(c.key, digest) for c in oracle.conflicts().values() for digest in (c.winner, c.loser)}
        for key, (op, cells) in dirty.items():
            row = oracle.row(RELATION, key)
            if op == DELETE:
                assert row is None
            elif row is None or {column: row[column] for column in cells} != cells:
                assert op == UPDATE, "an insert always stands at its author's"
                assert self.manual, "nobody interferes with a change that is committed at once"
                assert (key, made.digest) in named, "a delete that the user never saw won without a trace"


def play(seed: int, manual: tuple[str, ...]) -> tuple[list[Peer], list[Commit]]:
    """A random history; at its end every peer knows every commit."""
    chance = random.Random(seed)
    peers = [Peer(name, name in manual) for name in "abc"]
    commits: list[Commit] = []
    constant: dict[str, tuple[object, ...]] = {}

    def deliver(peer: Peer, everything: bool) -> None:
        while ready := [c for c in commits if c.digest not in peer.known and c.parents <= set(peer.known)]:
            peer.receive(chance.choice(ready))
            if not everything:
                return

    def seal(peer: Peer) -> None:
        if made := peer.commit():
            commits.append(made)
            for c in peer.oracle().conflicts().values():
                facts = (c.kind, c.winner, c.loser, c.base_value, c.winning_value, c.losing_value)
                assert constant.setdefault(c.conflict_id, facts) == facts

    for _ in range(40):
        peer = chance.choice(peers)
        peer.physical += chance.randint(0, 6)
        if chance.random() < 0.55:
            peer.change(chance)
            if not peer.manual or chance.random() < 0.4:
                seal(peer)
        else:
            deliver(peer, everything=False)
    for peer in peers:
        seal(peer)
    for peer in peers:
        deliver(peer, everything=True)
    return peers, commits


@pytest.mark.parametrize("manual", [(), ("a",), ("a", "b", "c")], ids=["auto", "mixed", "manual"])
@pytest.mark.parametrize("seed", SEEDS)
def test_peers_that_know_the_same_commits_agree_and_nothing_is_lost(
    seed: int, manual: tuple[str, ...]
) -> None:
    peers, commits = play(seed, manual)
    answers = [(peer.oracle().rows(RELATION), peer.oracle().conflicts()) for peer in peers]
    assert all(set(peer.known) == {commit.digest for commit in commits} for peer in peers)
    assert answers.count(answers[0]) == len(answers)
    assert peers[0].oracle().lost_writes() == []


def test_the_simulation_meets_the_cases_that_matter() -> None:
    kinds = set()
    for seed in SEEDS:
        peers, _ = play(seed, ("a", "b"))
        kinds |= {(c.kind, c.state) for c in peers[0].oracle().conflicts().values()}
    assert {kind for kind, _ in kinds} == {
        *("update_update", "insert_update", "insert_insert", "delete_update", "delete_insert"),
    }
    assert {state for _, state in kinds} == {"settled", "resolved"}
