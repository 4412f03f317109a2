"""What a monitor asks a peer, in one document (row E21)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.databases import Database
from system.conftest import atlas, hub, make_peer
from system.processes import Peer
from virtual_time import in_virtual_time

from pgpeer.worker.diagnostics import REMEMBERED_COMMITS, REPORT_SECONDS, Diagnostics

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]


class Desk:
    """Takes reports in place of a database."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, dict[str, Any]]] = []

    async def value(self, _: str, report: str) -> None:
        self.reports.append((asyncio.get_running_loop().time(), json.loads(report)))


@in_virtual_time
async def test_an_idle_worker_reports_twice_a_minute() -> None:
    desk = Desk()
    running = asyncio.create_task(Diagnostics(desk, {}).run())  # type: ignore[arg-type]
    await asyncio.sleep(10 * 60 + 5)
    running.cancel()
    times = [at for at, _ in desk.reports]
    assert len(times) == pytest.approx(600 / REPORT_SECONDS, abs=2)
    assert times[0] - 1000.0 < 2.0
    assert desk.reports[-1][1]["loop_lag_seconds_max"] < 0.1


async def test_a_loop_that_was_held_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpeer.worker.diagnostics.SAMPLE_SECONDS", 0.02)
    desk = Desk()
    running = asyncio.create_task(Diagnostics(desk, {}).run())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    sum(range(10_000_000))  # nothing else runs meanwhile
    await asyncio.sleep(0.05)
    running.cancel()
    report = desk.reports[0][1]
    assert report["loop_lag_seconds_max"] > 0.03
    assert 0 < report["cpu_share"] <= 1.1
    assert report["cpu_seconds"] > 0
    assert 2**20 < report["rss_bytes"] < 2**34


async def test_commits_that_came_before_are_counted_and_the_memory_of_them_is_bounded() -> None:
    counted = Diagnostics(Desk(), {})  # type: ignore[arg-type]
    for number in range(2 * REMEMBERED_COMMITS):
        counted.heard(number.to_bytes(32, "big"))
    for number in range(2 * REMEMBERED_COMMITS - 100, 2 * REMEMBERED_COMMITS):
        counted.heard(number.to_bytes(32, "big"))
    report = counted.report(0.0)
    assert report["commits_received"] == 2 * REMEMBERED_COMMITS + 100
    assert report["duplicate_ratio"] == pytest.approx(100 / (2 * REMEMBERED_COMMITS + 100), abs=1e-4)
    assert len(counted._seen) == REMEMBERED_COMMITS


def test_without_a_worker_the_document_says_so(database: Database) -> None:
    with database.connect() as sql:
        row = sql.execute("SELECT peer.diagnostics()").fetchone()
    assert row is not None
    found = row[0]
    assert found["worker"] is None
    assert (found["peer_id"], found["peers"], found["errors"]) == (database.peer_id, [], {})
    assert found["queue"] == {"messages": 0, "bytes": 0}


def test_e21_each_peer_tells_everything_that_a_monitor_asks(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    bob.run("UPDATE public.city SET population = 0")
    ann.wait_until("SELECT sum(population) = 0 FROM public.city")
    for one, other in ((ann, bob), (bob, ann)):
        one.wait_until(
            "SELECT d.report ->> 'links' = '1' AND (d.report ->> 'commits_received')::int > 0"
            " FROM (SELECT peer.diagnostics() -> 'worker' AS report) AS d",
            seconds=REPORT_SECONDS + 30,
        )
        one.wait_until("SELECT bool_and(rtt IS NOT NULL AND bytes_sent > 0) FROM peer.connection")
        found = one.value("SELECT peer.diagnostics()")
        print(json.dumps(found))
        assert found["peer_id"] == one.peer_id
        worker = found["worker"]
        assert worker["cpu_seconds"] > 0
        assert worker["rss_bytes"] > 20_000_000
        assert worker["loop_lag_seconds_max"] < 5
        assert worker["duplicate_ratio"] == 0
        assert worker["buffered_bytes"] >= 0
        assert found["connections"] == {"links": 1, "channels": 0}
        (peer,) = found["peers"]
        assert peer["peer_id"] == other.peer_id
        assert found["paths"] == {peer["path"]: 1}
        assert peer["path"] in ("relay", "webrtc", "tls")
        assert peer["engine"]
        assert 0 < peer["rtt_seconds"] < 5
        assert peer["bytes_sent"] > 0
        assert peer["bytes_received"] > 0
        assert peer["queued_messages"] == found["queue"]["messages"] == 0
        assert isinstance(found["errors"], dict)
        assert isinstance(found["problems"], dict)
