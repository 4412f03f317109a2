"""A few databases, one bundle and a record of every commit: the stage of the example tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg
from fixtures.databases import Database

from .agreement import Record
from .ghost import Ghost
from .replica import Envelope, Relation, Replica

NOTE = Relation("public", "note", ("id",), ("title", "body"))
NOTE_DDL = "CREATE TABLE public.note (id integer PRIMARY KEY, title text, body text)"
ONE_NOTE = ["INSERT INTO public.note VALUES (1, 'first', 'text')"]
UNIQUE_DDL = ["CREATE TABLE public.note (id integer PRIMARY KEY, title text UNIQUE, body text)"]
Outcomes = list[tuple[bytes, str, str | None]]


class World:
    """Databases that share one bundle. The first made it; the others got it through commits."""

    def __init__(
        self,
        make: Callable[[str], Database],
        names: str = "alice bob",
        mode: str = "auto",
        relations: Sequence[Relation] = (NOTE,),
        ddl: Sequence[str] = (NOTE_DDL,),
        rows: Sequence[str] = (),
        checked: bool = True,
    ) -> None:
        self.relations = list(relations)
        self.record = Record()
        made = [(name, make(name)) for name in names.split()]
        self.replicas = [Replica(name, database.dsn, database.key) for name, database in made]
        first, *others = self.replicas
        first.write(*ddl, *rows)
        first.create("shelf", mode, relations)
        first.commit()
        self.record.gather(first)
        for replica in others:
            replica.adopt(first.bundle_id, "shelf", mode)
            self.show(replica, *self.record.envelopes.values())
        for replica in self.replicas if checked else ():
            self.record.check(replica, self.relations)

    def show(self, replica: Replica, *envelopes: Envelope) -> Outcomes:
        """Deliver commits, all of which must merge."""
        outcomes = replica.deliver(envelopes)
        assert all(outcome == "merged" for _, outcome, _ in outcomes), outcomes
        return outcomes

    def commit(self, replica: Replica, *statements: str) -> Envelope:
        """Write and commit; exactly one commit comes of it."""
        replica.write(*statements)
        assert replica.commit() is not None
        (envelope,) = self.record.gather(replica)
        return envelope

    def exchange(self) -> None:
        """Let everybody commit and have everything, and hold all beside the oracle."""
        for replica in self.replicas:
            replica.commit()
            self.record.gather(replica)
        for replica in self.replicas:
            self.show(replica, *self.record.envelopes.values())
        self.record.check_agreement(self.replicas, self.relations)

    def latest(self) -> Envelope:
        """The commit with the greatest clock."""
        return max(self.record.envelopes.values(), key=lambda envelope: envelope.decoded().hlc)

    def ghost(self, seed: int = 7) -> Ghost:
        """An author without a database."""
        return Ghost(self.latest(), seed)

    def ids(self, relation: Relation = NOTE) -> tuple[str, dict[str, str]]:
        """The relation's id, and its column ids by name."""
        for relation_id in self.record.oracle().relations():
            if self.record.names.get(relation_id) == relation.name:
                break
        else:
            sections = [s for e in self.record.envelopes.values() for s in e.decoded().sections]
            relation_id = next(s.relation for s in sections if self.record.names[s.relation] == relation.name)
        names = {name: identity for identity, name in self.record.names.items()}
        return relation_id, {name: names[name] for name in relation.columns}

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()


def merge_until(replica: Replica, envelope: Envelope, seconds: float = 20) -> None:
    """Merge until a held commit is in; held commits are tried again after a while."""
    give_up = time.monotonic() + seconds
    while envelope.digest not in replica.merged():
        assert time.monotonic() < give_up, f"still not merged: {replica.problems()}"
        replica.merge()
        time.sleep(0.1)


def merge_when_possible(replica: Replica, seconds: float = 20) -> Outcomes:
    """Merge as the worker does: a merge that yields to a user's lock is tried again."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return replica.merge()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
