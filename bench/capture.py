"""What capture adds to the user's own statements: tracked tables beside untracked ones."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Final

from bench import rows
from bench.bed import Bed, Place
from bench.clock import checkpoint, seconds
from bench.figures import Figure
from bench.sizes import Sizes

_REACH: Final = {"INSERT": "≤ 1.15x", "UPDATE": "≤ 1.7x", "DELETE": "≤ 1.6x", "COPY": "≤ 1.15x"}


def measure(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Bulk statements on a tracked table beside the same on an untracked one; the journal begins empty."""
    place = bed.peer(bed.left, "capture")
    rows.create(place.connection, "source", "plain", "tracked")
    for table in ("plain", "tracked"):  # the triggers' cost must not drown in that of vacuum
        place.run(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    place.run(f"INSERT INTO source {rows.rows(1, sizes.rows)}")
    place.run("VACUUM ANALYZE source")
    place.run("SELECT peer.create_bundle('capture')")
    place.run("SELECT peer.track('capture', 'public.tracked')")
    data = _copied_out(place)
    took: dict[str, dict[str, list[float]]] = {op: {"plain": [], "tracked": []} for op in _REACH}
    for repetition in range(sizes.repetitions + 1):  # the first one warms up and is not counted
        order = ("plain", "tracked") if repetition % 2 else ("tracked", "plain")
        for op in _REACH:
            for table in order:
                if op in ("INSERT", "COPY"):
                    _empty(place, table)
                else:
                    place.run(f"VACUUM ANALYZE {table}")
                checkpoint(place.connection)
                if op == "COPY":
                    lasted = _copied_in(place, table, data)
                else:
                    lasted = seconds(place.connection, _sql(op, table))
                if repetition:
                    took[op][table].append(lasted)
            _empty_journal(place)
    for op, found in took.items():
        yield Figure(
            "capture",
            f"{op} of {sizes.rows:,} rows in one statement, tracked",
            "ms",
            tuple(1000 * x for x in found["tracked"]),
            tuple(1000 * x for x in found["plain"]),
            "untracked",
            _REACH[op],
        )
    bed.drop(place)


def _sql(op: str, table: str) -> str:
    return {
        "INSERT": f"INSERT INTO {table} SELECT * FROM source",
        "UPDATE": f"UPDATE {table} SET b = b + 1",
        "DELETE": f"DELETE FROM {table}",
    }[op]


def _copied_out(place: Place) -> bytes:
    with place.connection.cursor() as cursor, cursor.copy("COPY source TO STDOUT") as copy:
        return b"".join(bytes(block) for block in copy)


def _copied_in(place: Place, table: str, data: bytes) -> float:
    began = perf_counter()
    with place.connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
        copy.write(data)
    return perf_counter() - began


def _empty(place: Place, table: str) -> None:
    """Empties a table without the triggers."""
    place.run("SET session_replication_role = replica")
    place.run(f"TRUNCATE {table}")
    place.run("RESET session_replication_role")


def _empty_journal(place: Place) -> None:
    place.run(f"TRUNCATE {journal(place, 'tracked')}")


def journal(place: Place, table: str) -> str:
    """The name of the journal of a tracked table."""
    number = place.value(
        "SELECT relation_number FROM peer_internal.relation WHERE relation = %s::regclass", table
    )
    return f"peer_internal.journal_{number}"
