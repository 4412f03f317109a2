"""Both stores keep the same promises. Rows E7, E8 (registration), B15 (limits), threat 5 (rolled-back records)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import psycopg
import pytest
from fixtures.databases import Databases
from fixtures.versions import SECOND

from pgpeer.errors import HubError, StoreError
from pgpeer.hub.memory import MemoryStore
from pgpeer.hub.postgres import PostgresStore, install_schema
from pgpeer.hub.store import HubStore, MailNotice, NamespaceNotice, Notice
from pgpeer.signaling.limits import HubLimits

LIMITS = HubLimits(
    namespaces=3,
    mailbox_messages=4,
    mailbox_bytes=1000,
    mailbox_messages_per_sender=3,
    mail_sent_per_peer=5,
    mail_total_bytes=10_000,
)


class Open:
    """A store that is open, and what it told."""

    def __init__(self, store: HubStore) -> None:
        self.store = store
        self.heard: list[Notice] = []

    async def hears(self, notice: Notice) -> None:
        async with asyncio.timeout(5):
            while notice not in self.heard:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


@pytest.fixture(params=["memory", "postgres", "second postgres"])
async def kept(request: pytest.FixtureRequest, databases: Databases) -> AsyncIterator[Open]:
    drop: Callable[[], None] = lambda: None  # noqa: E731
    store: HubStore = MemoryStore(LIMITS)
    if request.param != "memory":
        version = SECOND if request.param == "second postgres" else None
        cluster, name = databases.bare(databases.cluster(version))
        drop = partial(databases.drop_named, cluster, name)
        store = PostgresStore(cluster.dsn(name), LIMITS)
    opened = Open(store)
    await store.open("ws://127.0.0.1:1", opened.heard.append, lambda: None)
    yield opened
    await store.close()
    await store.close()
    drop()


async def refusal(attempt) -> HubError:  # noqa: ANN001
    with pytest.raises(HubError) as caught:
        await attempt
    assert caught.value.remedy
    return caught.value


async def test_who_registers_is_found_and_who_follows_hears_of_it(kept: Open) -> None:
    await kept.store.register("n", "alice", 1, b"record of alice", 60)
    await kept.store.register("n", "bob", 1, b"record of bob", 60)
    await kept.store.register("m", "alice", 1, b"elsewhere", 60)
    found = await kept.store.discover("n", 0, 10)
    assert [(one.peer_id, one.record) for one in found] == [
        ("alice", b"record of alice"),
        ("bob", b"record of bob"),
    ]
    assert [one.peer_id for one in await kept.store.discover("n", found[0].position, 10)] == ["bob"]
    assert [one.peer_id for one in await kept.store.discover("n", 0, 1)] == ["alice"]
    assert await kept.store.discover("nowhere", 0, 10) == []
    await kept.hears(NamespaceNotice("n", "bob", b"record of bob"))


async def test_a_renewed_registration_comes_last_and_an_older_one_is_refused(kept: Open) -> None:
    await kept.store.register("n", "alice", 5, b"five", 60)
    await kept.store.register("n", "bob", 1, b"bob", 60)
    assert (await refusal(kept.store.register("n", "alice", 4, b"four", 60))).code == "replay"
    assert (await refusal(kept.store.register("n", "alice", 5, b"other", 60))).code == "replay"
    await kept.store.register("n", "alice", 6, b"six", 60)
    assert [one.record for one in await kept.store.discover("n", 0, 10)] == [b"bob", b"six"]


async def test_the_same_registration_again_stays_for_longer_and_nobody_is_told(kept: Open) -> None:
    await kept.store.register("n", "alice", 5, b"five", 1)
    await kept.store.register("n", "bob", 1, b"bob", 60)
    before = await kept.store.discover("n", 0, 10)
    await kept.store.register("n", "alice", 5, b"five", 60)
    assert await kept.store.discover("n", 0, 10) == before
    await kept.store.register("n", "carol", 1, b"carol", 60)
    await kept.hears(NamespaceNotice("n", "carol", b"carol"))
    assert kept.heard.count(NamespaceNotice("n", "alice", b"five")) == 1
    await asyncio.sleep(1.1)
    await kept.store.sweep()
    assert [one.peer_id for one in await kept.store.discover("n", 0, 10)] == ["alice", "bob", "carol"]
    # one that had run out has been away, though nobody was told so
    await kept.store.register("n", "dora", 1, b"dora", 0)
    await kept.store.register("n", "dora", 1, b"dora", 60)
    await kept.store.register("n", "emil", 1, b"emil", 60)
    await kept.hears(NamespaceNotice("n", "emil", b"emil"))
    assert kept.heard.count(NamespaceNotice("n", "dora", b"dora")) == 2


async def test_who_leaves_or_does_not_renew_is_gone(kept: Open) -> None:
    await kept.store.register("n", "alice", 1, b"alice", 60)
    await kept.store.register("n", "bob", 1, b"bob", 0)
    await kept.store.unregister("n", "alice")
    await kept.store.unregister("n", "alice")
    assert await kept.store.discover("n", 0, 10) == []
    await kept.hears(NamespaceNotice("n", "alice", None))
    assert NamespaceNotice("n", "bob", None) not in kept.heard
    await kept.store.sweep()
    await kept.hears(NamespaceNotice("n", "bob", None))


async def test_a_peer_is_listed_in_so_many_namespaces_and_no_more(kept: Open) -> None:
    for number in range(3):
        await kept.store.register(f"n{number}", "alice", 1, b"r", 60)
    assert (await refusal(kept.store.register("n3", "alice", 1, b"r", 60))).code == "quota"
    await kept.store.register("n2", "alice", 2, b"r", 60)
    await kept.store.unregister("n0", "alice")
    await kept.store.register("n3", "alice", 1, b"r", 60)


async def test_mail_waits_in_order_until_it_is_taken(kept: Open) -> None:
    numbers = [await kept.store.post("alice", "bob", box, 60) for box in (b"one", b"two", b"three")]
    await kept.hears(MailNotice("bob"))
    boxes = await kept.store.mail_for("bob", 0, 10)
    assert [(one.mail, one.sender, one.box) for one in boxes] == [
        (number, "alice", box) for number, box in zip(numbers, (b"one", b"two", b"three"), strict=True)
    ]
    assert abs(boxes[0].sent_at - boxes[2].sent_at) <= 5
    assert [one.mail for one in await kept.store.mail_for("bob", numbers[0], 1)] == [numbers[1]]
    await kept.store.take("carol", numbers)
    await kept.store.take("bob", numbers[:2])
    await kept.store.take("bob", numbers[:2])
    assert [one.box for one in await kept.store.mail_for("bob", 0, 10)] == [b"three"]


async def test_a_mailbox_and_a_senders_share_of_it_are_bounded(kept: Open) -> None:
    for _ in range(3):
        await kept.store.post("alice", "bob", b"x", 60)
    assert (await refusal(kept.store.post("alice", "bob", b"x", 60))).code == "quota"
    first = await kept.store.post("carol", "bob", b"x", 60)
    assert (await refusal(kept.store.post("carol", "bob", b"x", 60))).code == "quota"
    await kept.store.take("bob", [first])
    assert (await refusal(kept.store.post("carol", "bob", b"x" * 1000, 60))).code == "quota"
    await kept.store.post("carol", "bob", b"x" * 997, 60)


async def test_what_one_peer_leaves_in_all_mailboxes_is_bounded(kept: Open) -> None:
    for number in range(5):
        await kept.store.post("alice", f"peer {number}", b"x", 60)
    assert (await refusal(kept.store.post("alice", "peer 5", b"x", 60))).code == "quota"
    await kept.store.post("bob", "peer 5", b"x", 60)


async def test_all_mail_together_is_bounded(kept: Open) -> None:
    for number in range(10):
        await kept.store.post(f"sender {number}", f"peer {number}", b"x" * 999, 60)
    assert (await refusal(kept.store.post("alice", "bob", b"x" * 999, 60))).code == "quota"


async def test_mail_that_nobody_took_in_time_is_gone(kept: Open) -> None:
    await kept.store.post("alice", "bob", b"late", 0)
    await kept.store.post("alice", "bob", b"in time", 60)
    assert [one.box for one in await kept.store.mail_for("bob", 0, 10)] == [b"in time"]
    for _ in range(5):
        await kept.store.post("alice", "carol", b"late", 0)
        await kept.store.sweep()
    assert [one.box for one in await kept.store.mail_for("bob", 0, 10)] == [b"in time"]


async def test_peers_that_post_to_one_mailbox_at_once_do_not_pass_its_limit(kept: Open) -> None:
    posts = [kept.store.post(f"sender {number}", "bob", b"x", 60) for number in range(20)]
    results = await asyncio.gather(*posts, return_exceptions=True)
    assert sum(isinstance(one, int) for one in results) == 4
    assert {type(one) for one in results} == {int, HubError}


async def test_positions_of_one_namespace_are_seen_in_their_order(hub_dsn: str) -> None:
    """A reader that goes on after the last position it saw misses nobody, whoever commits first."""
    stores = [PostgresStore(hub_dsn, HubLimits()) for _ in range(2)]
    for store in stores:
        await store.open("ws://127.0.0.1:1", lambda _: None, lambda: None)
    seen: dict[str, int] = {}

    async def read(enough: int) -> None:
        cookie = 0
        while len(seen) < enough:
            for one in await stores[0].discover("n", cookie, 50):
                seen[one.peer_id] = cookie = one.position
            await asyncio.sleep(0)

    async def write(store: PostgresStore, who: str) -> None:
        for number in range(60):
            await store.register("n", f"{who} {number}", 1, b"r", 60)

    try:
        async with asyncio.timeout(30):
            await asyncio.gather(
                read(240), *(write(store, f"{id(store)}{k}") for store in stores for k in "ab")
            )
    finally:
        for store in stores:
            await store.close()
    assert list(seen.values()) == sorted(seen.values())


async def test_a_database_that_cannot_be_reached_is_said_so(tmp_path) -> None:  # noqa: ANN001
    store = PostgresStore(f"postgresql://nobody@/none?host={tmp_path}", HubLimits())
    with pytest.raises(StoreError) as caught:
        await store.open("ws://127.0.0.1:1", lambda _: None, lambda: None)
    assert caught.value.remedy
    assert (await refusal(store.discover("n", 0, 1))).code == "internal"


async def test_the_schema_follows_the_rules_of_the_house_and_is_made_once(hub_dsn: str) -> None:
    first = await asyncio.to_thread(install_schema, hub_dsn)
    assert await asyncio.to_thread(install_schema, hub_dsn) == first
    silent_functions = """
        SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'hub'::regnamespace
           AND (obj_description(p.oid, 'pg_proc') IS NULL OR p.prosecdef
                OR p.proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}')"""
    silent_relations = """
        SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'hub'::regnamespace
           AND c.relkind = 'r' AND obj_description(c.oid, 'pg_class') IS NULL"""
    strangers = "SELECT has_schema_privilege('public', 'hub', 'USAGE')"
    with psycopg.connect(hub_dsn) as connection:
        assert connection.execute(silent_functions).fetchall() == []
        assert connection.execute(silent_relations).fetchall() == []
        assert connection.execute(strangers).fetchone() == (False,)
        count = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'hub'::regnamespace"
        row = connection.execute(count).fetchone()
        assert row is not None
        assert row[0] >= 8


async def test_processes_that_start_at_once_make_one_schema(hub_dsn: str) -> None:
    ids = await asyncio.gather(*(asyncio.to_thread(install_schema, hub_dsn) for _ in range(4)))
    assert len(set(ids)) == 1
