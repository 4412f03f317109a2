"""One transaction of very many rows: written, sealed, sent and merged in memory that does not grow with it.

A short form runs with the other tests; PGPEER_LARGE_ROWS=10000000 is the long one (about 6 GB of disk).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from system.processes import Peer, wait_until_equal

from pgpeer.embedded import Cluster

from .peaks import Peaks

ROWS = int(os.environ.get("PGPEER_LARGE_ROWS", "100000"))
PATIENCE_SECONDS = 60 + ROWS / 5_000

WORKER_LIMIT_BYTES = 200 * 2**20
BACKEND_LIMIT_BYTES = 128 * 2**20

CHANGES = {
    "insert": "INSERT INTO public.item SELECT n, 'item ' || n, n % 1000 FROM generate_series(1, {rows}) AS n",
    "update": "UPDATE public.item SET stock = stock + 1 WHERE id > 0",
    "delete": "DELETE FROM public.item WHERE id > 0 AND id % 2 = 0",
}
"""What one side does, in one transaction each."""

MEANWHILE = {
    "insert": "INSERT INTO public.item VALUES (-1, 'of bob', 0)",
    "update": "UPDATE public.item SET name = 'of bob' WHERE id = 1",
    "delete": "UPDATE public.item SET stock = -1 WHERE id = 3",
}
"""What the other side does before the large commit arrives: it is concurrent with all of it."""


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A server of its own on a disk: what does not fit into memory must not be tried there."""
    with tempfile.TemporaryDirectory(prefix="pgpeer-large-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Cluster(Path(folder) / "data", persistent=False, settings={"autovacuum": "on"}) as cluster:
            yield cluster


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS * 3 * len(CHANGES) + 120)
def test_a_very_large_transaction_needs_little_memory_on_both_sides(
    server: Cluster, make_peer: Callable[..., Peer], capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = make_peer("ann", server), make_peer("bob", server)
    ann.run("CREATE TABLE public.item (id bigint PRIMARY KEY, name text NOT NULL, stock int NOT NULL)")
    ann.run("SELECT peer.create_bundle('atlas'), peer.track('atlas', 'public.item')")
    ann.start()
    bob.start()
    bob.join(ann)
    arrived = "SELECT count(*) = %s FROM peer_internal.commit WHERE state = 'merged' AND row_count >= %s"
    with Peaks(server.pid, ann, bob) as peaks, capsys.disabled():
        print(f"\n{ROWS} rows a transaction")
        for number, name in enumerate(CHANGES, 1):
            began = time.monotonic()
            ann.run(CHANGES[name].replace("{rows}", str(ROWS)))
            bob.run(MEANWHILE[name])
            written = time.monotonic()
            ann.wait_until(arrived, number, ROWS // 2, seconds=PATIENCE_SECONDS)
            sealed = time.monotonic()
            bob.wait_until(arrived, number, ROWS // 2, seconds=PATIENCE_SECONDS)
            print(
                f"{name}: written {written - began:.1f} s, sealed {sealed - written:.1f} s, "
                f"sent and merged {time.monotonic() - sealed:.1f} s; so far at most "
                f"{peaks.worker_bytes / 2**20:.0f} MiB a worker, {peaks.backend_bytes / 2**20:.0f} MiB a backend"
            )
    wait_until_equal(ann, bob, seconds=PATIENCE_SECONDS)
    assert bob.run("SELECT id, name, stock FROM public.item WHERE id <= 3 ORDER BY id") == [
        (-1, "of bob", 0),
        (1, "of bob", 2),
        (3, "item 3", -1),
    ]
    assert bob.value("SELECT count(*) FROM public.item") == ROWS - ROWS // 2 + 1
    assert 0 < peaks.worker_bytes <= WORKER_LIMIT_BYTES
    assert 0 < peaks.backend_bytes <= BACKEND_LIMIT_BYTES, peaks.backend_query
