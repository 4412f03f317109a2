"""A whole table for a newcomer, beside the initial copy of built-in logical replication."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench import rows
from bench.bed import Bed, Place
from bench.clock import checkpoint
from bench.figures import Figure
from bench.pair import LOGICAL, subscribe
from bench.sizes import Sizes
from pgpeer.cli.demo.processes import Served


def measure(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """From the statement that asks for the rows until all are there; the newcomer's worker runs already."""
    origin, publisher = bed.peer(bed.left, "origin"), bed.bare(bed.left, "publisher")
    for place in (origin, publisher):
        rows.create(place.connection, "archive")
        place.run(f"INSERT INTO archive {rows.rows(1, sizes.clone_rows)}")
        place.run("VACUUM ANALYZE archive")
    origin.run("SELECT peer.create_bundle('archive')")
    origin.run("SELECT peer.track('archive', 'public.archive')")
    origin.run("VACUUM ANALYZE")
    publisher.run("CREATE PUBLICATION archive FOR TABLE archive")
    origin.start_worker()
    ours: list[float] = []
    theirs: list[float] = []
    memory: list[float] = []
    for repetition in range(sizes.repetitions):
        for is_ours in (True, False) if repetition % 2 else (False, True):
            checkpoint(origin.connection)
            if is_ours:
                took, peak = _joined(bed, origin, f"newcomer_{repetition}", sizes)
                ours.append(sizes.clone_rows / took)
                memory.append(peak)
            else:
                theirs.append(sizes.clone_rows / _copied(bed, publisher, f"subscriber_{repetition}", sizes))
    name = f"clone of {sizes.clone_rows:,} rows, request to complete"
    yield Figure("clone", name, "rows/s", tuple(ours), tuple(theirs), f"{LOGICAL}, initial copy", "≥ 0.5x")
    if memory and all(memory):
        yield Figure(
            "clone", "greatest memory of the newcomer's worker (RSS)", "MiB", tuple(memory), reach="≤ 200 MB"
        )
        assert origin.worker is not None
        peak = _peak_memory(origin.worker)
        yield Figure(
            "clone", "greatest memory of the sender's worker (RSS)", "MiB", (peak,), reach="≤ 200 MB"
        )
    bed.drop(origin)
    bed.drop(publisher)


def _joined(bed: Bed, origin: Place, name: str, sizes: Sizes) -> tuple[float, float]:
    """Seconds, and the greatest memory of the newcomer's worker in MiB."""
    newcomer = bed.peer(bed.right, name)
    worker = newcomer.start_worker()
    began = time.perf_counter()
    ended = newcomer.join(origin, "archive")
    _check(newcomer, sizes)
    peak = _peak_memory(worker)
    bed.drop(newcomer)
    return ended - began, peak


def _copied(bed: Bed, publisher: Place, name: str, sizes: Sizes) -> float:
    """Seconds."""
    subscriber = bed.bare(bed.right, name)
    rows.create(subscriber.connection, "archive")
    began = time.perf_counter()
    ended = subscribe(publisher, subscriber, "archive")
    _check(subscriber, sizes)
    subscriber.run("DROP SUBSCRIPTION archive")
    bed.drop(subscriber)
    return ended - began


def _check(place: Place, sizes: Sizes) -> None:
    found = place.value("SELECT count(*) FROM archive")
    if found != sizes.clone_rows:
        raise RuntimeError(f"{place.name} has {found} rows, not {sizes.clone_rows}")


def _peak_memory(worker: Served) -> float:
    """The greatest resident memory of a process so far, in MiB; 0 where the system does not tell."""
    status = Path(f"/proc/{worker.pid}/status")
    if not status.exists():
        return 0.0
    words = next(line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(words[1]) / 1024
