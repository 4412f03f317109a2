"""What one peer sends, checked on a real database; the peer is played by the test."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.signature import sign_commit
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.protocol import events
from pgpeer.store import state
from pgpeer.store.database import Connection
from pgpeer.transport.memory import memory_pair
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.exchange import Exchange
from pgpeer.worker.merger import Merger
from pgpeer.worker.office import Connections, Office
from pgpeer.worker.sealer import Sealer
from pgpeer.worker.signer import Signer

MALLORY = PrivateKey.from_seed(b"m" * 32)


@dataclass
class Desk:
    """A worker's office on a real database, and a peer that the test plays."""

    database: Database
    sql: psycopg.Connection
    office: Office
    peer: Conversation
    exchange: Exchange
    running: asyncio.Task[None]
    bundle_id: UUID

    def one(self, query: str, *arguments: object) -> Any:
        row = self.sql.execute(query.encode(), arguments or None).fetchone()
        assert row is not None
        return row[0]

    async def until(self, query: str) -> None:
        async with asyncio.timeout(10):
            while not self.one(query):  # noqa: ASYNC110 - the database does not call back
                await asyncio.sleep(0.02)

    async def hear(self, kind: type[events.Event]) -> Any:
        """The next event of a kind at the peer."""
        async with asyncio.timeout(10):
            while True:
                event = await self.peer.events.get()
                if isinstance(event, kind):
                    return event

    def craft(self, name: str, row: int = 1) -> tuple[Header, bytes]:
        """An update of a city's name as the peer would commit it: header and section."""
        relation_id = self.one("SELECT relation_id FROM peer_internal.relation")
        column_id = self.one("SELECT column_id FROM peer_internal.relation_column WHERE name = 'name'")
        head = bytes(self.one("SELECT digest FROM peer_internal.commit ORDER BY position LIMIT 1"))
        hlc = self.one("SELECT max(hlc) + 1 FROM peer_internal.commit")
        schema = bytes(self.one("SELECT schema_fingerprint FROM peer_internal.commit LIMIT 1"))
        data = f"{row}\t{name}\n".encode()
        section = SectionHeader(
            relation_id, "UPDATE", (column_id,), 1, len(data), hashlib.sha256(data).digest()
        )
        header = Header(
            self.bundle_id, MALLORY.public_key, 7, 1, None, (head,), hlc, schema, None, (section,)
        )
        return header, data

    async def send(self, header: Header, *sections: bytes, signature: bytes | None = None) -> None:
        encoded = header.encode()
        await self.peer.send_commit(self.bundle_id, encoded, signature or sign_commit(MALLORY, header.digest))
        for number, data in enumerate(sections, start=1):
            await self.peer.send_section(self.bundle_id, header.digest, number, data)

    async def refused(self) -> events.SessionClosed:
        """Wait for the end of the link, and check that nothing of the peer was taken."""
        async with asyncio.timeout(10):
            await self.running
        assert self.one("SELECT count(*) FROM peer_internal.commit") == 1
        assert self.one("SELECT name FROM public.city WHERE id = 1") == "city 1"
        assert self.one("SELECT count(*) FROM peer.event WHERE kind = 'peer-failed'") == 1
        assert self.exchange.closed is not None
        return self.exchange.closed


@pytest.fixture
async def desk(make_database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Desk]:
    database = make_database("ann")
    sql = database.connect()
    sql.execute("CREATE TABLE public.city (id int PRIMARY KEY, name text, population int)")
    sql.execute("INSERT INTO public.city SELECT n, 'city ' || n, n FROM generate_series(1, 20000) AS n")
    row = sql.execute("SELECT peer.create_bundle('atlas')").fetchone()
    assert row is not None
    sql.execute("SELECT peer.track('atlas', 'public.city')")
    sql.execute("SELECT peer_internal.add_member(%s, %s, 'writer')", [row[0], MALLORY.public_key])
    identity = IdentityFile(tmp_path / "identity.json")
    identity.create(database.key)
    async with AsyncExitStack() as stack:
        held = stack.enter_context(identity.hold())
        opened = [await Connection.open(database.dsn) for _ in range(6)]
        for connection in opened:
            stack.push_async_callback(connection.close)
        office = Office(held, 1, Connections(*opened))
        signer = Signer(held, opened[1], office.publish, office.dating.may_sign)
        office.sealer = Sealer(opened[1], signer, office)
        office.merger = Merger(opened[2], opened[3], signer, office.reporter, office.settled)
        standing = await state.begin(opened[0])
        office.epoch = standing.epoch
        await signer.sign_pending(row[0])
        await office.look()
        here, there = memory_pair()
        exchange = Exchange(
            office, Conversation(here, database.key, "answerer", expected_peer_id=MALLORY.peer_id), "incoming"
        )
        peer = Conversation(there, MALLORY, "offerer", expected_peer_id=database.peer_id, label="mallory")
        peer.start()
        loop = asyncio.get_running_loop()
        running = loop.create_task(exchange.run())
        merging = loop.create_task(office.merger.run())
        assert await exchange.authenticated
        office.exchanges[MALLORY.peer_id] = exchange
        made = Desk(database, sql, office, peer, exchange, running, row[0])
        await made.hear(events.VectorReceived)
        yield made
        await exchange.close("over")
        await peer.close()
        await running
        merging.cancel()
        await asyncio.wait([merging])


async def test_a_good_commit_is_merged_and_acknowledged(desk: Desk) -> None:
    header, data = desk.craft("Rome")
    await desk.send(header, data)
    await desk.until("SELECT name = 'Rome' FROM public.city WHERE id = 1")
    while True:
        acknowledged = await desk.hear(events.AcknowledgementReceived)
        if header.digest in {entry.head for entry in acknowledged.entries}:
            return


async def test_a_commit_is_not_sent_back_to_whom_it_came_from(desk: Desk) -> None:
    await desk.peer.send_vector(desk.bundle_id, [])
    assert isinstance(await desk.hear(events.CommitReceived), events.CommitReceived)
    header, data = desk.craft("Rome")
    await desk.send(header, data)
    await desk.until("SELECT name = 'Rome' FROM public.city WHERE id = 1")
    desk.sql.execute("UPDATE public.city SET name = 'Paris' WHERE id = 2")
    await desk.office.look()
    sealing = asyncio.create_task(desk.office.sealer.run())
    following = await desk.hear(events.CommitReceived)
    assert Header.decode(following.header).author == desk.database.key.public_key
    desk.office.sealer.stop()
    await sealing


async def test_a_badly_signed_commit_ends_the_link_and_changes_nothing(desk: Desk) -> None:
    header, data = desk.craft("Rome")
    await desk.send(header, data, signature=bytes(64))
    assert (await desk.refused()).code == "bad_signature"


async def test_a_commit_of_another_bundle_is_refused(desk: Desk) -> None:
    header, data = desk.craft("Rome")
    await desk.send(replace(header, bundle_id=uuid4()), data)
    assert (await desk.refused()).code == "bad_message"


async def test_a_bundle_that_is_not_shared_is_refused(desk: Desk) -> None:
    header, _ = desk.craft("Rome")
    await desk.peer.send_commit(uuid4(), header.encode(), sign_commit(MALLORY, header.digest))
    assert (await desk.refused()).code == "refused_policy"


async def test_a_section_that_was_changed_is_refused(desk: Desk) -> None:
    header, data = desk.craft("Rome")
    await desk.send(header, data.replace(b"Rome", b"Bern"))
    assert (await desk.refused()).code == "bad_message"


async def test_a_section_without_its_commit_is_refused(desk: Desk) -> None:
    await desk.peer.send_section(desk.bundle_id, bytes(32), 1, b"1\tRome\n")
    assert (await desk.refused()).code == "bad_message"


async def test_bytes_that_are_no_header_are_refused(desk: Desk) -> None:
    await desk.peer.send_commit(desk.bundle_id, b"\xa0", bytes(64))
    assert (await desk.refused()).code == "bad_message"


async def test_a_section_that_is_no_text_is_refused(desk: Desk) -> None:
    header, _ = desk.craft("Rome")
    data = b"1\tR\xffme\n"
    section = replace(header.sections[0], byte_count=len(data), digest=hashlib.sha256(data).digest())
    await desk.send(replace(header, sections=(section,)), data)
    assert (await desk.refused()).code == "bad_message"


async def test_what_a_large_commit_has_already_brought_is_not_asked_for_again(desk: Desk) -> None:
    rows = 20_000
    parts = [
        "".join(f"{n}\t{'long name ' * 20}{n}\n" for n in sorted(map(str, range(first, last))))
        for first, last in ((1, rows // 2), (rows // 2, rows + 1))
    ]
    data = [part.encode() for part in parts]
    header, _ = desk.craft("")
    template = header.sections[0]
    sections = tuple(
        replace(
            template,
            row_count=part.count(b"\n"),
            byte_count=len(part),
            digest=hashlib.sha256(part).digest(),
        )
        for part in data
    )
    header = replace(header, sections=sections)
    await desk.send(header, data[0])
    await desk.until("SELECT count(data) = 1 FROM peer_internal.section WHERE op = 'UPDATE'")
    assert desk.one(
        "SELECT array_agg(section_nos::text) FROM peer_internal.worker_incomplete(%s)", desk.bundle_id
    ) == ["{1}"]
    await desk.peer.send_section(desk.bundle_id, header.digest, 2, data[1])
    await desk.until("SELECT name LIKE 'long name%' FROM public.city WHERE id = 15000")
