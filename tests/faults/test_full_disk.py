"""A database whose disk is full: nothing is lost, people are told, and it goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import server_root
from fixtures.versions import DEFAULT, bindir_of
from system.processes import Peer, wait_until_equal

from faults.site import surprises
from faults.small_disk import small_disk
from pgpeer.embedded import Cluster

Make = Callable[..., Peer]

DISK_MEGABYTES = 160


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a small disk of its own."""
    with small_disk(DISK_MEGABYTES * 1024, "0755") as folder:
        yield folder


@contextmanager
def split_server(data: Path, log: Path) -> Iterator[Cluster]:
    """A server with its tables in one folder and its log of changes in another."""
    cluster = Cluster(
        data,
        persistent=True,
        bindir=bindir_of(DEFAULT),
        settings={"fsync": "off", "max_wal_size": "64MB", "shared_buffers": "16MB", "autovacuum": "off"},
    )
    try:
        cluster.start()
        cluster.stop()
        wal = cluster.data_directory / "pg_wal"
        subprocess.run(["cp", "-a", wal, log], check=True)
        shutil.rmtree(wal)
        if cluster.account is not None:
            os.chown(log, cluster.account.uid, cluster.account.gid)
        wal.symlink_to(log / "pg_wal")
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def large_disk() -> Iterator[Path]:
    """A folder that has room."""
    folder = Path(tempfile.mkdtemp(prefix="pgpeer-roomy-", dir=server_root()[0]))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_server(disk: Path, large_disk: Path) -> Iterator[Cluster]:
    """Its tables are on the small disk, so that it keeps running when that is full."""
    with split_server(disk / "data", large_disk) as cluster:
        yield cluster


@pytest.fixture
def server_with_small_log(disk: Path, large_disk: Path) -> Iterator[Cluster]:
    """Its log of changes is on the small disk: it cannot run when that is full."""
    with split_server(large_disk / "data", disk) as cluster:
        yield cluster


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@pytest.mark.slow
def test_a_full_disk_stops_merging_is_told_and_is_recovered_from(
    disk: Path, small_server: Cluster, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob", small_server)
    bob.start()
    bob.join(ann)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(free_bytes(disk) - 2 * 2**20, 0)))
    ann.run(
        "INSERT INTO public.city SELECT n, repeat(md5(n::text), 20), n FROM generate_series(1001, 31000) AS n"
    )
    deadline = time.monotonic() + 40
    while (
        "No space left on device" not in bob.log.read_text() and "could not extend" not in bob.log.read_text()
    ):
        assert time.monotonic() < deadline, bob.log.read_text()
        time.sleep(0.1)
    assert bob.worker is not None
    assert bob.value("SELECT count(*) FROM public.city") == 500
    # what people write here while there is no room fails at once or is kept
    written = 0
    for n in range(20):
        try:
            bob.run("UPDATE public.city SET population = %s WHERE id = %s", -n, n + 1)
            written += 1
        except psycopg.OperationalError:
            pass
    ballast.unlink()
    if bob.worker.process.poll() is not None:
        bob.start()
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM public.city") == 30_500
    assert ann.value("SELECT count(*) FROM public.city WHERE population <= 0") == written
    bob.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    assert surprises(bob.log.read_text()) == []


@pytest.mark.slow
def test_a_server_that_falls_for_want_of_room_for_its_log_loses_nothing_that_it_promised(
    disk: Path, server_with_small_log: Cluster, atlas: Make, make_peer: Make
) -> None:
    """PostgreSQL ends itself when it cannot write its log: what it acknowledged to people and peers stands."""
    server = server_with_small_log
    ann, bob = atlas(), make_peer("bob", server)
    for peer in (ann, bob):
        peer.run("UPDATE peer.config SET reconnect_delay_max = '1 s'")
    bob.start()
    bob.join(ann)
    # nobody reads this slot any more: the common way in which logs come to fill a disk
    bob.run("SELECT pg_create_physical_replication_slot('forgotten', true)")
    (disk / "ballast").write_bytes(bytes(free_bytes(disk)))
    written: list[int] = []
    deadline = time.monotonic() + 60
    number = 1000
    # a segment that is there already is written to its end first
    with suppress(psycopg.OperationalError), psycopg.connect(bob.database.dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            number += 1
            connection.execute(
                "INSERT INTO public.city SELECT %s, string_agg(md5(random()::text), ''), 0 FROM generate_series(1, 8000)",
                [number],
            )
            written.append(number)
            ann.run("UPDATE public.city SET population = %s WHERE id = 1", number)
    assert written
    assert written[-1] < number, "the last write was refused"
    while server.is_running and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running, "it gave up"
    (disk / "ballast").unlink()
    server.start()
    bob.run("SELECT pg_drop_replication_slot('forgotten')")
    wait_until_equal(ann, bob)
    for peer in (ann, bob):
        found = {row[0] for row in peer.run("SELECT id FROM public.city WHERE id > 1000")}
        assert set(written) <= found <= {*written, number}
        assert peer.value("SELECT population FROM public.city WHERE id = 1") >= written[-1]
        assert peer.value("SELECT bool_and(signed) FROM peer.log('atlas')")
        peer.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem WHERE kind NOT LIKE 'hub%%')")
    assert surprises(bob.log.read_text()) == []
