"""Many small transactions of four clients: tracked tables beside an untracked one."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Final

import psycopg

from bench import rows
from bench.bed import Bed, Place
from bench.capture import journal
from bench.clock import answers, checkpoint, seen
from bench.figures import Figure
from bench.sizes import Sizes

CLIENTS: Final = 4
_TABLES: Final = ("plain", "by_people", "by_worker")
_REACH: Final = "≥ 0.85x"


def measure(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Transactions of one UPDATE by key, a second: without a worker, and while a worker commits them."""
    place = bed.peer(bed.left, "transactions")
    rows.create(place.connection, *_TABLES)
    for table in _TABLES:
        place.run(f"INSERT INTO {table} {rows.rows(1, sizes.rows)}")
    for bundle, mode in (("by_people", "manual"), ("by_worker", "auto")):
        place.run("SELECT peer.create_bundle(%s, %s)", bundle, mode)
        place.run("SELECT peer.track(%s, %s)", bundle, bundle)
    place.run("VACUUM ANALYZE")
    rates = _rates(place, _TABLES, sizes)
    for table, how in (("by_people", "manual bundle"), ("by_worker", "auto bundle, no worker runs")):
        yield _figure(how, rates[table], rates["plain"])
    place.start_worker()
    rates = _rates(place, ("plain", "by_worker"), sizes)
    yield _figure("auto bundle, its worker commits them meanwhile", rates["by_worker"], rates["plain"])
    bed.drop(place)


def _figure(how: str, tracked: list[float], plain: list[float]) -> Figure:
    name = f"single-row UPDATE transactions, {CLIENTS} clients, {how}"
    return Figure("transactions", name, "tx/s", tuple(tracked), tuple(plain), "untracked", _REACH)


def _rates(place: Place, tables: tuple[str, ...], sizes: Sizes) -> dict[str, list[float]]:
    """Short turns of the tables, in an order that changes: other work on the machine hits all of them."""
    rates: dict[str, list[float]] = {table: [] for table in tables}
    for repetition in range(sizes.turns):
        for n in range(len(tables)):
            table = tables[(n + repetition) % len(tables)]
            checkpoint(place.connection)
            rates[table].append(_rate(place, table, sizes))
            _settle(place)
    return rates


def _settle(place: Place) -> None:
    """Empties the journals, or lets the worker do it."""
    place.run(f"TRUNCATE {journal(place, 'by_people')}")
    name = journal(place, "by_worker")
    if place.worker is None:
        place.run(f"TRUNCATE {name}")
    else:
        seen(answers(place.connection, f"SELECT NOT EXISTS (SELECT FROM {name})"), "all committed")


def _rate(place: Place, table: str, sizes: Sizes) -> float:
    """Transactions a second, by pgbench where the installation has it."""
    pgbench = place.cluster.bindir / "pgbench"
    if not pgbench.exists():
        return _rate_of_threads(place, table, sizes)
    script = place.folder / f"{table}.pgbench"
    script.write_text(f"\\set id random(1, {sizes.rows})\nUPDATE {table} SET b = b + 1 WHERE id = :id;\n")
    command = [str(pgbench), "--no-vacuum", f"--client={CLIENTS}", "--jobs=2", "--protocol=prepared"]
    command += [f"--time={sizes.slice_seconds}", f"--file={script}", place.dsn]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"^tps = ([0-9.]+)", result.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench said: {result.stdout} {result.stderr}")
    return float(found[1])


def _rate_of_threads(place: Place, table: str, sizes: Sizes) -> float:
    """The same by threads of this process: slower clients, the same statement."""
    counts = [0] * CLIENTS
    end = time.perf_counter() + sizes.slice_seconds

    def work(n: int) -> None:
        chance = random.Random(n)
        statement = f"UPDATE {table} SET b = b + 1 WHERE id = %s".encode()
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            while time.perf_counter() < end:
                connection.execute(statement, [chance.randint(1, sizes.rows)], prepare=True)
                counts[n] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / sizes.slice_seconds
