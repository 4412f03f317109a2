"""Signature ledgers that are lost, new or cannot be written: no number is given twice, and nothing is signed."""

from __future__ import annotations

import os
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
from system.processes import Peer, Program, wait_until_equal

from faults.site import surprises
from faults.small_disk import small_disk
from pgpeer.embedded import Cluster

Make = Callable[..., Peer]

EPOCH = "SELECT epoch FROM peer_internal.identity"
RENEWALS = "SELECT code FROM peer.event WHERE kind = 'epoch-renewed'"
DOUBLED = "SELECT author_id, epoch, seq FROM peer_internal.commit GROUP BY 1, 2, 3 HAVING count(DISTINCT digest) > 1"
DISK_KILOBYTES = 64


def ledger_of(peer: Peer) -> Path:
    return Path(f"{peer.identity}.ledger")


@pytest.fixture
def server(databases: Databases) -> Iterator[Cluster]:
    """A server that can be put back to an earlier state."""
    root, _ = server_root()
    cluster = Cluster(
        root / f"pgpeer-ledger-{os.getpid()}-{time.monotonic_ns()}",
        persistent=True,
        bindir=bindir_of(DEFAULT),
    )
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(cluster.data_directory, ignore_errors=True)


@pytest.fixture
def key_disk() -> Iterator[Path]:
    """A folder on a very small disk of its own, for a key and its ledger."""
    with small_disk(DISK_KILOBYTES, "0700") as folder:
        yield folder


@pytest.mark.slow
def test_a_restored_database_whose_ledger_is_gone_gives_no_number_twice(
    server: Cluster, atlas: Make, make_peer: Make, tmp_path: Path
) -> None:
    ann, bob = atlas("ann", cluster=server), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run("UPDATE public.city SET name = 'before' WHERE id = 1")
    bob.wait_until("SELECT name = 'before' FROM public.city WHERE id = 1")
    ann.end()
    server.stop()
    subprocess.run(["cp", "-a", server.data_directory, tmp_path / "backup"], check=True)
    server.start()
    ann.start()
    for number in range(2, 7):
        ann.run("UPDATE public.city SET name = 'lost here' WHERE id = %s", number)
        bob.wait_until("SELECT name = 'lost here' FROM public.city WHERE id = %s", number)
    epoch = ann.value(EPOCH)
    ann.end(signal.SIGKILL)
    server.stop()
    shutil.rmtree(server.data_directory)
    subprocess.run(["cp", "-a", tmp_path / "backup", server.data_directory], check=True)
    server.start()
    # the machine's key was put back by hand, and the ledger beside it was forgotten
    ledger_of(ann).unlink()
    # cut off from everybody who could tell what was lost
    bob.end()
    ann.run("UPDATE public.city SET name = 'first after' WHERE id = 10")
    ann.start()
    assert ann.value(EPOCH) != epoch
    assert ann.run(RENEWALS) == [("ledger_missing",)]
    ann.run("UPDATE public.city SET name = 'second after' WHERE id = 11")
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer_internal.commit WHERE signature IS NULL)")
    bob.start()
    wait_until_equal(ann, bob)
    for peer in (ann, bob):
        assert peer.run(DOUBLED) == []
        assert peer.value("SELECT count(*) FROM peer.problem WHERE kind = 'equivocation'") == 0
        assert peer.value("SELECT count(*) FROM public.city WHERE name = 'lost here'") == 5
        assert peer.value("SELECT count(*) FROM public.city WHERE name LIKE '%% after'") == 2
    # the ledger is whole again: the next start is an ordinary one
    epoch = ann.value(EPOCH)
    ann.end()
    ann.start()
    assert ann.value(EPOCH) == epoch
    assert ann.run(RENEWALS) == [("ledger_missing",)]


def test_commits_of_people_before_the_first_worker_keep_the_epoch(make_peer: Make) -> None:
    ann = make_peer("ann")
    ann.run("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL)")
    ann.run("SELECT peer.create_bundle('atlas', 'manual')")
    ann.run("SELECT peer.track('atlas', 'public.city')")
    for number in range(3):
        ann.run("INSERT INTO public.city VALUES (%s, 'city')", number)
        ann.run("SELECT peer.commit('atlas')")
    unsigned = "SELECT count(*) FROM peer_internal.commit WHERE signature IS NULL"
    before = ann.run("SELECT commit_id, seq FROM peer_internal.commit ORDER BY seq")
    assert ann.value(unsigned) == len(before) == 4
    epoch = ann.value(EPOCH)
    assert not ledger_of(ann).exists()
    ann.start()
    ann.wait_until(f"SELECT ({unsigned}) = 0")
    # and the same when people commit while no worker runs later on
    ann.end()
    ann.run("INSERT INTO public.city VALUES (10, 'city')")
    ann.run("SELECT peer.commit('atlas')")
    assert ann.value(unsigned) == 1
    ann.start()
    ann.wait_until(f"SELECT ({unsigned}) = 0")
    assert ann.value(EPOCH) == epoch
    assert ann.run(RENEWALS) == []
    assert ann.run("SELECT commit_id, seq FROM peer_internal.commit ORDER BY seq")[:4] == before


def with_key_on(folder: Path, atlas: Make, make_peer: Make) -> tuple[Peer, Peer]:
    """Two members; the first has its key and ledger in this folder, and is not served."""
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    for suffix in ("", ".ledger"):
        shutil.move(f"{ann.identity}{suffix}", folder)
    ann.identity = folder / ann.identity.name
    return ann, bob


@pytest.mark.slow
def test_nothing_is_signed_while_the_ledger_cannot_be_written(
    key_disk: Path, atlas: Make, make_peer: Make
) -> None:
    ann, bob = with_key_on(key_disk, atlas, make_peer)
    ann.start()
    assert ann.run(RENEWALS) == []
    ballast = key_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(key_disk).free))
    problem = "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'ledger_failed')"
    deadline = time.monotonic() + 30
    number = 0
    while not ann.value(problem):  # what is left of the last block takes some commits yet
        assert time.monotonic() < deadline, ann.log.read_text()
        number += 1
        ann.run("UPDATE public.city SET name = 'written' WHERE id = %s", number)
        time.sleep(0.05)
    # people write on; nothing is signed, and so nothing leaves
    arrived = bob.value("SELECT count(*) FROM public.city WHERE name = 'written'")
    number += 1
    ann.run("UPDATE public.city SET name = 'written' WHERE id = %s", number)
    assert arrived < number
    detail, remedy = ann.run("SELECT detail, remedy FROM peer.problem WHERE kind = 'ledger_failed'")[0]
    assert "No space left on device" in detail
    assert "Make room" in remedy
    time.sleep(2)
    assert bob.value("SELECT count(*) FROM public.city WHERE name = 'written'") == arrived
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind = 'peer-failed'") == 0
    assert ann.worker is not None
    assert ann.worker.process.poll() is None
    # a worker that is started anew says so and ends
    ann.end(signal.SIGKILL)
    assert_refuses(ann, "cannot be opened: No space left on device.")
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", key_disk], check=True)
    assert_refuses(ann, "cannot be opened: Read-only file system.")
    subprocess.run(["mount", "-o", "remount,rw", key_disk], check=True)
    ann.start()
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM public.city WHERE name = 'written'") == number
    assert not ann.value(problem)
    assert ann.run(RENEWALS) == []
    assert bob.run(DOUBLED) == []
    assert surprises(ann.log.read_text()) == []


@pytest.mark.slow
def test_a_worker_whose_ledger_could_not_be_written_goes_on_by_itself(
    key_disk: Path, atlas: Make, make_peer: Make
) -> None:
    ann, bob = with_key_on(key_disk, atlas, make_peer)
    worker = ann.start()
    ballast = key_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(key_disk).free))
    with psycopg.connect(ann.database.dsn, autocommit=True) as connection:
        for number in range(1, 101):
            connection.execute("UPDATE public.city SET name = 'written' WHERE id = %s", [number])
            time.sleep(0.02)
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'ledger_failed')")
    # commits of others that have arrived meanwhile are not blamed on them, and come again
    bob.run("UPDATE public.city SET name = 'by bob' WHERE id > 400")
    ballast.unlink()
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM public.city WHERE name = 'written'") == 100
    assert ann.value("SELECT count(*) FROM public.city WHERE name = 'by bob'") == 100
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    assert ann.worker is worker
    assert worker.process.poll() is None
    assert ann.run(RENEWALS) == []
    assert bob.run(DOUBLED) == []


def assert_refuses(peer: Peer, reason: str) -> None:
    """A worker that is started ends at once, with this reason."""
    log = peer.log.with_suffix(".refused.log")
    log.unlink(missing_ok=True)
    program = Program(log, "worker_program.py", peer.database.dsn, str(peer.identity))
    assert program.process.wait(20) == 1
    program.end()
    assert reason in log.read_text()
    assert "Make room on the disk, or let the worker's user write" in log.read_text()
