"""From one database to the other: latency, throughput and bytes, beside built-in logical replication."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Final

from bench import rows
from bench.bed import Bed
from bench.clock import checkpoint, seconds
from bench.figures import Figure
from bench.meter import DecodedMeter, FrameMeter, Meter
from bench.pair import LOGICAL, POINT_ROWS, Pair, Road, pair
from bench.sizes import Sizes

_SAMPLE_PAUSE: Final = 0.02
_LONE_COMMITS: Final = 10
_LONE_PAUSE: Final = 0.1


def measure_latency(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """One row: from the return of its commit until a query on the other side sees it, the roads in turn."""
    both = pair(bed, sizes)
    took: dict[str, list[list[float]]] = {road.name: [] for road in both.in_turn(0)}
    written = 1_000_000
    for repetition in range(sizes.repetitions + 1):  # the first one warms up and is not counted
        milliseconds: dict[str, list[float]] = {name: [] for name in took}
        for sample in range(sizes.samples):
            for road in both.in_turn(sample):
                written += 1
                milliseconds[road.name].append(1000 * _one_row(road, written))
                time.sleep(_SAMPLE_PAUSE)
        if repetition:
            for name, found in milliseconds.items():
                took[name].append(found)
    ours, theirs = took[both.peers.name], took[both.logical.name]
    for percent, reach in ((50, "≤ 6 ms"), (99, "≤ 30 ms")):
        yield Figure(
            "latency",
            f"one row, commit to visible, p{percent} of {sizes.samples} in each repetition",
            "ms",
            tuple(_percentile(found, percent) for found in ours),
            tuple(_percentile(found, percent) for found in theirs),
            LOGICAL,
            reach,
        )
    yield from _streams(both, sizes)


def _one_row(road: Road, written: int) -> float:
    key = 1 + written % POINT_ROWS
    road.source.run("UPDATE point SET b = %s WHERE id = %s", written, key)
    began = time.perf_counter()
    return road.visible("SELECT b = %s FROM point WHERE id = %s", written, key) - began


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _streams(both: Pair, sizes: Sizes) -> Iterator[Figure]:
    """One client that writes one row after the other, without a pause."""
    writing: dict[str, list[float]] = {road.name: [] for road in both.in_turn(0)}
    visible: dict[str, list[float]] = {road.name: [] for road in both.in_turn(0)}
    written = 2_000_000
    for repetition in range(sizes.repetitions):
        for road in both.in_turn(repetition):
            _clean(both)
            began = time.perf_counter()
            for _ in range(sizes.stream):
                written += 1
                key = 1 + written % POINT_ROWS
                road.source.run("UPDATE point SET b = %s WHERE id = %s", written, key)
            ended = time.perf_counter()
            last = road.visible("SELECT b = %s FROM point WHERE id = %s", written, key)
            writing[road.name].append(sizes.stream / (ended - began))
            visible[road.name].append(sizes.stream / (last - began))
    for what, found in (
        ("as the client sees it", writing),
        ("from the first statement to the last visible", visible),
    ):
        name = f"{sizes.stream:,} single-row transactions of one client, {what}"
        ours, theirs = found[both.peers.name], found[both.logical.name]
        yield Figure("latency", name, "tx/s", tuple(ours), tuple(theirs), LOGICAL)


def measure_throughput(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Bulk statements, from their commit and from their start until visible, and the bytes that they cost."""
    both = pair(bed, sizes)
    frames, decoded = FrameMeter(both.peers), DecodedMeter(both.logical.source)
    ops = ("INSERT", "UPDATE of one column", "DELETE")
    rates: dict[tuple[str, str, str], list[float]] = {}
    for repetition in range(sizes.repetitions):
        for op in ops:
            for road in both.in_turn(repetition):
                _clean(both)
                found = _bulk(road, op, decoded if road is both.logical else frames, sizes)
                for what, value in found.items():
                    rates.setdefault((op, what, road.name), []).append(value)
    reach = {("UPDATE of one column", "commit"): "≥ 1.5x", ("INSERT", "bytes"): "≤ 40 B"}
    for op in ops:
        for what in ("commit", "start", "bytes"):
            if what == "bytes":
                name, unit, reference = f"on the wire per row of a bulk {op}", "B", "pgoutput messages"
            else:
                name, unit, reference = f"{sizes.rows:,} rows, {op}, {what} to visible", "rows/s", LOGICAL
            ours, theirs = (rates[op, what, road.name] for road in (both.peers, both.logical))
            yield Figure(
                "throughput", name, unit, tuple(ours), tuple(theirs), reference, reach.get((op, what), "")
            )
    decoded.close()


def _bulk(road: Road, op: str, meter: Meter, sizes: Sizes) -> dict[str, float]:
    """One bulk statement on an empty table (INSERT) or on all rows: rows a second and bytes per row."""
    statement, query = {
        "INSERT": ("INSERT INTO bulk SELECT * FROM source", "SELECT count(*) > 0 FROM bulk WHERE id = %s"),
        "DELETE": ("DELETE FROM bulk", "SELECT count(*) = 0 FROM bulk WHERE id = %s"),
    }.get(op, ("UPDATE bulk SET b = b + 1", f"SELECT b = {sizes.rows % 1000 + 1} FROM bulk WHERE id = %s"))
    meter.start()
    began = time.perf_counter()
    lasted = seconds(road.source.connection, statement)
    visible = road.visible(query, sizes.rows)
    carried = meter.stop()
    return {
        "commit": sizes.rows / (visible - began - lasted),
        "start": sizes.rows / (visible - began),
        "bytes": carried / sizes.rows,
    }


def _clean(both: Pair) -> None:
    """Lets every measurement begin with vacuumed tables and clean buffers."""
    for road in (both.peers, both.logical):
        for place in (road.source, road.target):
            place.run("VACUUM ANALYZE point, bulk")
    checkpoint(both.peers.source.connection, both.peers.target.connection)


def measure_wire(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """What the bytes depend on: the size of the row, text that does not compress, and lone commits."""
    both = pair(bed, sizes)
    source, target = both.peers.source, both.peers.target
    size = source.value("SELECT pg_total_relation_size('source')") / sizes.rows
    yield Figure("wire", "the row itself: heap and primary key", "B", (size,))
    text = source.value("SELECT avg(length(s::text)) FROM source AS s")
    yield Figure("wire", "the row itself: its values as text", "B", (float(text),))
    lone: list[float] = []
    random: list[float] = []
    statement = f"INSERT INTO bulk {rows.rows(1, sizes.rows, text='md5(n::text) || md5((-n)::text)')}"
    written = 3_000_000
    meter = FrameMeter(both.peers)
    for _ in range(sizes.repetitions):
        meter.start()
        for _ in range(_LONE_COMMITS):
            written += 1
            source.run("UPDATE point SET b = %s WHERE id = %s", written, 1 + written % POINT_ROWS)
            time.sleep(_LONE_PAUSE)
        lone.append(meter.stop() / _LONE_COMMITS)
        meter.start()
        source.run(statement)
        both.peers.visible("SELECT count(*) > 0 FROM bulk WHERE id = %s", sizes.rows)
        random.append(meter.stop() / sizes.rows)
        source.run("DELETE FROM bulk")
        both.peers.visible("SELECT count(*) = 0 FROM bulk WHERE id = %s", sizes.rows)
        for place in (source, target):
            place.run("VACUUM ANALYZE bulk")
    yield Figure("wire", "per inserted row with 64 random hexadecimal digits as its text", "B", tuple(random))
    yield Figure("wire", "per commit of one row, acknowledgement included", "B", tuple(lone))
