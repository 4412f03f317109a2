"""Messages between programs over real workers and WebRTC."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from pgpeer import PeerConnection, PeerConnectionManager
from system.processes import Peer

Make = Callable[..., Peer]
CLOSED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s)"
END = "SELECT reason, code FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s"
OPEN = "SELECT EXISTS (SELECT FROM peer.connection WHERE connection_id = %s AND state = 'open' AND path = 'webrtc')"


def strangers(make_peer: Make) -> tuple[Peer, Peer]:
    """Two databases that share no bundle."""
    ann, bob = make_peer("ann"), make_peer("bob")
    bob.run("UPDATE peer.config SET accept = 'open'")
    ann.start()
    bob.start()
    return ann, bob


def members(atlas: Make, make_peer: Make) -> tuple[Peer, Peer]:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    return ann, bob


def inbox(peer: Peer) -> list[str]:
    return [data for (data,) in peer.run("SELECT data FROM peer.message ORDER BY connection_id, number")]


@pytest.mark.parametrize("how", ["strangers", "members"])
def test_messages_travel_over_webrtc_once_and_in_order(how: str, atlas: Make, make_peer: Make) -> None:
    ann, bob = strangers(make_peer) if how == "strangers" else members(atlas, make_peer)
    connection_id = ann.value("SELECT peer.connect(%s, true)", bob.peer_id)
    ann.run("SELECT peer.send(%s, 'm' || n) FROM generate_series(1, 300) AS n", connection_id)
    bob.wait_until("SELECT count(*) = 300 FROM peer.message")
    assert inbox(bob) == [f"m{n}" for n in range(1, 301)]
    ann.wait_until(OPEN, connection_id)
    bob.wait_until(OPEN, connection_id)
    bob.run("SELECT peer.send(%s, repeat('é', 131072))", connection_id)
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.message WHERE octet_length(data) = 262144)")
    ann.wait_until("SELECT count(*) = 300 FROM peer.event WHERE kind = 'message-confirmed'")
    bob.run("SELECT peer.disconnect(%s)", connection_id)
    ann.wait_until(CLOSED, connection_id)
    bob.wait_until(CLOSED, connection_id)
    assert ann.run(END, connection_id) == [("peer-requested-closed", "remote_closed")]
    assert bob.run(END, connection_id) == [("peer-requested-closed", "local_closed")]


def test_a_stranger_is_refused_where_only_the_invited_may_connect(make_peer: Make) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    ann.start()
    bob.start()
    connection_id = ann.value("SELECT peer.connect(%s)", bob.peer_id)
    ann.wait_until(CLOSED, connection_id, seconds=15)
    assert ann.run(END, connection_id) == [("connection-error", "refused_policy")]
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind = 'incoming-connection'") == 0


def test_connections_outlive_workers_that_are_killed_and_nothing_comes_twice(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = members(atlas, make_peer)
    connection_id = ann.value("SELECT peer.connect(%s)", bob.peer_id)
    bob.wait_until(OPEN, connection_id)
    count = 0
    for victim in (ann, bob, ann, bob):
        for _ in range(40):
            count += 1
            ann.run("SELECT peer.send(%s, %s)", connection_id, str(count))
            bob.run("SELECT peer.send(%s, %s)", connection_id, str(count))
        victim.end(signal.SIGKILL)
        victim.start()
    for peer in (ann, bob):
        peer.wait_until("SELECT count(*) = %s FROM peer.message", count)
        assert inbox(peer) == [str(n) for n in range(1, count + 1)]
        assert not peer.value(CLOSED, connection_id)


def test_a_worker_that_stays_away_ends_the_connection_with_an_error(make_peer: Make) -> None:
    ann, bob = strangers(make_peer)
    for peer in (ann, bob):
        peer.run("UPDATE peer.config SET connection_slow_timeout = '0.5 s', connection_timeout = '2 s'")
    connection_id = ann.value("SELECT peer.connect(%s)", bob.peer_id)
    ann.wait_until(OPEN, connection_id)
    bob.end()
    ann.wait_until(CLOSED, connection_id, seconds=30)
    assert ann.run(END, connection_id) == [("connection-error", "timeout")]
    assert ann.value(
        "SELECT count(*) > 0 FROM peer.event WHERE kind = 'connection-slow' AND phase = 'signalling'"
    )
    bob.start()
    bob.wait_until(CLOSED, connection_id, seconds=30)
    assert bob.run(END, connection_id)[0][0] == "connection-error"


async def test_two_programs_talk(make_peer: Make) -> None:
    ann, bob = strangers(make_peer)
    async with (
        PeerConnectionManager(ann.database.dsn) as here,
        PeerConnectionManager(bob.database.dsn) as there,
        asyncio.timeout(60),
    ):

        @there.events.on("incoming_connection")
        def welcome(connection: PeerConnection) -> None:
            @connection.events.on("data")
            async def echo(data: str) -> None:
                await connection.send(data)

        connection = await here.connect_to_peer(bob.peer_id, confirm_data_receival=True)
        assert [peer.id for peer in await here.get_online_peers()] == [bob.peer_id]
        heard: asyncio.Queue[str] = asyncio.Queue()
        connection.events.on("data", heard.put_nowait)
        times = []
        for n in range(50):
            began = time.monotonic()
            await connection.send(str(n))
            times.append(time.monotonic() - began)
            assert await heard.get() == str(n)
        print(f"confirmed after {sorted(times)[25] * 1000:.1f} ms (median of 50)")
        await connection.disconnect()
        assert connection.closed_reason == "peer-requested-closed"
