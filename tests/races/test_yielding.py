"""A merge always yields to users and comes back (merge rule 8); a user waits only for a row that a merge holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import psycopg
import pytest
from fixtures.databases import Databases
from merge.replica import Replica
from merge.world import NOTE, NOTE_DDL, World, merge_when_possible

from .open_merge import begin_merge, end_merge
from .sessions import PATIENCE, Session, Sessions

MakeWorld = Callable[..., World]
OWN_ADVISORY_LOCKS = """
SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
 WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""
FIVE_NOTES = ["INSERT INTO public.note SELECT g, 'first', '' FROM generate_series(1, 5) AS g"]


def bodies(replica: Replica) -> list[str]:
    """The bodies of all notes in the order of their keys."""
    return [row["body"] for _, row in sorted(replica.rows(NOTE).items())]


def waiting_merge(sessions: Sessions, replica: Replica, holder: Session) -> Future[object]:
    """A merge that has begun to wait for a row that somebody holds."""
    give_up = time.monotonic() + PATIENCE
    while True:
        merging = sessions.start(replica.merge)
        sessions.until(lambda: merging.done() or waits(sessions, replica, holder), "nobody waits as expected")  # noqa: B023
        if not merging.done():
            return merging
        # it waits for so short a time that on a busy machine it has given way before anybody could see it
        with pytest.raises(psycopg.errors.LockNotAvailable):
            merging.result()
        assert time.monotonic() < give_up, "no merge was seen to wait"


def test_a_merge_gives_up_its_locks_when_a_user_holds_on(world: MakeWorld, sessions: Sessions) -> None:
    w = world(rows=FIVE_NOTES)
    alice, bob = w.replicas
    theirs = w.commit(
        bob, "UPDATE public.note SET title = 'bob'", "INSERT INTO public.note VALUES (6, 'b', 'b')"
    )
    alice.receive([theirs])
    user, other = sessions.open(alice), sessions.open(alice)
    user.run("BEGIN", "UPDATE public.note SET body = 'alice' WHERE id = 3")
    merging = waiting_merge(sessions, alice, user)
    with pytest.raises(psycopg.errors.LockNotAvailable) as refusal:
        merging.result(PATIENCE)
    assert refusal.value.sqlstate == "55P03"
    assert {row["title"] for row in alice.rows(NOTE).values()} == {"first"}
    other.run("UPDATE public.note SET body = 'other' WHERE id = 1")
    assert alice.value(OWN_ADVISORY_LOCKS) == 0
    user.run("COMMIT")
    assert [outcome for _, outcome, _ in alice.merge()] == ["merged"]
    assert alice.rows(NOTE)["3"] == {"title": "bob", "body": "alice"}
    w.exchange()


def test_in_a_deadlock_the_merge_yields_and_the_user_succeeds(world: MakeWorld, sessions: Sessions) -> None:
    w = world(rows=FIVE_NOTES)
    alice, bob = w.replicas
    alice.receive([w.commit(bob, "UPDATE public.note SET title = 'bob'")])
    user = sessions.open(alice)
    user.run("BEGIN", "UPDATE public.note SET body = 'alice' WHERE id = 4")
    merging = waiting_merge(sessions, alice, user)
    second = user.start("UPDATE public.note SET body = 'alice' WHERE id = 1")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        merging.result(PATIENCE)
    second.result(PATIENCE)
    user.run("COMMIT")
    merge_when_possible(alice)
    assert bodies(alice) == ["alice", "", "", "alice", ""]
    w.exchange()


@pytest.mark.parametrize("deadlock_timeout", ["1s", "150ms"])
def test_a_user_is_never_the_one_who_a_deadlock_ends(
    world: MakeWorld, sessions: Sessions, deadlock_timeout: str
) -> None:
    """The user waits for a row of the merge first; other sessions hold the merge up before it meets the user's row.

    PostgreSQL ends the session whose deadlock_timeout comes first after the circle is closed.
    """
    w = world(rows=FIVE_NOTES)
    alice, bob = w.replicas
    alice.execute(
        f"ALTER DATABASE {alice.connection.info.dbname} SET deadlock_timeout = '{deadlock_timeout}'"
    )
    alice.connection.close()
    alice.connection = psycopg.connect(alice.dsn, autocommit=True)
    alice.receive([w.commit(bob, "UPDATE public.note SET title = 'bob'")])
    user = sessions.open(alice)
    holders = {key: sessions.open(alice) for key in (2, 3, 4)}
    user.run("BEGIN", "UPDATE public.note SET body = 'user' WHERE id = 5")
    for key, holder in holders.items():
        holder.run("BEGIN", f"UPDATE public.note SET body = 'holder' WHERE id = {key}")
    merging = waiting_merge(sessions, alice, holders[2])
    writing = user.start("UPDATE public.note SET body = 'user' WHERE id = 1")
    hold = 0.3 if deadlock_timeout == "1s" else 0.02
    for key, holder in holders.items():
        until = time.monotonic() + hold  # not to synchronise: so long does a user think
        sessions.until(lambda until=until: time.monotonic() > until or merging.done(), "")  # type: ignore[misc]
        holder.run("COMMIT")
        if key < 4 and not merging.done():
            sessions.until(
                lambda key=key: merging.done() or waits(sessions, alice, holders[key + 1]),  # type: ignore[misc]
                "the merge does not go on",
            )
    writing.result(PATIENCE)
    user.run("COMMIT")
    with pytest.raises((psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
        merging.result(PATIENCE)
    merge_when_possible(alice)
    assert bodies(alice) == ["user", "holder", "holder", "holder", "user"]
    w.exchange()


def waits(sessions: Sessions, waiting: Replica, holder: Session) -> bool:
    """Whether the one waits for the other now."""
    observer = sessions._observer(waiting)
    found = observer.execute(
        "SELECT %s = ANY (pg_blocking_pids(%s))", [holder.pid, waiting.connection.info.backend_pid]
    )
    return found.fetchone() == (True,)


def test_a_user_who_waits_for_a_row_of_a_merge_goes_on_when_it_ends(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=FIVE_NOTES)
    alice, bob = w.replicas
    alice.receive([w.commit(bob, "UPDATE public.note SET title = 'bob' WHERE id < 4")])
    waiting, free = sessions.open(alice), sessions.open(alice)
    begin_merge(alice)
    writing = waiting.start("UPDATE public.note SET body = 'waited' WHERE id = 2")
    sessions.until_waiting(waiting, alice)
    free.run(
        "UPDATE public.note SET body = 'free' WHERE id = 5",
        "INSERT INTO public.note VALUES (9, 'free', '')",
        "DELETE FROM public.note WHERE id = 4",
    )
    assert not writing.done()
    end_merge(alice)
    writing.result(PATIENCE)
    w.exchange()
    assert bob.rows(NOTE)["2"] == {"title": "bob", "body": "waited"}


def test_a_merge_waits_for_an_open_insert_of_its_key_no_longer_than_its_lock_timeout(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world()
    alice, bob = w.replicas
    alice.receive([w.commit(bob, "INSERT INTO public.note VALUES (1, 'bob', 'bob')")])
    user = sessions.open(alice)
    user.run("BEGIN", "INSERT INTO public.note VALUES (1, 'alice', 'alice')")
    merging = waiting_merge(sessions, alice, user)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        merging.result(PATIENCE)
    user.run("COMMIT")
    merge_when_possible(alice)
    w.exchange()
    assert len(alice.conflicts(NOTE)) == 2


BULK = {
    "INSERT": "INSERT INTO public.note SELECT g, 'many', 'rows' FROM generate_series(1, 100000) AS g",
    "UPDATE": "UPDATE public.note SET title = 'changed' WHERE id > 0",
}


@pytest.mark.slow
def test_users_write_on_while_a_hundred_thousand_rows_are_merged(
    databases: Databases, sessions: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the oracle, which would take minutes for so many rows."""
    with databases.temporary("alice") as one, databases.temporary("bob") as other:
        alice, bob = Replica("alice", one.dsn, one.key), Replica("bob", other.dsn, other.key)
        bob.write(
            NOTE_DDL, "INSERT INTO public.note SELECT -g, 'first', 'x' FROM generate_series(1, 1000) AS g"
        )
        bob.create("shelf", "auto", [NOTE])
        alice.adopt(bob.bundle_id, "shelf", "auto")
        alice.deliver(bob.outgoing())
        written: dict[int, str] = {}
        for name, statement in BULK.items():
            bob.write(statement)
            bob.commit()
            (envelope,) = bob.outgoing(alice.merged())
            alice.receive([envelope])
            latencies, took = write_while_merging(sessions, alice, written)
            assert envelope.digest in alice.merged()
            p50, p99 = (latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99))
            with capsys.disabled():
                print(
                    f"\nmerge of 100,000 rows ({name}): {took:.1f} s; {len(latencies)} writes of other rows beside it:"
                    f" p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {latencies[-1] * 1e3:.1f} ms"
                )
            assert len(latencies) > 20
            assert latencies[-1] < took / 2, "a write to another row waited for the end of the merge"
        alice.commit()
        bob.deliver(alice.outgoing(bob.merged()))
        assert alice.state_hash() == bob.state_hash()
        assert bob.value("SELECT count(*) FROM public.note") == 101000
        assert dict(bob.execute("SELECT id, body FROM public.note WHERE body LIKE 'turn %'")) == written
        alice.close()
        bob.close()


def write_while_merging(
    sessions: Sessions, replica: Replica, written: dict[int, str]
) -> tuple[list[float], float]:
    """Write rows that no merge touches while a merge runs; the writes' durations, sorted, and the merge's."""
    over = threading.Event()

    def write() -> list[float]:
        durations = []
        with psycopg.connect(replica.dsn, autocommit=True) as user:
            turn = 0
            while not over.is_set():
                turn += 1
                key, body = -(turn % 1000) - 1, f"turn {turn} {len(written)}"
                begun = time.monotonic()
                user.execute("UPDATE public.note SET body = %s WHERE id = %s", [body, key])
                durations.append(time.monotonic() - begun)
                written[key] = body
        return durations

    writing = sessions.start(write)
    begun = time.monotonic()
    merge_when_possible(replica, 60)
    took = time.monotonic() - begun
    over.set()
    return sorted(writing.result(PATIENCE)), took
