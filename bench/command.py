"""`python -m bench`: choose sections and sizes, measure, print."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg

from bench import capture, clone, commits, exchange, idle, transactions
from bench.bed import SETTINGS, Bed
from bench.clock import NeverSeen
from bench.figures import HEADER, Figure, number
from bench.sizes import QUICK, Sizes
from pgpeer.errors import PgpeerError

Measure = Callable[[Bed, Sizes], Iterator[Figure]]

SECTIONS: Final[dict[str, Measure]] = {
    "capture": capture.measure,
    "transactions": transactions.measure,
    "seal": commits.measure_seal,
    "merge": commits.measure_merge,
    "latency": exchange.measure_latency,
    "throughput": exchange.measure_throughput,
    "wire": exchange.measure_wire,
    "clone": clone.measure,
    "idle": idle.measure,
}


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints; exit code 1 when a section could not be measured."""
    chosen = _parser().parse_args(arguments)
    sizes = QUICK if chosen.quick else Sizes()
    given = {name: getattr(chosen, name) for name in _OPTIONS if getattr(chosen, name) is not None}
    sizes = replace(sizes, **given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up on its way, as Ctrl-C does
    began = time.monotonic()
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    with Bed() as bed:
        machine = _machine(bed)
        for name, value in machine.items():
            print(f"{name}: {value}")
        print(f"sizes: {sizes}")
        for section in chosen.sections or SECTIONS:
            print(f"\n## {section} ({time.monotonic() - began:.0f} s)\n{HEADER}", flush=True)
            try:
                for figure in SECTIONS[section](bed, sizes):
                    figures.append(figure)
                    print(figure.line(), flush=True)
            except (PgpeerError, psycopg.Error, NeverSeen, RuntimeError, subprocess.SubprocessError) as error:
                failures[section] = f"{type(error).__name__}: {error}"
                print(f"\nNOT MEASURED: {failures[section]}", flush=True)
        machine["load average after"] = _load()
    print(f"\n{time.monotonic() - began:.0f} s in all; load average after: {machine['load average after']}")
    if chosen.json is not None:
        document = {
            "machine": machine,
            "sizes": {name: getattr(sizes, name) for name in sizes.__slots__},
            "figures": [figure.document() for figure in figures],
            "failures": failures,
        }
        chosen.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if failures:
        sys.exit(1)


_OPTIONS: Final = {
    "repetitions": "how often everything is measured",
    "rows": "rows of a bulk statement, a seal, a merge",
    "clone_rows": "rows of the table that is cloned; 1000000 for the size that DESIGN names",
    "samples": "single rows timed in each repetition",
    "stream": "single-row transactions in a row",
    "turns": "how often the four clients take their turn on each table",
    "slice_seconds": "length of one turn of the four clients",
    "idle_seconds": "how long the idle workers are watched",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures pgpeer on two embedded, durable PostgreSQL servers, with a hub and workers as"
        " processes, beside built-in logical replication between two other databases of the same servers."
        " Prints medians, with the least and the greatest of all repetitions.",
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        type=_section,
        help=f"of {', '.join(SECTIONS)}; by default all",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute; not to be quoted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every repetition to a file")
    for name, meaning in _OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_positive, metavar="N", help=meaning)
    return parser


def _section(text: str) -> str:
    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(f"there is no section {text!r}, only {', '.join(SECTIONS)}")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("not positive")
    return value


def _machine(bed: Bed) -> dict[str, Any]:
    """What the figures depend on."""
    with psycopg.connect(bed.left.dsn()) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    settings = [f"{name} = {value}" for name, value in SETTINGS.items() if not name.startswith("log")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "PostgreSQL": f"{row[0]}, two servers, " + ", ".join(settings),
        "Python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, for all processes",
        "write and fdatasync of 8 kB": f"{_fdatasync(bed.folder):.2f} ms (median of 200)",
        "load average before": _load(),
    }


def _fdatasync(folder: Path) -> float:
    """Milliseconds, on the disk that the servers use."""
    took = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return 1000 * sorted(took)[100]


def _load() -> str:
    return ", ".join(number(x) for x in os.getloadavg())
