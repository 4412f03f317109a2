"""Random histories on real databases, against the oracle: the proof that the SQL merges as the rules say.

One example: two to five databases share a fresh table; users write, commits are made, travel in odd orders,
partly, twice, through third parties, and are merged. After each commit the database must show what the oracle
says about the commits merged there; at the end everything is delivered everywhere and all must agree, rows,
conflicts, hashes and vectors; then everything is delivered once more and nothing may change.

`HYPOTHESIS_PROFILE=deep` runs many more and longer examples. `PGPEER_SEED` repeats a run; the seed and the
blob of a failing example are printed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count

import psycopg
import pytest
from fixtures.databases import Database, Databases
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from .agreement import Record
from .replica import Envelope, Relation, Replica
from .workload import UNIQUE, Plan, Step, at_table, plans

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEED = int(os.environ.get("PGPEER_SEED") or random.SystemRandom().getrandbits(32))
MOST_DATABASES = 5
EXAMPLES_PER_FLEET = 100
EXAMPLES = {"auto": 90, "manual": 50, "held": 30}
PROFILE = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


class Fleet:
    """Databases that are used for many examples; each example makes a bundle and a table of its own."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.made: list[Database] = []
        self.replicas: list[Replica] = []
        self.numbers = count(1)

    def begin(self, plan: Plan, mode: str) -> tuple[list[Replica], Relation, Record]:
        """Fresh bundle and table on as many databases as the plan wants."""
        number = next(self.numbers)
        if number % EXAMPLES_PER_FLEET == 1:
            self.close()
            self.made = [self.databases.create(f"f{number}d{i}") for i in range(MOST_DATABASES)]
            self.replicas = [Replica(f"db{i}", made.dsn, made.key) for i, made in enumerate(self.made)]
        first, *others = replicas = self.replicas[: plan.databases]
        for replica in replicas:
            replica.connection.rollback()
            replica.execute("SELECT pg_catalog.pg_advisory_unlock_all()")
        relation, record = plan.profile.relation(number), Record()
        first.write(plan.profile.ddl(relation), *([plan.rows(relation)] if plan.filled else []))
        first.create(f"bundle {number}", mode, [relation])
        record.gather(first)
        for replica in others:
            replica.adopt(first.bundle_id, first.bundle, mode)
            replica.deliver(record.envelopes.values())
        return replicas, relation, record

    def close(self) -> None:
        for replica, database in zip(self.replicas, self.made, strict=True):
            replica.close()
            self.databases.drop(database)


class Play:
    """One example being played."""

    def __init__(self, replicas: Sequence[Replica], relation: Relation, record: Record, mode: str) -> None:
        self.replicas, self.relation, self.record, self.mode = replicas, relation, record, mode

    def step(self, step: Step) -> None:
        replica = self.replicas[step.at]
        if step.kind == "write":
            replica.write(*at_table(step, self.relation).statements)
        elif step.kind == "send":
            self.send(replica, self.replicas[step.to], step)
        else:
            self.commit(replica, as_worker=step.kind == "seal" and self.mode == "auto")

    def commit(self, replica: Replica, *, as_worker: bool) -> None:
        """Commit, merge what waited for that, and hold the database beside the oracle."""
        before = replica.rows(self.relation)
        made = replica.seal() if as_worker else replica.commit()
        if self.mode == "auto" or made is None:
            assert replica.rows(self.relation) == before, "a commit changed the table"
        replica.merge()
        assert replica.status() == []
        self.record.check(replica, [self.relation])

    def send(self, source: Replica, target: Replica, step: Step) -> None:
        """Carry commits that the target lacks: some of them, shuffled, some twice, some without a section."""
        self.record.gather(source)
        chance = random.Random(step.order)
        known = target.merged()
        offered = [self.record.envelopes[digest] for digest in sorted(source.merged())]
        missing = [envelope for envelope in offered if envelope.digest not in known]
        if not step.whole:
            missing = [envelope for envelope in missing if chance.random() < 0.7]
        parcel = missing + [envelope for envelope in offered if chance.random() < 0.2]
        chance.shuffle(parcel)
        lame = chance.choice(missing) if missing and not step.whole and chance.random() < 0.3 else None
        for envelope in parcel:
            self.receive(target, envelope, lame is envelope, chance)
        outcomes = target.merge(step.batch)
        assert all(outcome == "merged" for _, outcome, _ in outcomes), outcomes
        if self.mode == "auto" and outcomes:
            self.record.check(target, [self.relation])

    def receive(self, target: Replica, envelope: Envelope, lame: bool, chance: random.Random) -> None:
        target.receive_header(envelope)
        numbers = list(range(1, len(envelope.sections) + 1))
        chance.shuffle(numbers)
        for number in numbers[1:] if lame else numbers:
            target.receive_section(envelope, number)

    def finish(self) -> None:
        """Commit and deliver everything everywhere, compare, and deliver it all again."""
        chance = random.Random(0)
        for replica in self.replicas:
            self.commit(replica, as_worker=False)
        for replica in self.replicas:
            replica.deliver(self.shuffled(chance))
        self.record.check_agreement(self.replicas, [self.relation])
        for replica in self.replicas:
            answers = replica.receive(self.shuffled(chance))
            assert set(answers) == {"known"}
            assert replica.merge() == []
            assert replica.commit() is None
        self.record.check_agreement(self.replicas, [self.relation])

    def shuffled(self, chance: random.Random) -> list[Envelope]:
        envelopes = list(self.record.envelopes.values())
        chance.shuffle(envelopes)
        return envelopes


class ConstrainedPlay(Play):
    """An example with a UNIQUE and a CHECK constraint: users are refused, and merges hold commits."""

    def step(self, step: Step) -> None:
        if step.kind == "write":
            with suppress(psycopg.errors.IntegrityError):
                super().step(step)
        else:
            super().step(step)

    def send(self, source: Replica, target: Replica, step: Step) -> None:
        self.record.gather(source)
        offered = [self.record.envelopes[digest] for digest in sorted(source.merged())]
        random.Random(step.order).shuffle(offered)
        target.receive(offered)
        target.merge(step.batch)
        if target.status() == []:
            self.record.check(target, [self.relation])

    def finish(self) -> None:
        """Databases may hold different commits, but each shows what the rules say about those it merged."""
        for replica in self.replicas:
            self.commit(replica, as_worker=False)
        for replica in self.replicas:
            replica.receive(self.record.envelopes.values())
            outcomes = replica.merge()
            lacking = set(self.record.envelopes) - replica.merged()
            listed = [problem for problem in replica.problems() if problem[1] == replica.bundle]
            assert bool(lacking) == bool(listed), (outcomes, listed)
            self.record.check(replica, [self.relation])


def play(fleet: Fleet, plan: Plan, mode: str) -> None:
    """Play one example; when it fails, play the smallest part of it that still fails and show that."""
    try:
        perform(fleet, plan, mode)
    except (AssertionError, psycopg.Error):
        smallest = reduced(plan, lambda smaller: fails(fleet, smaller, mode))
        note(f"PGPEER_SEED={SEED}, {mode} mode, {plan.databases} databases, table kind {plan.profile.name}")
        note(
            f"the table begins {'with every key' if plan.filled else 'empty'}; the smallest steps that fail:"
        )
        for step in smallest.steps:
            note(f"  {step}")
        perform(fleet, smallest, mode)
        raise


def perform(fleet: Fleet, plan: Plan, mode: str) -> None:
    """Play all steps and the end."""
    play = (ConstrainedPlay if plan.profile.constraints else Play)(*fleet.begin(plan, mode), mode)
    for step in plan.steps:
        play.step(step)
    play.finish()


def fails(fleet: Fleet, plan: Plan, mode: str) -> bool:
    """Whether playing a plan fails."""
    try:
        perform(fleet, plan, mode)
    except (AssertionError, psycopg.Error):
        return True
    return False


def reduced(plan: Plan, still_fails: Callable[[Plan], bool], tries: int = 150) -> Plan:
    """Leave out steps, many at a time and then one by one, as long as the plan still fails."""
    size = max(1, len(plan.steps) // 2)
    while size:
        start = 0
        while start < len(plan.steps):
            tries -= 1
            smaller = replace(plan, steps=plan.steps[:start] + plan.steps[start + size :])
            if tries > 0 and still_fails(smaller):
                plan = smaller
            else:
                start += size
        size //= 2
    return plan


@pytest.fixture
def fleet(databases: Databases) -> Iterator[Fleet]:
    """Databases for the examples of one test."""
    fleet = Fleet(databases)
    yield fleet
    fleet.close()


@pytest.mark.slow
@pytest.mark.timeout(0 if DEEP else 1200)
@seed(SEED)
@settings(PROFILE, max_examples=EXAMPLES["auto"] * (20 if DEEP else 1))
@given(plan=plans(80 if DEEP else 28))
def test_databases_that_commit_as_changes_arrive_agree_with_each_other_and_the_oracle(
    fleet: Fleet, plan: Plan
) -> None:
    play(fleet, plan, "auto")


@pytest.mark.slow
@pytest.mark.timeout(0 if DEEP else 1200)
@seed(SEED)
@settings(PROFILE, max_examples=EXAMPLES["manual"] * (20 if DEEP else 1))
@given(plan=plans(80 if DEEP else 28))
def test_databases_whose_people_commit_agree_with_each_other_and_the_oracle(fleet: Fleet, plan: Plan) -> None:
    play(fleet, plan, "manual")


@pytest.mark.slow
@pytest.mark.timeout(0 if DEEP else 1200)
@seed(SEED)
@settings(PROFILE, max_examples=EXAMPLES["held"] * (20 if DEEP else 1))
@given(plan=plans(80 if DEEP else 28, (UNIQUE,)))
def test_databases_that_hold_commits_show_what_the_oracle_says_about_the_rest(
    fleet: Fleet, plan: Plan
) -> None:
    play(fleet, replace(plan, filled=False), "auto")
