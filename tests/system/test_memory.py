"""A worker's memory does not grow with what is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil
import pytest

from system.processes import Peer

Make = Callable[..., Peer]

LIMIT_BYTES = 200 * 2**20
ROWS = 100_000


@pytest.mark.slow
def test_a_backlog_of_a_hundred_megabytes_needs_little_memory_on_both_sides(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    bob.end()
    ann.run("ALTER TABLE public.city ALTER COLUMN name SET STORAGE EXTERNAL")
    ann.run(
        "INSERT INTO public.city SELECT n, repeat(md5(n::text), 32), n FROM generate_series(1001, %s) AS n",
        1000 + ROWS,
    )
    most = 0
    over = threading.Event()
    workers = [psutil.Process(peer.pid) for peer in (ann.worker, bob.start()) if peer is not None]

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, *(worker.memory_info().rss for worker in workers))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        bob.wait_until("SELECT count(*) = %s FROM public.city", ROWS + 500)
    finally:
        over.set()
        watcher.join()
    assert ann.value("SELECT sum(byte_count) FROM peer_internal.section") > 100_000_000
    assert 0 < most <= LIMIT_BYTES
