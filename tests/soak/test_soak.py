"""Two sides write without a pause; nothing grows but history, and nothing is lost.

A short form runs with the other tests; `make test-soak` runs half an hour at 500 transactions a second on each
side (PGPEER_SOAK_SECONDS, PGPEER_SOAK_RATE).
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

from . import gauges
from .gauges import Gauges
from .workload import DDL, OWN_ROWS, Client

SECONDS = float(os.environ.get("PGPEER_SOAK_SECONDS", "15"))
RATE = float(os.environ.get("PGPEER_SOAK_RATE", "100"))
CLIENTS = 4
IS_LONG = SECONDS >= 300


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A server of its own with autovacuum, which the journal's size depends on."""
    with tempfile.TemporaryDirectory(prefix="pgpeer-soak-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        settings = {"autovacuum": "on", "autovacuum_naptime": "5s"}
        with Cluster(Path(folder) / "data", persistent=False, settings=settings) as cluster:
            yield cluster


def assert_flat(samples: list[Gauges]) -> None:
    """The last fifth of the samples against the second one: the first is for warming up."""
    fifth = len(samples) // 5
    early, late = gauges.median(samples[fifth : 2 * fifth]), gauges.median(samples[-fifth:])
    assert late.worker_bytes <= early.worker_bytes * 1.15 + 8 * 2**20
    assert late.worker_descriptors <= early.worker_descriptors + 4
    assert late.journal_bytes <= early.journal_bytes * 1.5 + 2**20
    assert late.state_bytes <= early.state_bytes * 1.5 + 2**20
    assert late.table_bytes <= early.table_bytes * 1.5 + 2**20
    assert late.latency_seconds <= early.latency_seconds * 2 + 0.1


@pytest.mark.timeout(SECONDS * 2 + 300)
def test_two_sides_write_without_a_pause_and_nothing_but_history_grows(
    server: Cluster, make_peer: Callable[..., Peer], capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = make_peer("ann", server), make_peer("bob", server)
    ann.run(DDL)
    ann.run(
        "INSERT INTO public.reading SELECT s * 1000000000::bigint + n, s, 0, '' "
        "FROM generate_series(0, 1) AS s, generate_series(0, %s) AS n",
        OWN_ROWS - 1,
    )
    ann.run("SELECT peer.create_bundle('atlas')")
    ann.run("SELECT peer.track('atlas', 'public.reading')")
    ann.start()
    bob.start()
    bob.join(ann)
    clients = [
        Client(peer.database.dsn, side, number, CLIENTS, RATE / CLIENTS)
        for side, peer in enumerate((ann, bob))
        for number in range(CLIENTS)
    ]
    began = time.monotonic()
    for client in clients:
        client.start()
    samples: list[Gauges] = []
    while time.monotonic() < began + SECONDS:
        samples.append(gauges.read(ann, bob, len(samples) + 1))
        time.sleep(max(1.0, SECONDS / 200) if IS_LONG else 0.5)
    for client in clients:
        client.stop()
    took = time.monotonic() - began
    wait_until_equal(ann, bob, seconds=60 + SECONDS / 4)
    committed = sum(client.committed for client in clients)
    with capsys.disabled():
        print(f"\n{committed} transactions in {took:.0f} s ({committed / took:.0f} a second on both sides)")
        print(gauges.table(samples[:: max(1, len(samples) // 12)]))
    for peer in (ann, bob):
        counts = dict(peer.run("SELECT id, count FROM public.reading WHERE note = ''"))
        kept = {key for (key,) in peer.run("SELECT id FROM public.reading WHERE note <> ''")}
        assert counts == {key: count for client in clients for key, count in client.counts.items()}
        assert kept == {key for client in clients for key in client.kept}
        assert peer.value("SELECT count(*) FROM peer.conflict") == 0
    if IS_LONG:
        assert_flat(samples)
