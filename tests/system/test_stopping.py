"""One worker for each database, and how it starts and ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pgpeer.identity.keyfile import IdentityFile
from system.processes import Peer, Program, wait_until_equal

Make = Callable[..., Peer]


def refusal(program: Program) -> str:
    """What a worker says that does not start."""
    assert program.process.wait(20) == 1
    program.end()
    return program.log.read_text().splitlines()[-1]


def test_a_second_worker_for_a_database_is_refused(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    first = ann.worker
    assert first is not None
    assert "Another worker already serves this database" in refusal(ann.launch())
    # the same identity in a second file, as after copying it to another host
    copied = ann.identity.with_name("copied.json")
    copied.write_bytes(ann.identity.read_bytes())
    copied.chmod(0o600)
    ann.identity = copied
    assert "Another worker already serves this database" in refusal(ann.launch())
    ann.worker = first


def test_the_identity_of_another_database_is_refused(make_peer: Make) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    ann.identity = bob.identity
    assert "not that of this database" in refusal(ann.launch())
    ann.worker = None


def test_a_copy_of_a_database_is_refused(make_peer: Make) -> None:
    ann = make_peer("ann")
    ann.database.close()
    with psycopg.connect(ann.database.cluster.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(ann.database.name + "_copy"), sql.Identifier(ann.database.name)
            )
        )
    original, ann.database.name = ann.database.name, ann.database.name + "_copy"
    assert "is a copy of another one" in refusal(ann.launch())
    ann.worker = None
    with psycopg.connect(ann.database.cluster.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(ann.database.name)))
    ann.database.name = original


def test_sigterm_ends_a_busy_worker_within_five_seconds_and_leaves_nothing_behind(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(ann.database.dsn, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("UPDATE public.city SET population = population + 1")

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(1)
    code, seconds = ann.end()
    stop.set()
    writer.join()
    assert code == 0
    assert seconds < 5
    assert ann.value("SELECT count(*) FROM peer.connection") == 0
    assert not ann.value("SELECT awake FROM peer_internal.worker")
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'disconnected' AND code = 'remote_closed')"
    )
    ann.start()
    wait_until_equal(ann, bob)
    code, seconds = bob.end(signal.SIGINT)
    assert code == 0
    assert seconds < 5


@pytest.mark.slow
def test_sigterm_during_a_long_merge_rolls_it_back(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run(
        "INSERT INTO public.city SELECT n, repeat('name ', 20) || n, n FROM generate_series(1001, 200000) AS n"
    )
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND query LIKE '%%worker_merge%%' AND now() - query_start > '1 s')"
    )
    code, seconds = bob.end()
    assert code == 0
    assert seconds < 5
    assert bob.value("SELECT count(*) FROM public.city") in (500, 199500)
    bob.start()
    wait_until_equal(ann, bob)


def test_a_database_that_was_restored_goes_on_in_a_new_epoch(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    bundle_id: UUID = ann.value("SELECT bundle_id FROM peer_internal.bundle")
    epoch = ann.value("SELECT epoch FROM peer_internal.identity")
    with IdentityFile(ann.identity).hold() as held:
        held.ledger.record(bundle_id, epoch, 1000, bytes(32))
    ann.start()
    assert ann.value("SELECT epoch FROM peer_internal.identity") != epoch
    assert ann.value("SELECT count(*) FROM peer.event WHERE kind = 'epoch-renewed'") == 1
    ann.run("UPDATE public.city SET name = 'after' WHERE id = 1")
    bob.wait_until("SELECT name = 'after' FROM public.city WHERE id = 1")
    wait_until_equal(ann, bob)


@pytest.mark.slow
def test_an_idle_worker_asks_little(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    query = b"SELECT sum(xact_commit + xact_rollback)::int FROM pg_stat_database WHERE datname = %s"
    with psycopg.connect(ann.database.cluster.dsn(), autocommit=True) as connection:

        def transactions() -> int:
            row = connection.execute(query, [ann.database.name]).fetchone()
            assert row is not None
            return int(row[0])

        time.sleep(13)  # sessions report what they did up to ten seconds later
        before = transactions()
        time.sleep(20)
        # 12 in 60 s; visits of autovacuum are counted as well
        assert transactions() - before <= 4
