"""What must stay flat while two sides write for a long time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, fields

import psutil
from system.processes import Peer, wait_until

JOURNAL = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
 WHERE c.relnamespace = 'peer_internal'::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'journal%'
"""
# history, and conflicts with it, is kept in full by design
STATE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
 WHERE c.relnamespace IN ('peer_internal'::regnamespace, 'peer'::regnamespace) AND c.relkind = 'r'
   AND c.relname NOT LIKE 'journal%' AND c.relname NOT IN ('commit', 'section', 'conflict', 'event')
"""


@dataclass(frozen=True, slots=True)
class Gauges:
    """One look at both peers; of each figure the greater one."""

    worker_bytes: float
    worker_descriptors: float
    journal_bytes: float
    state_bytes: float
    table_bytes: float
    latency_seconds: float


def read(ann: Peer, bob: Peer, probe: int) -> Gauges:
    """Read the gauges; `probe` is a number never used before, for the row whose way is timed."""
    workers = [psutil.Process(peer.worker.pid) for peer in (ann, bob) if peer.worker is not None]

    def greatest(query: str) -> float:
        return float(max(peer.value(query) for peer in (ann, bob)))

    return Gauges(
        max(worker.memory_info().rss for worker in workers),
        max(worker.num_fds() for worker in workers),
        greatest(JOURNAL),
        greatest(STATE),
        greatest("SELECT pg_total_relation_size('public.reading')"),
        _latency(ann, bob, probe),
    )


def _latency(ann: Peer, bob: Peer, probe: int) -> float:
    ann.run("INSERT INTO public.reading VALUES (%s, 0, 0, 'probe')", -probe)
    began = time.monotonic()
    query = "SELECT EXISTS (SELECT FROM public.reading WHERE id = %s)"
    wait_until(lambda: bool(bob.value(query, -probe)), "the probe's arrival", 60.0, bob.log)
    took = time.monotonic() - began
    ann.run("DELETE FROM public.reading WHERE id = %s", -probe)
    return took


def median(samples: list[Gauges]) -> Gauges:
    """The median of each gauge."""
    return Gauges(*(statistics.median(getattr(s, f.name) for s in samples) for f in fields(Gauges)))


def table(samples: list[Gauges]) -> str:
    """All samples as text, one line each."""
    head = "worker MiB  descriptors  journal KiB  state KiB  table KiB  latency ms"
    lines = (
        f"{s.worker_bytes / 2**20:10.1f}  {s.worker_descriptors:11.0f}  {s.journal_bytes / 1024:11.0f}"
        f"  {s.state_bytes / 1024:9.0f}  {s.table_bytes / 1024:9.0f}  {s.latency_seconds * 1000:10.1f}"
        for s in samples
    )
    return "\n".join([head, *lines])
