"""A copy of a whole server that lives beside the original, with the same key."""

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

from pgpeer.embedded import Cluster

Make = Callable[..., Peer]


@pytest.fixture
def servers(databases: Databases) -> Iterator[tuple[Cluster, Cluster]]:
    """A server, and a place for its copy."""
    root, _ = server_root()
    original, copy = (
        Cluster(root / f"pgpeer-copy-{os.getpid()}-{name}", persistent=True, bindir=bindir_of(DEFAULT))
        for name in ("original", "copy")
    )
    original.start()
    yield original, copy
    for cluster in (copy, original):
        cluster.stop()
        shutil.rmtree(cluster.data_directory, ignore_errors=True)


def test_a_copied_server_never_shares_a_number_with_its_original(
    servers: tuple[Cluster, Cluster], atlas: Make, make_peer: Make, tmp_path: Path
) -> None:
    original, copy = servers
    ann, bob = atlas("ann", cluster=original), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    original.stop()
    subprocess.run(["cp", "-a", original.data_directory, copy.data_directory], check=True)
    original.start()
    copy.start()
    # the same key with the same ledger, as when a whole machine was cloned
    identity = tmp_path / "clone.json"
    for suffix in ("", ".ledger"):
        shutil.copy2(f"{ann.identity}{suffix}", f"{identity}{suffix}")
    address = copy.dsn(ann.database.name)
    clone = Program(tmp_path / "clone.log", "worker_program.py", address, str(identity))
    clone.ready()
    with psycopg.connect(address, autocommit=True) as at_clone:
        at_clone.execute("UPDATE public.city SET name = 'clone' WHERE id <= 10")
        bob.wait_until("SELECT count(*) = 10 FROM public.city WHERE name = 'clone'")
        clone.end()
        ann.start()
        ann.run("UPDATE public.city SET name = 'original' WHERE id BETWEEN 11 AND 20")
        bob.wait_until("SELECT count(*) = 10 FROM public.city WHERE name = 'original'")
        wait_until_equal(ann, bob)
        epochs = [
            at_clone.execute("SELECT epoch FROM peer_internal.identity").fetchone(),
            ann.run("SELECT epoch FROM peer_internal.identity")[0],
        ]
        assert epochs[0] != epochs[1]
        told = at_clone.execute("SELECT code, hint FROM peer.event WHERE kind = 'epoch-renewed'").fetchall()
        assert [row[0] for row in told] == ["moved"]
        assert "--identity" in told[0][1]
    for peer in (ann, bob):
        assert peer.value("SELECT count(*) FROM peer.problem WHERE kind = 'equivocation'") == 0
    assert ann.value("SELECT count(*) FROM peer.event WHERE kind = 'epoch-renewed'") == 0


def test_a_copy_and_its_original_that_run_at_once_lose_nothing_and_share_no_number(
    servers: tuple[Cluster, Cluster], atlas: Make, make_peer: Make, tmp_path: Path
) -> None:
    """The hub knows one peer of this key at a time; what either was told comes to the others all the same."""
    original, copy = servers
    ann, bob = atlas("ann", cluster=original), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    original.stop()
    subprocess.run(["cp", "-a", original.data_directory, copy.data_directory], check=True)
    original.start()
    copy.start()
    identity = tmp_path / "clone.json"
    for suffix in ("", ".ledger"):
        shutil.copy2(f"{ann.identity}{suffix}", f"{identity}{suffix}")
    address = copy.dsn(ann.database.name)
    ann.start()
    clone = Program(tmp_path / "clone.log", "worker_program.py", address, str(identity))
    clone.ready()
    try:
        with psycopg.connect(address, autocommit=True) as at_clone:
            for number in range(1, 21):
                ann.run("UPDATE public.city SET name = %s WHERE id = %s", f"original {number}", number)
                at_clone.execute(
                    "UPDATE public.city SET name = %s WHERE id = %s", [f"clone {number}", 100 + number]
                )
                time.sleep(0.2)
            both = (
                "SELECT count(*) = 40 FROM public.city WHERE name LIKE 'original %%' OR name LIKE 'clone %%'"
            )
            ann.run("UPDATE public.city SET population = 1 WHERE id = 1")
            bob.wait_until(both, seconds=90)
            epochs = {
                ann.value("SELECT epoch FROM peer_internal.identity"),
                at_clone.execute("SELECT epoch FROM peer_internal.identity").fetchone()[0],  # type: ignore[index]
            }
            assert len(epochs) == 2
            ann.wait_until(both, seconds=90)
            doubled = (
                "SELECT author_id, epoch, seq FROM peer_internal.commit GROUP BY 1, 2, 3"
                " HAVING count(DISTINCT digest) > 1"
            )
            assert bob.run(doubled) == []
            assert ann.run(doubled) == []
            told = at_clone.execute("SELECT code FROM peer.event WHERE kind = 'epoch-renewed'").fetchall()
            assert told == [("moved",)]
            assert ann.value("SELECT count(*) FROM peer.problem WHERE kind = 'key_in_use_elsewhere'") == 1
    finally:
        clone.end(signal.SIGKILL)
    wait_until_equal(ann, bob)
