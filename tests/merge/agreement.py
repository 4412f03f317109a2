"""What must hold between real databases and the oracle."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pgpeer.identity.peer_id import peer_id_from_public_key

from .decoding import COMMIT_CID
from .oracle import Cells, Commit, Conflict, Oracle
from .replica import Envelope, ListedConflict, Relation, Replica, column_names, row_text


def commit_id(digest: bytes) -> str:
    """The commit id as people see it: a CID version 1 in lower-case base32."""
    return "b" + base64.b32encode(COMMIT_CID + digest).decode().lower().rstrip("=")


@dataclass
class Record:
    """Every commit that left any database so far, and the oracle's view of any part of them."""

    envelopes: dict[bytes, Envelope] = field(default_factory=dict)
    commits: dict[bytes, Commit] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        """Take note of commits; those that are new."""
        new = [envelope for envelope in envelopes if envelope.digest not in self.envelopes]
        self.envelopes.update((envelope.digest, envelope) for envelope in new)
        self.commits.update((envelope.digest, envelope.commit()) for envelope in new)
        self.names |= column_names(new)
        return new

    def gather(self, replica: Replica) -> list[Envelope]:
        """Sign at a database and take note of what it has that was not known."""
        return self.add(replica.outgoing(self.envelopes))

    def oracle(self, digests: Iterable[bytes] | None = None) -> Oracle:
        """The oracle of all commits, or of these."""
        return Oracle(self.commits[digest] for digest in (self.commits if digests is None else digests))

    def expected_rows(self, oracle: Oracle, relation: Relation) -> dict[str, Cells]:
        """The oracle's rows with column names for column ids."""
        return {
            key: {self.names[column]: value for column, value in row.items()}
            for relation_id in oracle.relations()
            if self.names[relation_id] == relation.name
            for key, row in oracle.rows(relation_id).items()
        }

    def expected_conflicts(self, oracle: Oracle, relation: Relation) -> dict[str, ListedConflict]:
        """The oracle's conflicts as peer.conflict should list them."""
        return {
            conflict.conflict_id: self.listed(conflict, relation)
            for relation_id in oracle.relations()
            if self.names[relation_id] == relation.name
            for conflict in oracle.conflicts(relation_id).values()
        }

    def listed(self, conflict: Conflict, relation: Relation) -> ListedConflict:
        """One conflict in the words of peer.conflict."""

        def text(value: str | Cells | None) -> str | None:
            if isinstance(value, dict):
                key = dict(zip(relation.keys, conflict.key.split("\t"), strict=True))
                return row_text(key | {self.names[column]: cell for column, cell in value.items()})
            return value

        return ListedConflict(
            conflict.conflict_id,
            conflict.key,
            None if conflict.column is None else self.names[conflict.column],
            conflict.kind,
            conflict.state,
            commit_id(conflict.winner),
            commit_id(conflict.loser),
            peer_id_from_public_key(self.commits[conflict.winner].author),
            peer_id_from_public_key(self.commits[conflict.loser].author),
            text(conflict.base_value),
            text(conflict.winning_value),
            text(conflict.losing_value),
        )

    def check(self, replica: Replica, relations: Sequence[Relation]) -> None:
        """A database without uncommitted changes shows what the rules say about its merged commits."""
        self.gather(replica)
        oracle = self.oracle(replica.merged())
        for relation in relations:
            rows, expected = replica.rows(relation), self.expected_rows(oracle, relation)
            assert rows == expected, told("rows", replica, relation, rows, expected)
            listed, due = replica.conflicts(relation), self.expected_conflicts(oracle, relation)
            assert listed == due, told("conflicts", replica, relation, listed, due)

    def check_agreement(self, replicas: Sequence[Replica], relations: Sequence[Relation]) -> None:
        """Every database has every commit and shows the oracle's state; no write is lost on the way."""
        oracle = self.oracle()
        assert oracle.lost_writes() == []
        for replica in replicas:
            missing = set(self.envelopes) - replica.merged()
            assert not missing, f"{replica.name} lacks {[digest.hex() for digest in missing]}"
            self.check(replica, relations)
        assert set(oracle.commits) == set(self.commits), "a check made a commit appear"
        assert len({replica.state_hash() for replica in replicas}) == 1
        vectors = [replica.vector() for replica in replicas]
        assert all(vector == vectors[0] for vector in vectors)
        assert vectors[0] == self.expected_vector()

    def expected_vector(self) -> set[tuple[bytes, int, int, bytes]]:
        """Per author and epoch the last commit (for histories without forks)."""
        last: dict[tuple[bytes, int], Commit] = {}
        for commit in sorted(self.commits.values(), key=lambda c: c.seq):
            last[commit.author, commit.epoch] = commit
        return {(author, epoch, commit.seq, commit.digest) for (author, epoch), commit in last.items()}


def told(what: str, replica: Replica, relation: Relation, found: dict, expected: dict) -> str:  # type: ignore[type-arg]
    """The difference between two dictionaries in a few lines."""
    lines = [f"{what} of {relation.name} at {replica.name} differ from the oracle's:"]
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            lines += [f"  {key!r}", f"    database {found.get(key)}", f"    oracle   {expected.get(key)}"]
    return "\n".join(lines)
