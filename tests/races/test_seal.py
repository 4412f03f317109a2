"""Sealing beside writers: each transaction lies wholly inside one commit, on one snapshot (merge rules 6 and 9)."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable

import psycopg
import pytest
from merge.replica import Envelope, Relation, Replica
from merge.world import NOTE, ONE_NOTE, World

from .sessions import PATIENCE, Sessions

MakeWorld = Callable[..., World]
TABLES = [
    Relation("public", name, ("id",), ("writer", "amount")) for name in ("left_side", "middle", "right_side")
]
TABLES_DDL = [
    f"CREATE TABLE public.{relation.name} (id text PRIMARY KEY, writer integer, amount integer)"
    for relation in TABLES
]


def table_of(w: World, envelope: Envelope, key: str) -> set[str]:
    """The tables in which a commit writes a key."""
    return {w.record.names[o.relation] for o in envelope.commit().operations if o.key == key}


def test_a_transaction_that_outlives_a_seal_is_sealed_wholly_later(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(relations=TABLES, ddl=TABLES_DDL)
    alice, _ = w.replicas
    long, short = sessions.open(alice), sessions.open(alice)
    long.run("BEGIN", "INSERT INTO public.left_side VALUES ('long', 1, 1)")
    short.run("INSERT INTO public.left_side VALUES ('short', 2, 1)")
    assert alice.seal()
    (first,) = w.record.gather(alice)
    assert {o.key for o in first.commit().operations} == {"short"}
    long.run(
        "INSERT INTO public.right_side VALUES ('long', 1, 1)",
        "UPDATE public.left_side SET amount = 2 WHERE id = 'long'",
    )
    assert alice.seal() is None
    long.run("INSERT INTO public.middle VALUES ('long', 1, 1)", "COMMIT")
    assert alice.seal()
    (second,) = w.record.gather(alice)
    assert table_of(w, second, "long") == {"left_side", "middle", "right_side"}
    assert alice.seal() is None
    w.exchange()


def test_no_transaction_is_torn_between_two_commits(world: MakeWorld, sessions: Sessions) -> None:
    """Writers mark three tables and move amounts between them while seals run one after the other."""
    w = world(
        relations=TABLES,
        ddl=TABLES_DDL,
        rows=[f"INSERT INTO public.{relation.name} VALUES ('bank', 0, 1000)" for relation in TABLES],
    )
    alice, bob = w.replicas
    writers, rounds = 4, 25
    over = threading.Event()

    def write(number: int) -> None:
        chance = random.Random(number)
        with psycopg.connect(alice.dsn) as user:
            for turn in range(rounds):
                order = chance.sample([relation.name for relation in TABLES], 3)
                key = f"{number}-{turn}"
                for table in order:
                    user.execute(f"INSERT INTO public.{table} VALUES ('{key}', {number}, 0)")
                giver, taker = sorted(order[:2])
                user.execute(f"UPDATE public.{giver} SET amount = amount - 1 WHERE id = 'bank'")
                user.execute(f"UPDATE public.{taker} SET amount = amount + 1 WHERE id = 'bank'")
                if chance.random() < 0.2:
                    user.rollback()
                else:
                    user.commit()

    def seal() -> int:
        count = 0
        while not over.is_set():
            count += alice.seal() is not None
        return count

    sealing = sessions.start(seal)
    for writing in [sessions.start(write, number) for number in range(writers)]:
        writing.result(PATIENCE)
    over.set()
    assert sealing.result(PATIENCE) > 2
    alice.seal()
    made = w.record.gather(alice)
    places: dict[str, dict[str, bytes]] = defaultdict(dict)
    for envelope in made:
        for operation in envelope.commit().operations:
            if operation.key != "bank":
                places[operation.key][w.record.names[operation.relation]] = envelope.digest
    kept = {key for (key,) in alice.execute("SELECT id FROM public.middle WHERE id <> 'bank'")}
    assert set(places) == kept
    assert len(kept) > writers * rounds / 2
    for key, tables in places.items():
        assert set(tables) == {relation.name for relation in TABLES}, key
        assert len(set(tables.values())) == 1, f"the transaction {key} was torn"
    total = " + ".join(
        f"(SELECT amount FROM public.{relation.name} WHERE id = 'bank')" for relation in TABLES
    )
    for envelope in made:
        w.show(bob, envelope)
        assert bob.value(f"SELECT {total}") == 3000, "a commit holds half of a transfer"
    w.exchange()


def test_a_seal_started_inside_repeatable_read_is_refused(world: MakeWorld, sessions: Sessions) -> None:
    """There a snapshot may be older than the lock, and what was committed meanwhile would be missed."""
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    user, other = sessions.open(alice), sessions.open(alice)
    user.run("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM public.note")
    other.run("UPDATE public.note SET title = 'meanwhile'")
    for statement in (
        f"SELECT peer_internal.seal_bundle('{alice.bundle_id}')",
        f"SELECT * FROM peer_internal.merge_next('{alice.bundle_id}', 1)",
        "SELECT peer.commit('shelf')",
    ):
        user.run("SAVEPOINT s")
        with pytest.raises(psycopg.DatabaseError) as refusal:
            user.run(statement)
        assert refusal.value.sqlstate == "PGC01"
        user.run("ROLLBACK TO s")
    user.run("COMMIT")
    assert alice.commit()
    w.record.gather(alice)
    w.exchange()
    assert w.replicas[1].rows(NOTE)["1"]["title"] == "meanwhile"


def test_a_commit_inside_a_transaction_holds_the_lock_until_its_end_and_seals_wait(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    user, other = sessions.open(alice), sessions.open(alice)
    user.run("BEGIN", "UPDATE public.note SET title = 'user'", "SELECT peer.commit('shelf', 'first')")
    other.run("INSERT INTO public.note VALUES (2, 'other', '')")
    sealing = sessions.start(alice.seal)
    sessions.until_waiting(alice, user)
    user.run("UPDATE public.note SET body = 'later' WHERE id = 1", "COMMIT")
    sealed = sealing.result(PATIENCE)
    made = w.record.gather(alice)
    assert [envelope.digest for envelope in made] == [made[0].digest, sealed]
    assert [envelope.decoded().message for envelope in made] == ["first", None]
    assert {(o.op, o.key, tuple(v for _, v in o.cells)) for o in made[1].commit().operations} == {
        ("INSERT", "2", ("other", "")),
        ("UPDATE", "1", ("later",)),
    }
    assert made[1].decoded().parents == (made[0].digest,)
    w.exchange()


def test_a_seal_that_waited_sees_all_that_was_committed_before_it_got_the_lock(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(relations=TABLES, ddl=TABLES_DDL)
    alice, _ = w.replicas
    holder, waiter, late = (sessions.open(alice) for _ in range(3))
    holder.run(f"SELECT peer_internal.lock_bundle('{alice.bundle_id}')")
    waiting = waiter.start("SELECT peer.commit('shelf')")
    sessions.until_waiting(waiter, holder)
    late.run(
        "BEGIN",
        *(f"INSERT INTO public.{relation.name} VALUES ('late', 1, 1)" for relation in TABLES),
        "COMMIT",
    )
    holder.run(f"SELECT peer_internal.unlock_bundle('{alice.bundle_id}')")
    assert waiting.result(PATIENCE) != [(None,)]
    (made,) = w.record.gather(alice)
    assert table_of(w, made, "late") == {relation.name for relation in TABLES}
    w.exchange()


def test_commits_by_several_sessions_at_once_form_one_chain(world: MakeWorld, sessions: Sessions) -> None:
    w = world()
    alice, _ = w.replicas

    def work(number: int) -> None:
        with psycopg.connect(alice.dsn, autocommit=True) as user:
            for turn in range(5):
                with user.transaction():
                    user.execute(f"INSERT INTO public.note VALUES ({number * 100 + turn}, 'x', '')")
                    user.execute("SELECT peer.commit('shelf')")

    for working in [sessions.start(work, number) for number in range(4)]:
        working.result(PATIENCE)
    made = w.record.gather(alice)
    assert sum(len(envelope.commit().operations) for envelope in made) == 20
    assert [len(envelope.decoded().parents) for envelope in made] == [1] * len(made)
    w.exchange()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_truncate_reports_every_row_that_it_takes(world: MakeWorld, sessions: Sessions, level: str) -> None:
    """TRUNCATE empties the table whatever the transaction's snapshot shows."""
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    user, other = sessions.open(alice), sessions.open(alice)
    user.run(f"BEGIN ISOLATION LEVEL {level}", "SELECT count(*) FROM public.note")
    other.run("INSERT INTO public.note VALUES (2, 'meanwhile', '')")
    assert alice.seal()
    w.record.gather(alice)
    try:
        user.run("TRUNCATE public.note")
        refused = None
    except psycopg.DatabaseError as error:
        refused = error.sqlstate or ""
    user.run("COMMIT")  # or the rollback of what failed
    if refused is None:
        assert alice.rows(NOTE) == {}
    else:
        assert refused.startswith(("PG", "40")), refused
        assert set(alice.rows(NOTE)) == {"1", "2"}
    w.exchange()
    assert bob.rows(NOTE) == alice.rows(NOTE)


def test_a_table_is_tracked_with_what_open_transactions_wrote_into_it(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    shelf = Relation("public", "late", ("id",), ("v",))
    before, tracker, during = (sessions.open(alice) for _ in range(3))
    before.run(
        "CREATE TABLE public.late (id integer PRIMARY KEY, v text)",
        "INSERT INTO public.late VALUES (1, 'old')",
    )
    before.run(
        "BEGIN", "INSERT INTO public.late VALUES (2, 'open')", "UPDATE public.late SET v = 'new' WHERE id = 1"
    )
    tracking = tracker.start("SELECT peer.track('shelf', 'public.late')")
    sessions.until_waiting(tracker, before)
    writing = during.start("INSERT INTO public.late VALUES (3, 'waited')")
    sessions.until_waiting(during, tracker)
    before.run("COMMIT")
    tracking.result(PATIENCE)
    writing.result(PATIENCE)
    w.relations.append(shelf)
    w.exchange()
    assert set(bob.rows(shelf)) == {"1", "2", "3"}


def test_untrack_waits_for_open_transactions_and_their_writes_are_committed(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    writer, untracker = sessions.open(alice), sessions.open(alice)
    writer.run("BEGIN", "UPDATE public.note SET title = 'last word'")
    untracking = untracker.start("SELECT peer.untrack('public.note')")
    sessions.until_waiting(untracker, writer)
    writer.run("COMMIT")
    untracking.result(PATIENCE)
    (last,) = w.record.gather(alice)
    w.show(bob, last)
    assert bob.rows(NOTE)["1"]["title"] == "last word"
    assert alice.rows(NOTE) == bob.rows(NOTE)


def test_one_worker_per_database(world: MakeWorld, sessions: Sessions) -> None:
    w = world()
    first, second = sessions.open(w.replicas[0]), sessions.open(w.replicas[0])
    assert first.run("SELECT peer_internal.try_worker_lock()") == [(True,)]
    assert second.run("SELECT peer_internal.try_worker_lock()") == [(False,)]
    first.close()
    third = sessions.open(w.replicas[0])
    sessions.until(lambda: third.run("SELECT peer_internal.try_worker_lock()") == [(True,)], "the lock stays")


def test_writers_and_merges_and_seals_all_at_once_lose_nothing(world: MakeWorld, sessions: Sessions) -> None:
    """Both databases write the same few rows while commits go to and fro."""
    w = world(rows=["INSERT INTO public.note SELECT g, 'first', '' FROM generate_series(1, 12) AS g"])
    over = threading.Event()

    def write(replica: Replica, seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(replica.dsn, autocommit=True) as user:
            for turn in range(40):
                key, other = chance.sample(range(1, 16), 2)
                mark = f"{replica.name}-{seed}-{turn}"
                statement = chance.choice(
                    [
                        f"UPDATE public.note SET title = '{mark}' WHERE id = {key}",
                        f"UPDATE public.note SET body = '{mark}' WHERE id IN ({key}, {other})",
                        f"DELETE FROM public.note WHERE id = {key}",
                        f"INSERT INTO public.note VALUES ({key}, '{mark}', '') ON CONFLICT (id) DO UPDATE SET title = '{mark}'",
                        f"INSERT INTO public.note VALUES ({key}, '{mark}', '') ON CONFLICT DO NOTHING",
                        f"UPDATE public.note SET id = {other} WHERE id = {key} AND NOT EXISTS (SELECT FROM public.note WHERE id = {other})",
                    ]
                )
                try:
                    user.execute(statement)
                except psycopg.errors.UniqueViolation:
                    continue

    def carry() -> None:
        while not over.is_set():
            for replica in w.replicas:
                replica.seal()
                w.record.gather(replica)
            for replica in w.replicas:
                try:
                    replica.deliver(list(w.record.envelopes.values())[-6:])
                except psycopg.errors.LockNotAvailable:
                    continue

    carrying = sessions.start(carry)
    working = [sessions.start(write, replica, seed) for replica in w.replicas for seed in (1, 2)]
    for one in working:
        one.result(PATIENCE)
    over.set()
    carrying.result(PATIENCE)
    w.exchange()
