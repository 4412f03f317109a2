"""Programs that talk to each other through their databases; only the link between the workers is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from channel.offices import Office, cut, link, pair
from fixtures.databases import Database

from pgpeer import ConnectionEnded, PeerConnection, PeerConnectionManager, PeerInfo
from pgpeer.errors import StoreError

Offices = tuple[Office, Office]


@pytest.fixture
async def offices(make_database: Callable[..., Database]) -> AsyncIterator[Offices]:
    async with pair(make_database) as (ann, bob):
        link(ann, bob)
        yield ann, bob


class Listener:
    """A program that keeps what it hears; it answers each message when told to."""

    def __init__(self, office: Office, *, is_echo: bool = False) -> None:
        self.peers = PeerConnectionManager(office.database.dsn)
        self.connections: asyncio.Queue[PeerConnection] = asyncio.Queue()
        self.data: asyncio.Queue[str] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[PeerConnection, str]] = asyncio.Queue()
        self._is_echo = is_echo
        self.peers.events.on("incoming_connection", self._welcome)
        self.peers.events.on("connection_closed", lambda *told: self.closed.put_nowait(told))

    async def __aenter__(self) -> Listener:
        await self.peers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peers.close()

    def _welcome(self, connection: PeerConnection) -> None:
        async def hear(data: str) -> None:
            self.data.put_nowait(data)
            if self._is_echo:
                await connection.send(f"echo {data}")

        connection.events.on("data", hear)
        self.connections.put_nowait(connection)

    async def messages(self, count: int) -> list[str]:
        async with asyncio.timeout(20):
            return [await self.data.get() for _ in range(count)]


async def test_a_program_connects_sends_receives_and_disconnects(offices: Offices) -> None:
    ann, bob = offices
    async with Listener(bob, is_echo=True) as there, PeerConnectionManager(ann.database.dsn) as here:
        closed: asyncio.Queue[tuple[PeerConnection, str]] = asyncio.Queue()
        here.events.on("connection_closed", lambda *told: closed.put_nowait(told))
        heard: asyncio.Queue[str] = asyncio.Queue()
        connection = await here.connect_to_peer(bob.peer_id)
        connection.events.on("data", heard.put_nowait)
        incoming = await there.connections.get()
        assert (incoming.connection_id, incoming.peer_id) == (connection.connection_id, ann.peer_id)
        assert incoming.is_incoming
        assert not connection.is_incoming
        for n in range(20):
            await connection.send(f"message {n}")
        assert await there.messages(20) == [f"message {n}" for n in range(20)]
        async with asyncio.timeout(20):
            assert [await heard.get() for _ in range(20)] == [f"echo message {n}" for n in range(20)]
            await connection.disconnect()
            await connection.disconnect()
            assert await closed.get() == (connection, "peer-requested-closed")
            assert await there.closed.get() == (incoming, "peer-requested-closed")
        with pytest.raises(ConnectionEnded) as ended:
            await connection.send("too late")
        assert ended.value.reason == connection.closed_reason == "peer-requested-closed"
        assert ann.inbox() == bob.inbox() == []


async def test_with_confirmation_send_returns_when_the_other_side_has_stored_it(offices: Offices) -> None:
    ann, bob = offices
    async with PeerConnectionManager(ann.database.dsn) as here:
        connection = await here.connect_to_peer(bob.peer_id, confirm_data_receival=True)
        await connection.send("stored")
        assert bob.inbox() == ["stored"]
        cut(ann, bob)
        sending = asyncio.create_task(connection.send("later"))
        done, _ = await asyncio.wait([sending], timeout=0.3)
        assert not done
        link(ann, bob)
        await asyncio.wait_for(sending, 10)
        assert bob.inbox() == ["stored", "later"]
        await asyncio.wait_for(asyncio.gather(*(connection.send(str(n)) for n in range(50))), 20)
        assert bob.one("SELECT count(*) FROM peer.message") == 52


async def test_without_confirmation_send_returns_at_hand_off(offices: Offices) -> None:
    ann, bob = offices
    async with PeerConnectionManager(ann.database.dsn) as here:
        connection = await here.connect_to_peer(bob.peer_id)
        cut(ann, bob)
        await asyncio.wait_for(connection.send("waits"), 5)
        assert ann.one("SELECT count(*) FROM peer_internal.outgoing_message") == 1


async def test_the_side_that_is_connected_to_may_confirm_too_and_a_listener_may_wait(
    offices: Offices,
) -> None:
    ann, bob = offices
    answered: asyncio.Queue[str] = asyncio.Queue()

    async with (
        PeerConnectionManager(bob.database.dsn) as there,
        PeerConnectionManager(ann.database.dsn) as here,
    ):

        @there.events.on("incoming_connection")
        async def welcome(connection: PeerConnection) -> None:
            @connection.events.on("data")
            async def hear(data: str) -> None:
                await connection.send(data.upper())  # waits for a confirmation inside of a listener
                answered.put_nowait(data)
                await connection.disconnect()

        connection = await here.connect_to_peer(bob.peer_id, confirm_data_receival=True)
        heard: asyncio.Queue[str] = asyncio.Queue()
        connection.events.on("data", heard.put_nowait)
        async with asyncio.timeout(20):
            await connection.send("hello")
            assert await heard.get() == "HELLO"
            assert await answered.get() == "hello"
            while connection.closed_reason is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert connection.closed_reason == "peer-requested-closed"


async def test_who_is_not_reached_is_slow_and_then_an_error(offices: Offices) -> None:
    ann, bob = offices
    cut(ann, bob)
    ann.sql.execute(
        "UPDATE peer.config SET connection_slow_timeout = '0.2 s', connection_timeout = '0.4 s', connect_timeout = '0.6 s'"
    )
    async with PeerConnectionManager(ann.database.dsn) as here:
        with pytest.raises(ConnectionEnded) as failed:
            await asyncio.wait_for(here.connect_to_peer(bob.peer_id), 10)
        assert (failed.value.reason, failed.value.code) == ("connection-error", "timeout")
        with pytest.raises(StoreError) as refused:
            await here.connect_to_peer("pg1nobody")
        assert refused.value.sqlstate == "PGN01"


async def test_a_link_that_stays_away_gives_slow_and_then_connection_error(offices: Offices) -> None:
    ann, bob = offices
    ann.sql.execute("UPDATE peer.config SET connection_slow_timeout = '0.2 s', connection_timeout = '0.4 s'")
    ann.postman.configuration_changed()
    async with PeerConnectionManager(ann.database.dsn) as here:
        heard: asyncio.Queue[object] = asyncio.Queue()
        here.events.on("connection_closed", lambda _, reason: heard.put_nowait(reason))
        connection = await here.connect_to_peer(bob.peer_id, confirm_data_receival=True)
        connection.events.on("slow", heard.put_nowait)
        cut(ann, bob)
        with pytest.raises(ConnectionEnded):
            await asyncio.wait_for(connection.send("never confirmed"), 10)
        assert await heard.get() == "signalling"
        assert await heard.get() == "connection-error"


async def test_a_cancelled_attempt_is_taken_back(offices: Offices) -> None:
    ann, bob = offices
    cut(ann, bob)
    async with PeerConnectionManager(ann.database.dsn) as here:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(here.connect_to_peer(bob.peer_id), 0.5)
        await ann.until("SELECT count(*) = 0 FROM peer.connection")
        row = ann.all("SELECT reason FROM peer.event WHERE kind = 'connection-closed'")
        assert row == [("peer-requested-closed",)]


async def test_online_peers_have_an_id_and_a_label(offices: Offices) -> None:
    ann, bob = offices
    ann.postman.online([bob.peer_id])
    await ann.until("SELECT count(*) = 1 FROM peer.online_peers()")
    async with PeerConnectionManager(ann.database.dsn) as here:
        assert await here.get_online_peers() == [PeerInfo(bob.peer_id, "")]


async def test_listening_begins_with_the_first_listener(offices: Offices) -> None:
    ann, bob = offices
    there = PeerConnectionManager(bob.database.dsn)
    heard: asyncio.Queue[PeerConnection] = asyncio.Queue()
    there.events.on("incoming_connection", heard.put_nowait)
    try:
        async with PeerConnectionManager(ann.database.dsn) as here:
            await asyncio.sleep(0.5)
            connection = await here.connect_to_peer(bob.peer_id)
            found = await asyncio.wait_for(heard.get(), 10)
            assert found.connection_id == connection.connection_id
    finally:
        await there.close()


async def test_messages_wait_for_a_listener_and_a_slow_one_is_not_flooded(offices: Offices) -> None:
    ann, bob = offices
    async with Listener(bob) as there, PeerConnectionManager(ann.database.dsn) as here:
        connection = await here.connect_to_peer(bob.peer_id)
        for n in range(1500):
            await connection.send(str(n))
        assert await there.messages(1500) == [str(n) for n in range(1500)]
        back = await there.connections.get()
        for n in range(1000):
            await back.send(str(n))
        await ann.until("SELECT count(*) = 1000 FROM peer.message")
        heard: list[str] = []
        gate = asyncio.Event()

        @connection.events.on("data")
        async def hear(data: str) -> None:
            await gate.wait()
            heard.append(data)

        await ann.until("SELECT count(*) < 1000 FROM peer.message")
        await back.disconnect()
        await asyncio.sleep(0.3)
        assert ann.one("SELECT count(*) FROM peer.message") >= 400
        gate.set()
        async with asyncio.timeout(20):
            while len(heard) < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert heard == [str(n) for n in range(1000)]
            while connection.closed_reason is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_lost_database_connection_is_made_again_and_nothing_is_missed(offices: Offices) -> None:
    ann, bob = offices
    async with Listener(bob) as there, PeerConnectionManager(ann.database.dsn) as here:
        connection = await here.connect_to_peer(bob.peer_id)
        await connection.send("before")
        assert await there.messages(1) == ["before"]
        bob.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = 'pgpeer client'",
            [bob.database.name],
        )
        await connection.send("meanwhile")
        assert await there.messages(1) == ["meanwhile"]
        await connection.disconnect()
        async with asyncio.timeout(20):
            _, reason = await there.closed.get()
        assert reason == "peer-requested-closed"


async def test_connections_of_others_are_left_alone(offices: Offices) -> None:
    ann, bob = offices
    before = ann.one("SELECT peer.connect(%s)", bob.peer_id)
    await bob.until_state(before, "open")
    async with Listener(bob) as there:
        other = ann.one("SELECT peer.connect(%s)", bob.peer_id)
        found = await asyncio.wait_for(there.connections.get(), 10)
        assert found.connection_id == other
        ann.sql.execute("SELECT peer.send(%s, 'not for this program')", [before])
        ann.sql.execute("SELECT peer.send(%s, 'for this program')", [other])
        assert await there.messages(1) == ["for this program"]
        assert bob.inbox() == ["not for this program"]


async def test_a_database_without_pgpeer_or_out_of_reach_says_so(offices: Offices) -> None:
    ann, _ = offices
    with pytest.raises(StoreError) as unreachable:
        await PeerConnectionManager("host=/nowhere dbname=none").get_online_peers()
    assert unreachable.value.code == "unreachable"
    bare = psycopg.conninfo.make_conninfo(ann.database.dsn, dbname="postgres")
    with pytest.raises(StoreError):
        await PeerConnectionManager(bare).get_online_peers()
