"""Failures are counted all, and told as far as people can read them; old events are forgotten, lasting ones kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fixtures.databases import Database

from pgpeer.errors import PgpeerError
from pgpeer.store import events as store
from pgpeer.store.database import Connection
from pgpeer.worker.reporter import BLAME_HINT, Reporter
from pgpeer.worker.tally import SUMS_LIMIT, TOLD_IN_ALL, TOLD_PER_PEER, WINDOW_SECONDS, Tally


def test_few_are_told_and_all_are_counted() -> None:
    tally = Tally()
    told = [tally.count("peer-failed", "one", "sync", "bad_message", 1.0) for _ in range(100)]
    assert told == [True] * TOLD_PER_PEER + [False] * (100 - TOLD_PER_PEER)
    assert tally.count("peer-failed", "other", "sync", "bad_message", 1.0), (
        "one peer's flood is not another's"
    )
    assert {(one.peer_id, one.count) for one in tally.take()} == {("one", 100), ("other", 1)}
    assert tally.take() == []
    assert tally.end_window(1.0) == []
    assert [(one.peer_id, one.count) for one in tally.end_window(2.0 + WINDOW_SECONDS)] == [
        ("one", 100 - TOLD_PER_PEER)
    ]
    assert tally.due() is None
    assert tally.count("peer-failed", "one", "sync", "bad_message", 3.0 + WINDOW_SECONDS)


def test_a_flood_by_many_is_told_a_few_times_too() -> None:
    tally = Tally()
    told = [tally.count("peer-failed", f"peer {number}", "sync", "quota", 1.0) for number in range(10_000)]
    assert told.count(True) == TOLD_IN_ALL
    assert len(tally.end_window(100.0)) == SUMS_LIMIT
    assert sum(one.count for one in tally.take()) == 10_000


@pytest.fixture
def diary(database: Database) -> Callable[..., Any]:
    sql = database.connect()

    def ask(query: str, *arguments: object) -> Any:
        row = sql.execute(query.encode(), arguments or None).fetchone()
        return None if row is None else row[0]

    return ask


async def test_a_failure_is_told_with_its_hint_counted_and_summed_up(
    database: Database, diary: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpeer.worker.tally.WINDOW_SECONDS", 2.0)
    peer = database.peer_id  # any author that is known here
    connection = await Connection.open(database.dsn)
    reporter = Reporter(connection)
    running = asyncio.create_task(reporter.run())
    error = PgpeerError("It sent nonsense.", code="bad_message", phase="sync")
    for _ in range(50):
        await reporter.failure("peer-failed", error, peer_id=peer)
        await reporter.failure("peer-failed", error, peer_id="pg1stranger")
    async with asyncio.timeout(20):
        while diary("SELECT count(*) FROM peer.event WHERE code = 'rate_limited'") < 2:  # noqa: ASYNC110 - the database does not call back
            await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.wait([running])
    await connection.close()
    assert (
        diary(
            "SELECT count(*) FROM peer.event WHERE kind = 'peer-failed' AND peer_id = %s AND code = 'bad_message'",
            peer,
        )
        == TOLD_PER_PEER
    )
    assert diary("SELECT DISTINCT hint FROM peer.event WHERE code = 'bad_message'") == BLAME_HINT
    assert diary("SELECT count FROM peer.failure WHERE peer_id = %s AND phase = 'sync'", peer) == 50
    assert diary("SELECT count FROM peer.failure WHERE peer_id IS NULL") == 50, "strangers are one"
    assert "40 more" in diary("SELECT detail FROM peer.event WHERE code = 'rate_limited' LIMIT 1")


async def test_old_events_are_forgotten_and_what_people_need_is_kept(
    database: Database, diary: Callable[..., Any]
) -> None:
    old = timedelta(days=40)
    for kind in (
        "connected",
        "peer-failed",
        "join-refused",
        "joined",
        "member-joined",
        "role-changed",
        "friend-suggested",
        "epoch-renewed",
    ):
        diary("INSERT INTO peer.event (kind, at) VALUES (%s, now() - %s) RETURNING 1", kind, old)
        diary("INSERT INTO peer.event (kind) VALUES (%s) RETURNING 1", kind)
    connection = await Connection.open(database.dsn)
    assert not await store.prune(connection)
    assert diary("SELECT array_agg(kind ORDER BY kind) FROM peer.event WHERE at < now() - interval '1 day'") == [
        "epoch-renewed", "friend-suggested", "joined", "member-joined", "role-changed",
    ]  # fmt: skip
    assert diary("SELECT count(*) FROM peer.event WHERE at > now() - interval '1 day'") == 8
    await connection.close()


async def test_a_flood_of_events_pushes_out_the_oldest_of_its_kind_only(
    database: Database, diary: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PRUNED_AT_ONCE", 700)
    diary("UPDATE peer.config SET event_count_max = 1000 RETURNING 1")
    diary("INSERT INTO peer.event (kind) VALUES ('joined') RETURNING 1")
    diary(
        "WITH made AS (INSERT INTO peer.event (kind) SELECT 'connected' FROM generate_series(1, 3000) RETURNING 1) SELECT count(*) FROM made"
    )
    connection = await Connection.open(database.dsn)
    rounds = 1
    while await store.prune(connection):
        rounds += 1
    assert rounds == 3
    await connection.close()
    assert diary("SELECT count(*) FROM peer.event WHERE kind = 'connected'") == 1000
    assert diary("SELECT count(*) FROM peer.event WHERE kind = 'joined'") == 1
    assert diary("SELECT max(id) FROM peer.event") == 3001


@pytest.mark.parametrize(("column", "value"), [("event_retention", "59 minutes"), ("event_count_max", "999")])
def test_settings_that_would_lose_what_people_need_are_refused(
    diary: Callable[..., Any], column: str, value: str
) -> None:
    with pytest.raises(Exception, match=column):
        diary(f"UPDATE peer.config SET {column} = '{value}'")
