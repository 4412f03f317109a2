"""A database whose disk is full: nothing is lost, people are told, and it goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures.versions import DEFAULT, bindir_of
from system.processes import Peer, wait_until_equal

from faults.site import surprises
from pgpeer.embedded import Cluster

Make = Callable[..., Peer]

DISK_MEGABYTES = 160


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a small disk of its own."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only the superuser can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="pgpeer-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=0755", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


@pytest.fixture
def small_server(small_disk: Path) -> Iterator[Cluster]:
    """A server with its tables on the small disk and its log of changes elsewhere, so that it keeps running."""
    log = Path(tempfile.mkdtemp(prefix="pgpeer-wal-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    cluster = Cluster(
        small_disk / "data",
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
        shutil.rmtree(log, ignore_errors=True)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@pytest.mark.slow
def test_a_full_disk_stops_merging_is_told_and_is_recovered_from(
    small_disk: Path, small_server: Cluster, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob", small_server)
    bob.start()
    bob.join(ann)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(free_bytes(small_disk) - 2 * 2**20, 0)))
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
