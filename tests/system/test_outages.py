"""Workers, hubs and databases that are killed, and networks that do not work."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Databases, server_root
from fixtures.versions import DEFAULT, bindir_of

from pgpeer.embedded import Cluster
from system.processes import Peer, Program, wait_until_equal

Make = Callable[..., Peer]


@pytest.fixture
def own_cluster(databases: Databases) -> Iterator[Cluster]:
    """A server that a test may kill."""
    root, _ = server_root()
    cluster = Cluster(root / f"pgpeer-outage-{os.getpid()}", persistent=True, bindir=bindir_of(DEFAULT))
    cluster.start()
    yield cluster
    cluster.stop()


def test_workers_that_are_killed_again_and_again_lose_and_repeat_nothing(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    chance = random.Random(7)
    writes = {ann: 0, bob: 0}
    for turn in range(10):
        victim = (ann, bob)[turn % 2]
        until = time.monotonic() + chance.uniform(0.05, 1.0)
        with (
            psycopg.connect(ann.database.dsn, autocommit=True) as at_ann,
            psycopg.connect(bob.database.dsn, autocommit=True) as at_bob,
        ):
            while time.monotonic() < until:
                at_ann.execute(
                    "UPDATE public.city SET population = population + 1 WHERE id = %s",
                    [chance.randint(1, 250)],
                )
                at_bob.execute(
                    "UPDATE public.city SET population = population + 1 WHERE id = %s",
                    [chance.randint(251, 500)],
                )
                writes[ann] += 1
                writes[bob] += 1
        victim.end(signal.SIGKILL)
        victim.start()
    wait_until_equal(ann, bob)
    for peer in (ann, bob):
        total = peer.value("SELECT sum(population - id * 1000)::int FROM public.city")
        assert total == writes[ann] + writes[bob]
        assert peer.value("SELECT count(*) FROM peer.problem WHERE kind NOT LIKE 'hub%%'") == 0


def test_links_outlive_a_hub_that_is_killed_and_new_ones_are_made_when_it_is_back(
    atlas: Make, make_peer: Make, hub: Program, tmp_path: Path
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    url = hub.ready()
    hub.end(signal.SIGKILL)
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'hub_unreachable' AND remedy <> '')")
    ann.run("UPDATE public.city SET name = 'without a hub' WHERE id = 1")
    bob.wait_until("SELECT name = 'without a hub' FROM public.city WHERE id = 1")
    bob.end()
    bob.start()
    ann.run("UPDATE public.city SET name = 'later' WHERE id = 2")
    again = Program(tmp_path / "hub2.log", "hub_program.py", url.rpartition(":")[2])
    assert again.ready() == url
    try:
        bob.wait_until("SELECT name = 'later' FROM public.city WHERE id = 2")
        for peer in (ann, bob):
            peer.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    finally:
        again.end(signal.SIGKILL)


def test_workers_go_on_after_their_database_was_killed(
    own_cluster: Cluster, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob", own_cluster)
    worker = bob.start()
    bob.join(ann)
    ann.run("UPDATE public.city SET population = population + 1")
    os.kill(own_cluster.pid, signal.SIGQUIT)
    ann.run("UPDATE public.city SET name = 'meanwhile' WHERE id = 1")
    time.sleep(1)
    own_cluster.start()
    bob.wait_until("SELECT name = 'meanwhile' FROM public.city WHERE id = 1")
    bob.run("UPDATE public.city SET name = 'and back' WHERE id = 2")
    ann.wait_until("SELECT name = 'and back' FROM public.city WHERE id = 2")
    wait_until_equal(ann, bob)
    assert worker.process.poll() is None


def test_a_restored_database_gets_its_lost_commits_back_and_goes_on_in_a_new_epoch(
    own_cluster: Cluster, atlas: Make, make_peer: Make, tmp_path: Path
) -> None:
    ann, bob = atlas("ann", cluster=own_cluster), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    own_cluster.stop()
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", own_cluster.data_directory, backup], check=True)
    own_cluster.start()
    ann.start()
    epoch = ann.value("SELECT epoch FROM peer_internal.identity")
    ann.run("UPDATE public.city SET name = 'lost' WHERE id = 1")
    bob.wait_until("SELECT name = 'lost' FROM public.city WHERE id = 1")
    ann.end()
    own_cluster.stop()
    shutil.rmtree(own_cluster.data_directory)
    subprocess.run(["cp", "-a", backup, own_cluster.data_directory], check=True)
    own_cluster.start()
    assert ann.value("SELECT name FROM public.city WHERE id = 1") == "city 1"
    ann.run("UPDATE public.city SET name = 'again' WHERE id = 2")
    ann.start()
    assert ann.value("SELECT epoch FROM peer_internal.identity") != epoch
    bob.wait_until("SELECT name = 'again' FROM public.city WHERE id = 2")
    ann.wait_until("SELECT name = 'lost' FROM public.city WHERE id = 1")
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM peer.problem") == 0


def test_commits_of_a_reader_stay_with_the_reader(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.value("SELECT peer.join(%s)", ann.value("SELECT peer.invite('atlas', 'reader')"))
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    bob.run("UPDATE public.city SET name = 'not allowed' WHERE id = 1")
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'not_a_writer')")
    ann.run("UPDATE public.city SET name = 'goes on' WHERE id = 2")
    bob.wait_until("SELECT name = 'goes on' FROM public.city WHERE id = 2")
    assert ann.value("SELECT name FROM public.city WHERE id = 1") == "city 1"


def test_a_long_commit_is_resumed_after_the_receiver_was_killed(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run(
        "INSERT INTO public.city SELECT n, repeat('name ', 20) || n, n FROM generate_series(1001, 120000) AS n"
    )
    bob.wait_until("SELECT count(data) > 2 FROM peer_internal.section WHERE op = 'INSERT'")
    bob.end(signal.SIGKILL)
    bob.start()
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM public.city") == 500 + 119000
