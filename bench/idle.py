"""What two connected peers cost when nothing happens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

import psutil

from bench.bed import Bed, Place
from bench.figures import Figure
from bench.pair import pair
from bench.sizes import Sizes

_QUIET_SECONDS: Final = 12.0
"""Longer than any pause after which a worker looks back at what it did."""

_STATEMENT: Final = re.compile(r"\[(\w*)\] LOG:  (?:statement|execute [^:]*):")


def measure(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Statements and processor time of both workers of a pair in sync, while nobody writes."""
    both = pair(bed, sizes)
    places = (both.peers.source, both.peers.target)
    time.sleep(min(_QUIET_SECONDS, sizes.idle_seconds))
    for place in places:
        place.run("ALTER SYSTEM SET log_statement = 'all'")
        place.run("SELECT pg_reload_conf()")
    time.sleep(1)
    offsets = [place.cluster.log_path.stat().st_size for place in places]
    before = [_processor_seconds(place) for place in places]
    time.sleep(sizes.idle_seconds)
    shares = [
        100 * (_processor_seconds(place) - spent) / sizes.idle_seconds
        for place, spent in zip(places, before, strict=True)
    ]
    statements = [_statements(place, offset) for place, offset in zip(places, offsets, strict=True)]
    for place in places:
        place.run("ALTER SYSTEM RESET log_statement")
        place.run("SELECT pg_reload_conf()")
    reach = f"≤ {12 * sizes.idle_seconds / 60:g}"
    name = f"statements of an idle worker in {sizes.idle_seconds} s (both workers)"
    yield Figure("idle", name, "", tuple(float(n) for n in statements), reach=reach)
    yield Figure(
        "idle", "processor of an idle worker (both workers)", "% of a core", tuple(shares), reach="< 1 %"
    )


def _processor_seconds(place: Place) -> float:
    assert place.worker is not None
    times = psutil.Process(place.worker.pid).cpu_times()
    return times.user + times.system


def _statements(place: Place, offset: int) -> int:
    with place.cluster.log_path.open("rb") as log:
        log.seek(offset)
        text = log.read().decode(errors="replace")
    return sum(1 for found in _STATEMENT.finditer(text) if found[1] == place.name)
