"""A second worker that waits, and takes over when the first one dies or hangs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from system.processes import Peer, Program, wait_until_equal

Make = Callable[..., Peer]

TAKEOVER_SECONDS = 10.0

SESSIONS = b"""
    SELECT count(*) FILTER (WHERE l.objid = 0), count(*) FILTER (WHERE l.objid = 2147483647)
      FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
       AND l.classid = peer_internal.lock_key()::oid AND l.objid IN (0, 2147483647)
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
"""


@pytest.fixture
def standby() -> Iterator[Callable[[Peer], Program]]:
    """A function that starts a standby for a peer."""
    made: list[Program] = []

    def start(peer: Peer) -> Program:
        program = Program(
            peer.log.with_suffix(f".{len(made)}.log"),
            "worker_program.py",
            peer.database.dsn,
            str(peer.identity),
            "standby",
        )
        made.append(program)
        program.wait_for_log("standing by")
        return program

    yield start
    for program in made:
        program.end(signal.SIGKILL)


@contextmanager
def watched(peer: Peer) -> Iterator[None]:
    """See to it that never more than one worker has its sessions in a database."""
    over = threading.Event()
    most = [0, 0]

    def watch() -> None:
        with psycopg.connect(peer.database.dsn, autocommit=True) as connection:
            while not over.wait(0.02):
                row = connection.execute(SESSIONS).fetchone()
                assert row is not None
                most[:] = [max(pair) for pair in zip(most, row, strict=True)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert most == [1, 5]


def test_a_standby_takes_over_when_the_worker_is_killed(
    atlas: Make, make_peer: Make, standby: Callable[[Peer], Program]
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    second = standby(ann)
    with watched(ann):
        ann.run("UPDATE public.city SET name = 'first' WHERE id = 1")
        bob.wait_until("SELECT name = 'first' FROM public.city WHERE id = 1")
        ann.run("UPDATE public.city SET population = population + 1")
        began = time.monotonic()
        ann.end(signal.SIGKILL)
        ann.run("UPDATE public.city SET name = 'second' WHERE id = 1")
        assert second.ready() == ann.peer_id
        assert time.monotonic() - began < TAKEOVER_SECONDS
        bob.wait_until("SELECT name = 'second' FROM public.city WHERE id = 1")
        wait_until_equal(ann, bob)
    # the killed one comes back as the next standby, and the one that serves goes in peace
    third = standby(ann)
    code, _ = second.end()
    assert code == 0
    assert third.ready() == ann.peer_id
    bob.run("UPDATE public.city SET name = 'third' WHERE id = 1")
    ann.wait_until("SELECT name = 'third' FROM public.city WHERE id = 1")


def test_a_worker_that_hangs_is_replaced_and_writes_nothing_when_it_wakes_up(
    atlas: Make, make_peer: Make, standby: Callable[[Peer], Program]
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    first, second = ann.worker, standby(ann)
    assert first is not None
    with watched(ann), psycopg.connect(ann.database.dsn, autocommit=True) as writer:
        for n in range(200):  # frozen in the middle of sealing and signing
            writer.execute("UPDATE public.city SET population = %s WHERE id = %s", [n, n % 50 + 1])
        first.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for n in range(50):
            writer.execute("UPDATE public.city SET name = %s WHERE id = %s", [f"later {n}", n + 101])
        assert second.ready() == ann.peer_id
        assert time.monotonic() - began < TAKEOVER_SECONDS
        bob.wait_until("SELECT count(*) = 50 FROM public.city WHERE name LIKE 'later%%'")
        first.process.send_signal(signal.SIGCONT)
        first.wait_for_log("standing by")
        wait_until_equal(ann, bob)
        # it serves again when its successor dies
        second.end(signal.SIGKILL)
        writer.execute("UPDATE public.city SET name = 'back' WHERE id = 1")
        bob.wait_until("SELECT name = 'back' FROM public.city WHERE id = 1", seconds=15)
        wait_until_equal(ann, bob)
    for peer in (ann, bob):
        assert peer.value("SELECT count(*) FROM peer.problem") == 0
        assert peer.value("SELECT count(*) FROM peer.event WHERE kind = 'epoch-renewed'") == 0


def test_a_standby_ends_when_told(atlas: Make, standby: Callable[[Peer], Program]) -> None:
    ann = atlas()
    second = standby(ann)
    code, seconds = second.end()
    assert code == 0
    assert seconds < 5
    assert ann.worker is not None
    assert ann.worker.process.poll() is None
