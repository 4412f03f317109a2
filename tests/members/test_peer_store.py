"""Where peers can be reached: who said so, what worked, and what a common friend passes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import read_peer_record, sign_peer_record
from pgpeer.store import members
from pgpeer.store.database import Connection

from .cast import key_of, peer


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Connection]:
    connection = await Connection.open(database.dsn)
    yield connection
    await connection.close()


@pytest.fixture
def people(database: Database) -> psycopg.Connection:
    return database.connect()


async def say(
    store: Connection, key: PrivateKey, seq: int, *addresses: str, told_by: str | None = None
) -> str:
    record = sign_peer_record(key, seq, "Bob", addresses)
    return await members.store_peer_record(store, read_peer_record(record), record, told_by)


async def tried(store: Connection, name: str = "bob") -> list[str]:
    return [one.address for one in await members.addresses_to_try(store, peer(name))]


async def test_the_last_word_of_a_peer_takes_the_place_of_its_former_ones(store: Connection) -> None:
    bob = key_of("bob")
    assert await say(store, bob, 1, "tls://old:1", "wss://hub") == "new"
    assert await say(store, bob, 2, "tls://new:1", "wss://hub", told_by=peer("ann")) == "new"
    assert set(await tried(store)) == {"tls://new:1", "wss://hub"}
    assert await say(store, bob, 1, "tls://old:1", "wss://hub") == "replay"
    assert await say(store, bob, 2, "tls://new:1", "wss://hub") == "known"
    assert await say(store, bob, 2, "tls://evil:1") == "equivocation"
    assert set(await tried(store)) == {"tls://new:1", "wss://hub"}


async def test_addresses_are_tried_by_what_people_said_and_what_worked(
    store: Connection, people: psycopg.Connection
) -> None:
    await say(store, key_of("bob"), 1, "tls://a:1", "tls://b:1", "tls://c:1")
    await members.note_attempt(store, peer("bob"), "tls://b:1", True)
    await members.note_attempt(store, peer("bob"), "tls://c:1", False)
    assert await tried(store) == ["tls://b:1", "tls://a:1", "tls://c:1"]
    people.execute("SELECT peer.add_address(%s, 'tls://z:1')", [peer("bob")])
    assert (await tried(store))[0] == "tls://z:1"
    people.execute("SELECT peer.add_address(%s, 'tls://c:1')", [peer("bob")])
    await say(store, key_of("bob"), 2, "tls://c:1")
    rows = people.execute(
        "SELECT address, source, failures, last_success IS NOT NULL FROM peer.address ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("tls://b:1", "record", 0, True),  # it worked once: not forgotten
        ("tls://c:1", "static", 1, False),
        ("tls://z:1", "static", 0, False),
    ]
    people.execute("SELECT peer.remove_address(%s, 'tls://z:1')", [peer("bob")])
    assert "tls://z:1" not in await tried(store)


async def test_where_a_link_came_from_is_remembered_over_a_restart(
    store: Connection, database: Database
) -> None:
    await members.note_address(store, peer("bob"), "tls://192.0.2.1:7432", "seen")
    await members.note_attempt(store, peer("bob"), "tls://192.0.2.1:7432", True)
    again = await Connection.open(database.dsn)
    try:
        assert await tried(again) == ["tls://192.0.2.1:7432"]
    finally:
        await again.close()


async def test_a_common_member_passes_on_what_others_said_of_themselves(
    store: Connection, people: psycopg.Connection
) -> None:
    (bundle,) = people.execute("SELECT peer.create_bundle('shelf')").fetchone() or ()
    for name in ("bob", "cid", "dora"):
        people.execute("SELECT peer_internal.add_member(%s, %s, 'writer')", [bundle, key_of(name).public_key])
    people.execute(
        "UPDATE peer_internal.member SET state = 'removed' WHERE author_id = peer_internal.author_id(%s)",
        [key_of("dora").public_key],
    )
    for name in ("bob", "cid", "dora", "eve"):
        await say(store, key_of(name), 1, f"tls://{name}:1")
    told = [read_peer_record(one).peer_id for one in await members.records_for(store, peer("cid"))]
    assert told == [peer("bob")], "not its own, not those of strangers and former members"
    assert await members.records_for(store, peer("eve")) == []


async def test_a_common_friend_passes_on_records_of_friends_that_are_sought_and_of_nobody_else(
    store: Connection, people: psycopg.Connection
) -> None:
    for name in ("bob", "cid", "dora", "eve"):
        await say(store, key_of(name), 1, f"tls://{name}:1")
    for name, state in (("bob", "accepted"), ("cid", "accepted"), ("dora", "requested"), ("eve", "blocked")):
        people.execute("INSERT INTO peer.friend (peer_id, state) VALUES (%s, %s)", [peer(name), state])
    everybody = [peer(name) for name in ("bob", "cid", "dora", "eve")]

    async def told(to: str, *sought: str) -> list[str]:
        return [read_peer_record(one).peer_id for one in await members.records_for(store, peer(to), sought)]

    assert await told("cid") == []
    assert await told("cid", *everybody) == [peer("bob")]
    assert await told("dora", *everybody) == []
    assert await told("eve", *everybody) == []


async def test_the_record_of_a_blocked_member_is_not_passed_on(
    store: Connection, people: psycopg.Connection
) -> None:
    (bundle,) = people.execute("SELECT peer.create_bundle('shelf')").fetchone() or ()
    for name in ("bob", "cid"):
        people.execute("SELECT peer_internal.add_member(%s, %s, 'writer')", [bundle, key_of(name).public_key])
        await say(store, key_of(name), 1, f"tls://{name}:1")
    assert len(await members.records_for(store, peer("cid"))) == 1
    people.execute("SELECT peer.block(%s)", [peer("bob")])
    assert await members.records_for(store, peer("cid")) == []
    assert await members.records_for(store, peer("bob")) == []


async def test_an_address_is_never_taken_for_somebody_else(store: Connection) -> None:
    record = sign_peer_record(key_of("eve"), 1, "Bob", ["tls://evil:1"])
    await members.store_peer_record(store, read_peer_record(record), record, peer("eve"))
    assert await tried(store) == []
    assert await tried(store, "eve") == ["tls://evil:1"]
