"""A server that allows prepared transactions: nobody can notify the worker there, so it looks every second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from fixtures.databases import server_root
from fixtures.versions import DEFAULT, bindir_of
from system.processes import Peer, wait_until_equal

from pgpeer.embedded import Cluster

Make = Callable[..., Peer]


@pytest.fixture
def server() -> Iterator[Cluster]:
    data = server_root()[0] / f"pgpeer-two-phase-{os.getpid()}-{time.monotonic_ns()}"
    settings = {"max_prepared_transactions": "4"}
    with Cluster(data, persistent=False, bindir=bindir_of(DEFAULT), settings=settings).start() as cluster:
        yield cluster


def test_what_was_prepared_travels_soon_after_it_is_committed(
    server: Cluster, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas("ann", cluster=server), make_peer("bob")
    bob.start()
    bob.join(ann)
    wait_until_equal(ann, bob)
    took = []
    for number, verb in enumerate(("COMMIT", "ROLLBACK", "COMMIT", "COMMIT")):
        with psycopg.connect(ann.database.dsn, autocommit=True) as connection:
            connection.execute("BEGIN")
            connection.execute(f"UPDATE public.city SET name = 'two phases {number}' WHERE id = {number}")
            connection.execute("INSERT INTO public.city VALUES (%s, 'new')", [1000 + number])
            connection.execute(f"PREPARE TRANSACTION 'move {number}'")
            connection.execute(f"{verb} PREPARED 'move {number}'")
        if verb == "COMMIT":
            began = time.monotonic()
            bob.wait_until("SELECT EXISTS (SELECT FROM public.city WHERE id = %s)", 1000 + number, seconds=8)
            took.append(time.monotonic() - began)
            time.sleep(2)  # so that the worker sleeps
    assert min(took) < 3, took
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM public.city WHERE id >= 1000") == 3
    assert bob.value("SELECT count(*) FROM peer.problem") == 0


def test_a_transaction_that_stays_prepared_is_waited_for_and_then_whole(
    server: Cluster, atlas: Make, make_peer: Make
) -> None:
    """Its locks outlive the session and even the server; a merge into its rows waits, everything else goes on."""
    ann, bob = atlas("ann", cluster=server), make_peer("bob")
    bob.start()
    bob.join(ann)
    with psycopg.connect(ann.database.dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("UPDATE public.city SET name = 'prepared' WHERE id = 1")
        connection.execute("DELETE FROM public.city WHERE id = 2")
        connection.execute("PREPARE TRANSACTION 'held'")
    bob.run("UPDATE public.city SET population = 7 WHERE id = 1")
    ann.run("UPDATE public.city SET name = 'goes on' WHERE id = 3")
    bob.wait_until("SELECT name = 'goes on' FROM public.city WHERE id = 3")
    assert bob.value("SELECT name FROM public.city WHERE id = 1") != "prepared"
    ann.run("COMMIT PREPARED 'held'")
    wait_until_equal(ann, bob)
    assert bob.run("SELECT name, population FROM public.city WHERE id = 1") == [("prepared", 7)]
    assert bob.value("SELECT count(*) FROM public.city WHERE id = 2") == 0
