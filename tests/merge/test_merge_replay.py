"""Simulated histories, made into real signed commits, merged by real databases in any order.

Clocks are those of the simulation: skewed between authors and often equal, which one machine never shows.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import count

import pytest
from fixtures.databases import Databases

from .agreement import Record
from .ghost import Ghost, Lines
from .oracle import Commit, Operation
from .replica import Envelope, Relation, Replica
from .test_oracle_simulation import play

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEEDS = range(400, 1400) if DEEP else range(400, 418)
RELATION = Relation("public", "replayed", ("k",), ("x", "y"))
NUMBERS = count(1)


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[list[Replica]]:
    """Two databases for all histories of this file."""
    made = [databases.create(f"replay{number}") for number in range(2)]
    replicas = [Replica(database.label, database.dsn, database.key) for database in made]
    yield replicas
    for replica, database in zip(replicas, made, strict=True):
        replica.close()
        databases.drop(database)


def begin(replicas: list[Replica]) -> tuple[Relation, Record, Envelope]:
    """A fresh bundle with an empty table on both; its first commit."""
    first, second = replicas
    number, record = next(NUMBERS), Record()
    relation = Relation("public", f"replayed {number}", RELATION.keys, RELATION.columns)
    first.write(f"CREATE TABLE {relation.regclass} (k text PRIMARY KEY, x text, y text)")
    first.create(f"replay {number}", "auto", [relation])
    record.gather(first)
    second.adopt(first.bundle_id, first.bundle, "auto")
    second.deliver(record.envelopes.values())
    origin = max(record.envelopes.values(), key=lambda envelope: envelope.decoded().hlc)
    return relation, record, origin


def real(commits: list[Commit], origin: Envelope, record: Record) -> list[Envelope]:
    """The simulated commits as envelopes, all of them after the bundle's first commit."""
    ids = {name: identity for identity, name in record.names.items()}
    relation = next(section.relation for section in origin.decoded().sections)
    ghosts = {author: Ghost(origin, number) for number, author in enumerate("abc", 1)}
    made: dict[bytes, Envelope] = {}

    def section(operation: Operation) -> Lines:
        cells = sorted(operation.cells)
        unseen = tuple(made[digest].digest for digest in operation.unseen)
        columns = tuple(ids[column] for column, _ in cells)
        row = (operation.key, tuple(value for _, value in cells))
        return Lines(operation.op, relation, columns, (row,), unseen)

    for commit in sorted(commits, key=lambda commit: commit.order):
        parents = [made[parent] for parent in commit.parents] or [origin]
        sections = [section(operation) for operation in commit.operations]
        ghost = ghosts[chr(commit.author[0])]
        made[commit.digest] = ghost.commit(origin.decoded().hlc + commit.hlc, parents, sections)
    return list(made.values())


@pytest.mark.timeout(0 if DEEP else 300)
@pytest.mark.parametrize("manual", [(), ("a", "b")], ids=["auto", "manual"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_simulated_history_merges_to_the_oracles_answer_in_any_order(
    pair: list[Replica], seed: int, manual: tuple[str, ...]
) -> None:
    relation, record, origin = begin(pair)
    _, commits = play(seed, manual)
    envelopes = record.add(real(commits, origin, record))
    chance = random.Random(seed)
    for replica, batch in zip(pair, (1, 100), strict=True):
        chance.shuffle(envelopes)
        for start in range(0, len(envelopes), 7):
            outcomes = replica.deliver(envelopes[start : start + 7], batch)
            assert all(outcome == "merged" for _, outcome, _ in outcomes), outcomes
            record.check(replica, [relation])
    record.check_agreement(pair, [relation])
