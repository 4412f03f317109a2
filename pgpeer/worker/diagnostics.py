"""What a worker knows about its own process: told twice a minute for `peer.diagnostics`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgpeer.store import state
from pgpeer.store.database import Connection

if TYPE_CHECKING:
    from pgpeer.worker.exchange import Exchange

SAMPLE_SECONDS: Final = 1.0
"""How often the lag of the event loop is measured."""

REPORT_SECONDS: Final = 30.0
"""How often the figures are stored, and the first time after one sample."""

REMEMBERED_COMMITS: Final = 4096
"""Of so many commits that came last it is known whether they come again."""

_PAGE_BYTES: Final = resource.getpagesize()


class Diagnostics:
    """Measures the process and its links.

    Args:
        connection: where the figures are stored.
        exchanges: the links in use, by peer id; read when the figures are stored.
    """

    def __init__(self, connection: Connection, exchanges: dict[str, Exchange]) -> None:
        self._connection = connection
        self._exchanges = exchanges
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._lags: list[float] = []
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._commits = 0
        self._repeated = 0

    def heard(self, digest: bytes) -> None:
        """A commit came from a peer; the same one may come from several."""
        self._commits += 1
        if digest in self._seen:
            self._repeated += 1
            return
        self._seen[digest] = None
        if len(self._seen) > REMEMBERED_COMMITS:
            self._seen.popitem(last=False)

    async def run(self) -> None:
        """Measure and store until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        reported_at = float("-inf")
        processor, at = _processor_seconds(), self._loop.time()
        while True:
            began = self._loop.time()
            await asyncio.sleep(SAMPLE_SECONDS)
            now = self._loop.time()
            self._lags.append(now - began - SAMPLE_SECONDS)
            if now < reported_at + REPORT_SECONDS:
                continue
            used = _processor_seconds()
            report = self.report((used - processor) / (now - at))
            processor, at, reported_at = used, now, now
            self._lags.clear()
            await state.diagnosed(self._connection, json.dumps(report))

    def report(self, processor_share: float) -> dict[str, object]:
        """Give the figures of now.

        Args:
            processor_share: of one core, since the last report.
        """
        return {
            "uptime_seconds": round(self._loop.time() - self._began, 1),
            "cpu_seconds": round(_processor_seconds(), 2),
            "cpu_share": round(processor_share, 4),
            "rss_bytes": _resident_bytes(),
            "loop_lag_seconds_max": round(max(self._lags, default=0.0), 4),
            "tasks": len(asyncio.all_tasks()),
            "links": len(self._exchanges),
            "buffered_bytes": sum(one.buffered for one in self._exchanges.values()),
            "commits_received": self._commits,
            "duplicate_ratio": round(self._repeated / self._commits, 4) if self._commits else 0.0,
        }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> int:
    """Memory in use now where the system tells it, else the most that ever was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
