"""Application connections between two real databases; only the link is played by the test."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest
from fixtures.databases import Database

from channel.offices import connect, cut, link, pair
from pgpeer.worker.postman import Postman

Make = Callable[..., Database]
CLOSED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s)"
END = "SELECT reason, code FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s"


async def test_messages_go_both_ways_once_and_in_order(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        connection_id = connect(ann, bob, confirm=True)
        ann.sql.execute("SELECT peer.send(%s, 'm' || n) FROM generate_series(1, 1500) AS n", [connection_id])
        await bob.until("SELECT count(*) = 1500 FROM peer.message")
        assert bob.inbox() == [f"m{n}" for n in range(1, 1501)]
        bob.sql.execute("SELECT peer.send(%s, 'answer')", [connection_id])
        await ann.until("SELECT count(*) = 1 FROM peer.message")
        await ann.until("SELECT count(*) = 1500 FROM peer.event WHERE kind = 'message-confirmed'")
        await ann.until("SELECT NOT EXISTS (SELECT FROM peer_internal.outgoing_message)")
        kinds = [kind for (kind,) in ann.all("SELECT DISTINCT kind FROM peer.event ORDER BY 1")]
        assert kinds == ["connection-opened", "message-confirmed", "message-received"]
        incoming = bob.all("SELECT connection_id, peer_id FROM peer.event WHERE kind = 'incoming-connection'")
        assert incoming == [(connection_id, ann.peer_id)]
        ann.sql.execute("SELECT peer.disconnect(%s)", [connection_id])
        await bob.until(CLOSED, connection_id)
        await ann.until(CLOSED, connection_id)
        assert bob.all(END, connection_id) == [("peer-requested-closed", "remote_closed")]
        assert ann.all(END, connection_id) == [("peer-requested-closed", "local_closed")]


async def test_a_connection_waits_for_its_link_and_survives_cuts_and_restarts(make_database: Make) -> None:
    chance = random.Random(5)
    async with pair(make_database) as (ann, bob):
        connection_id = connect(ann, bob)
        sent = {ann: 0, bob: 0}
        ann.sql.execute("SELECT peer.send(%s, '1')", [connection_id])
        sent[ann] = 1
        link(ann, bob)
        await bob.until_state(connection_id, "open")
        for turn in range(12):
            for office in (ann, bob):
                for _ in range(chance.randint(1, 30)):
                    sent[office] += 1
                    size = chance.choice([1, 100, 20_000])
                    office.sql.execute(
                        "SELECT peer.send(%s, %s || repeat(' ', %s))",
                        [connection_id, str(sent[office]), size],
                    )
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            cut(ann, bob)
            if turn % 3 == 2:
                office = chance.choice([ann, bob])
                await office.stop()
                await office.start()
            link(ann, bob)
        await bob.until("SELECT count(*) = %s FROM peer.message", sent[ann])
        await ann.until("SELECT count(*) = %s FROM peer.message", sent[bob])
        assert [int(data) for data in bob.inbox()] == list(range(1, sent[ann] + 1))
        assert [int(data) for data in ann.inbox()] == list(range(1, sent[bob] + 1))
        assert not ann.one(CLOSED, connection_id)
        assert not bob.one(CLOSED, connection_id)


async def test_time_outs_are_told_twice_slow_and_then_failed(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        for office in (ann, bob):
            office.sql.execute(
                "UPDATE peer.config SET connection_slow_timeout = '0.2 s', connection_timeout = '0.5 s', connect_timeout = '0.6 s'"
            )
            office.postman.configuration_changed()
        connection_id = connect(ann, bob)
        await ann.until(CLOSED, connection_id, seconds=5)
        events = ann.all("SELECT kind, phase, code, reason, retryable FROM peer.event ORDER BY id")
        assert events == [
            ("connection-slow", "signalling", "slow", None, True),
            ("connection-closed", "signalling", "timeout", "connection-error", True),
        ]
        link(ann, bob)
        second = connect(ann, bob)
        await bob.until_state(second, "open")
        await ann.until_state(second, "open")
        cut(ann, bob)
        await ann.until(CLOSED, second, seconds=5)
        await bob.until(CLOSED, second, seconds=5)
        assert ann.all(END, second) == bob.all(END, second) == [("connection-error", "timeout")]


async def test_a_full_inbox_stops_the_sender_until_messages_are_deleted(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        bob.sql.execute("UPDATE peer.config SET message_inbox_count_max = 3")
        link(ann, bob)
        connection_id = connect(ann, bob)
        await bob.until_state(connection_id, "open")
        for n in range(40):
            ann.sql.execute("SELECT peer.send(%s, %s || repeat('x', 60000))", [connection_id, str(n)])
        await asyncio.sleep(1.0)
        held = bob.one("SELECT count(*) FROM peer.message")
        assert 3 <= held < 20
        taken: list[tuple[int, str]] = []
        async with asyncio.timeout(20):
            while len(taken) < 40:
                rows = bob.all("DELETE FROM peer.message RETURNING number, left(data, 2)")
                taken += sorted(rows)
                await asyncio.sleep(0.05)
        assert [number for number, _ in taken] == list(range(1, 41))


async def test_who_is_not_invited_is_refused(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        bob.sql.execute("UPDATE peer.config SET accept = 'invited'")
        link(ann, bob)
        connection_id = connect(ann, bob)
        await ann.until(CLOSED, connection_id)
        assert ann.all(END, connection_id) == [("connection-error", "refused_policy")]
        assert bob.all("SELECT kind FROM peer.event") == []


async def test_a_request_that_no_worker_took_up_in_time_fails(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        await ann.stop()
        connection_id = connect(ann, bob)
        ann.sql.execute("UPDATE peer_internal.channel SET since = since - interval '1 hour'")
        await ann.start()
        await ann.until(CLOSED, connection_id)
        assert ann.all(END, connection_id) == [("connection-error", "timeout")]


async def test_a_restored_database_ends_its_connections_instead_of_losing_messages(
    make_database: Make,
) -> None:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        connection_id = connect(ann, bob)
        ann.sql.execute("SELECT peer.send(%s, 'one')", [connection_id])
        await bob.until("SELECT count(*) = 1 FROM peer.message")
        await ann.until("SELECT acknowledged = 1 FROM peer_internal.channel")
        await bob.stop()
        # as in a backup from before the message
        bob.sql.execute(
            "UPDATE peer_internal.channel SET received = 0, received_chain = NULL; DELETE FROM peer.message"
        )
        cut(ann, bob)
        await bob.start()
        link(ann, bob)
        await ann.until(CLOSED, connection_id)
        await bob.until(CLOSED, connection_id)
        assert ann.all(END, connection_id) == [("connection-error", "replay")]
        assert bob.all(END, connection_id)[0][0] == "connection-error"


@pytest.mark.parametrize("leaver", ["who asked", "the other side"])
async def test_an_end_whose_very_beginning_was_lost_in_a_crash_is_the_same_end_afterwards(
    make_database: Make, leaver: str
) -> None:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        connection_id = connect(ann, bob)
        ann.sql.execute("SELECT peer.send(%s, 'one')", [connection_id])
        await bob.until("SELECT count(*) = 1 FROM peer.message")
        side, other = (ann, bob) if leaver == "who asked" else (bob, ann)
        side.sql.execute("SELECT peer.disconnect(%s)", [connection_id])
        for office in (ann, bob):
            await office.until(CLOSED, connection_id)
        for office in (ann, bob):
            await office.stop()
        cut(ann, bob)
        # as when nothing was committed of what her worker heard since she asked
        ann.sql.execute(
            "UPDATE peer_internal.channel SET state = 'connecting', reason = NULL, code = NULL, detail = NULL,"
            " closed_at = NULL, acknowledged = 0, acknowledged_chain = NULL, acknowledged_bytes = 0"
        )
        ann.sql.execute("DELETE FROM peer.event")
        ann.sql.execute(
            "INSERT INTO peer_internal.outgoing_message VALUES (%s, 1, 3, 'one')", [connection_id]
        )
        for office in (ann, bob):
            await office.start()
        link(ann, bob)
        await ann.until(CLOSED, connection_id)
        assert side.all(END, connection_id) == [("peer-requested-closed", "local_closed")]
        assert other.all(END, connection_id) == [("peer-requested-closed", "remote_closed")]
        assert bob.inbox() == ["one"]


async def test_presence_is_what_the_hubs_said_last(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        ann.postman.online([bob.peer_id])
        await ann.until("SELECT array_agg(peer_id) = ARRAY[%s] FROM peer.online_peers()", bob.peer_id)
        ann.postman.online([])
        await ann.until("SELECT count(*) = 0 FROM peer.online_peers()")


async def test_an_idle_postman_asks_the_database_nothing(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        connection_id = connect(ann, bob)
        await ann.until_state(connection_id, "open")
        await asyncio.sleep(0.3)
        assert isinstance(ann.postman, Postman)
        query = "SELECT query_start FROM pg_stat_activity WHERE datname = %s AND application_name = 'pgpeer worker' AND state = 'idle' AND query LIKE '%%channel%%'"
        before = ann.all(query, ann.database.name)
        await asyncio.sleep(1.5)
        assert ann.all(query, ann.database.name) == before


async def test_latency_and_rate_are_measured(make_database: Make) -> None:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        connection_id = connect(ann, bob)
        await bob.until_state(connection_id, "open")
        await ann.until_state(connection_id, "open")
        began = time.monotonic()
        ann.sql.execute(
            "SELECT peer.send(%s, repeat('x', 200)) FROM generate_series(1, 5000)", [connection_id]
        )
        await bob.until("SELECT count(*) = 5000 FROM peer.message", seconds=30)
        rate = 5000 / (time.monotonic() - began)
        print(f"{rate:.0f} messages/s of 200 bytes")
        assert rate > 200
