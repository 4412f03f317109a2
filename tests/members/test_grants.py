"""Roles from SQL to signed grants and back, on real databases; the worker's part is the registry itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.errors import IdentityError
from pgpeer.identity.grant import sign_grant
from pgpeer.identity.key import PrivateKey
from pgpeer.store import members
from pgpeer.store.database import Connection
from pgpeer.worker.registry import Registry, readable
from pgpeer.worker.reporter import Reporter

from .cast import key_of, peer


@dataclass
class Desk:
    """A database that shares the bundle `shelf`, its registry, and a session of its people."""

    database: Database
    connection: Connection
    registry: Registry
    people: psycopg.Connection
    bundle_id: UUID

    @property
    def peer_id(self) -> str:
        return self.database.peer_id

    def value(self, statement: str, *values: object) -> object:
        row = self.people.execute(statement.encode(), values or None).fetchone()
        return None if row is None else row[0]

    def roles(self) -> dict[str, str]:
        rows = self.people.execute("SELECT peer_id, role, state FROM peer.member").fetchall()
        return {peer_id: role if state == "active" else state for peer_id, role, state in rows}

    def events(self, kind: str) -> list[str]:
        query = "SELECT peer_id FROM peer.event WHERE kind = %s ORDER BY id"
        return [row[0] for row in self.people.execute(query, [kind])]

    async def tell(self, other: Desk) -> bool:
        creator, records = await self.registry.known(self.bundle_id)
        return await other.registry.take(self.bundle_id, creator, records, self.peer_id)

    def admit(self, key: PrivateKey, role: str) -> None:
        """What an invite does when it is used."""
        self.value("SELECT peer_internal.add_member(%s, %s, %s)", self.bundle_id, key.public_key, role)
        self.value("SELECT peer_internal.request_role(%s, %s, %s)", self.bundle_id, key.public_key, role)


MakeDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def make_desk(make_database: Callable[..., Database]) -> AsyncIterator[MakeDesk]:
    opened: list[Connection] = []

    async def make(name: str, of: Desk | None = None) -> Desk:
        database = make_database(name)
        people = database.connect()
        connection = await Connection.open(database.dsn)
        opened.append(connection)
        if of is None:
            row = people.execute("SELECT peer.create_bundle('shelf')").fetchone()
            assert row is not None
            bundle_id = row[0]
        else:
            bundle_id = of.bundle_id
            people.execute("SELECT peer_internal.adopt_bundle(%s, 'shelf', 'auto')", [bundle_id])
            people.execute(
                "INSERT INTO peer_internal.join_request (invite_id, bundle_id, bundle_name, inviter_key, hubs, expires_at, state)"
                " VALUES (gen_random_uuid(), %s, 'shelf', %s, '{}', now(), 'joined')",
                [bundle_id, of.database.key.public_key],
            )
        return Desk(
            database, connection, Registry(database.key, connection, Reporter(connection)), people, bundle_id
        )

    yield make
    for connection in opened:
        await connection.close()


def refusal(desk: Desk, statement: str, *values: object) -> str:
    with pytest.raises(psycopg.Error) as caught:
        desk.value(statement, *values)
    assert caught.value.diag.message_hint
    return caught.value.sqlstate or ""


async def test_whoever_made_the_bundle_is_its_admin_and_what_it_grants_reaches_others(
    make_desk: MakeDesk,
) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "writer")
    assert await ann.registry.sign_requests() == {ann.bundle_id}
    assert ann.roles() == {ann.peer_id: "admin", bob.peer_id: "writer"}
    assert await ann.tell(bob)
    assert bob.roles() == ann.roles()
    assert not await ann.tell(bob), "nothing is new"
    ann.value("SELECT peer.set_role('shelf', %s, 'reader')", bob.peer_id)
    assert ann.roles()[bob.peer_id] == "writer", "not before it is signed"
    assert await ann.registry.sign_requests() == {ann.bundle_id}
    await ann.tell(bob)
    assert bob.roles()[bob.peer_id] == "reader"
    assert bob.events("role-changed") == [bob.peer_id]
    ann.value("SELECT peer.remove_member('shelf', %s)", bob.peer_id)
    await ann.registry.sign_requests()
    await ann.tell(bob)
    assert bob.roles()[bob.peer_id] == "removed"
    assert ann.events("member-removed") == [bob.peer_id]
    assert ann.value("SELECT peer_internal.may_connect(%s)", bob.peer_id) == "refused"


async def test_a_writer_admits_and_the_admission_goes_back_to_the_creator(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "writer")
    await ann.registry.sign_requests()
    await ann.tell(bob)
    bob.admit(key_of("cid"), "writer")
    await bob.registry.sign_requests()
    await bob.tell(ann)
    assert ann.roles()[peer("cid")] == "writer"
    assert bob.roles() == ann.roles()


async def test_who_may_not_invite_is_told_so_and_by_whom_it_can_be_done(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    for desk in (ann, bob):
        desk.value("INSERT INTO peer.hub (url) VALUES ('ws://127.0.0.1:9') RETURNING id")
    ann.admit(bob.database.key, "writer")
    await ann.registry.sign_requests()
    await ann.tell(bob)
    assert str(ann.value("SELECT peer.invite('shelf', 'admin')")).startswith("pgpeer://")
    assert str(bob.value("SELECT peer.invite('shelf', 'reader')")).startswith("pgpeer://")
    with pytest.raises(
        psycopg.Error, match="a writer of bundle 'shelf' may not invite anybody as admin"
    ) as caught:
        bob.value("SELECT peer.invite('shelf', 'admin')")
    assert caught.value.sqlstate == "PGI09"
    assert ann.peer_id in (caught.value.diag.message_detail or "")
    assert "Invite as 'writer'" in (caught.value.diag.message_hint or "")
    for change, who in (
        ("set_role('shelf', %s, 'reader')", "a reader"),
        ("remove_member('shelf', %s)", "a former member"),
    ):
        ann.value(f"SELECT peer.{change}", bob.peer_id)
        await ann.registry.sign_requests()
        await ann.tell(bob)
        with pytest.raises(psycopg.Error, match=f"{who} of bundle 'shelf' may not invite") as caught:
            bob.value("SELECT peer.invite('shelf', 'reader')")
        assert caught.value.sqlstate == "PGI09"
        assert caught.value.diag.message_hint
    assert bob.value("SELECT count(*) FROM peer_internal.invite") == 1, "what was refused left nothing"


async def test_what_an_invite_may_not_give_is_not_signed_and_does_not_last(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "reader")
    await ann.registry.sign_requests()
    await ann.tell(bob)
    bob.admit(key_of("cid"), "writer")
    assert bob.roles()[peer("cid")] == "writer"
    assert await bob.registry.sign_requests() == set()
    assert bob.roles()[peer("cid")] == "removed"
    assert bob.value("SELECT count(*) FROM peer_internal.bundle_grant") == 1
    assert bob.value("SELECT count(*) FROM peer_internal.grant_request") == 0


async def test_only_admins_change_roles(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "writer")
    ann.admit(key_of("cid"), "writer")
    await ann.registry.sign_requests()
    await ann.tell(bob)
    assert refusal(bob, "SELECT peer.set_role('shelf', %s, 'reader')", peer("cid")) == "PGF02"
    assert refusal(bob, "SELECT peer.remove_member('shelf', %s)", ann.peer_id) == "PGF02"
    assert refusal(ann, "SELECT peer.set_role('shelf', %s, 'king')", peer("cid")) == "PGI02"
    assert refusal(ann, "SELECT peer.set_role('shelf', %s, 'writer')", peer("eve")) == "PGF04"
    assert refusal(ann, "SELECT peer.set_role('shelf', 'eve', 'writer')") == "PGF01"
    assert refusal(ann, "SELECT peer.set_role('none', %s, 'writer')", peer("cid")) == "PGB01"
    assert refusal(ann, "SELECT peer.remove_member('shelf', %s)", ann.peer_id) == "PGF03"
    ann.value("SELECT peer.set_role('shelf', %s, 'admin')", bob.peer_id)
    await ann.registry.sign_requests()
    ann.value("SELECT peer.remove_member('shelf', %s)", ann.peer_id)
    await ann.registry.sign_requests()
    await ann.tell(bob)
    assert bob.roles()[ann.peer_id] == "removed"
    bob.value("SELECT peer.set_role('shelf', %s, 'reader')", peer("cid"))
    await bob.registry.sign_requests()
    assert bob.roles()[peer("cid")] == "reader"


async def test_a_request_that_is_taken_back_is_not_signed(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    ann.admit(key_of("cid"), "writer")
    await ann.registry.sign_requests()
    ann.value("SELECT peer.remove_member('shelf', %s)", peer("cid"))
    ann.value("SELECT peer.set_role('shelf', %s, 'writer')", peer("cid"))
    assert await ann.registry.sign_requests() == set()
    assert ann.roles()[peer("cid")] == "writer"


async def test_hearsay_is_no_membership_once_there_are_grants(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    ann.value("SELECT peer_internal.add_member(%s, %s, 'admin')", ann.bundle_id, key_of("eve").public_key)
    ann.admit(key_of("cid"), "writer")
    await ann.registry.sign_requests()
    assert ann.roles() == {ann.peer_id: "admin", peer("cid"): "writer", peer("eve"): "removed"}


async def test_without_grants_a_writers_word_adds_members_with_its_own_rights_at_most(
    make_desk: MakeDesk,
) -> None:
    ann = await make_desk("ann")
    ann.value("SELECT peer_internal.add_member(%s, %s, 'writer')", ann.bundle_id, key_of("bob").public_key)
    told = "SELECT peer_internal.worker_members_told(%s, %s, ARRAY[%s, %s], ARRAY['admin', 'reader'])"
    words = (ann.bundle_id, peer("bob"), peer("cid"), peer("bob"))
    assert ann.value(told, *words) == 1
    assert ann.roles() == {peer("bob"): "writer", peer("cid"): "writer"}
    ann.admit(key_of("dora"), "writer")
    await ann.registry.sign_requests()
    assert ann.value(told, ann.bundle_id, peer("dora"), peer("eve"), peer("finn")) == 0


async def test_forged_foreign_or_countless_grants_are_refused(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "writer")
    await ann.registry.sign_requests()
    await ann.tell(bob)
    before = bob.roles()
    eve = key_of("eve")
    good = sign_grant(eve, bob.bundle_id, peer("eve"), "admin", 1)
    forged = bytearray(good.record)
    forged[-2] ^= 1
    foreign = sign_grant(ann.database.key, UUID(int=9), peer("eve"), "admin", 1)
    with pytest.raises(IdentityError):
        await bob.registry.take(bob.bundle_id, None, [bytes(forged)], "eve")
    with pytest.raises(IdentityError) as caught:
        await bob.registry.take(bob.bundle_id, None, [foreign.record], "eve")
    assert caught.value.code == "bad_message"
    assert await bob.registry.take(bob.bundle_id, peer("eve"), [good.record], peer("eve")), "stored"
    assert bob.roles() == before, "it counts for nothing, and the root of trust stays"
    monkeypatch.setattr(members, "GRANTS_LIMIT", 3)
    flood = [sign_grant(eve, bob.bundle_id, peer(str(n)), "writer", n).record for n in range(2, 6)]
    with pytest.raises(IdentityError) as caught:
        await bob.registry.take(bob.bundle_id, None, flood, peer("eve"))
    assert caught.value.code == "quota"
    assert bob.value("SELECT count(*) FROM peer_internal.bundle_grant") == 3
    assert bob.roles() == before
    for bad in ("x", [1], ["zz"], ["00"] * 257):
        with pytest.raises(IdentityError):
            readable(bad)


async def test_a_key_that_gave_two_grants_with_one_number_is_reported(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    bob = await make_desk("bob", ann)
    ann.admit(bob.database.key, "writer")
    await ann.registry.sign_requests()
    (first,) = await members.grants(ann.connection, ann.bundle_id)
    twins = [
        sign_grant(ann.database.key, ann.bundle_id, peer(name), "writer", 2, [first.digest])
        for name in ("cid", "dora")
    ]
    await bob.registry.take(
        bob.bundle_id, ann.peer_id, [first.record, *(one.record for one in twins)], ann.peer_id
    )
    assert bob.value("SELECT count(*) FROM peer.problem WHERE kind = 'key_copied'") == 1
    assert {bob.roles()[peer(name)] for name in ("cid", "dora")} == {"writer"}


async def test_the_removing_admin_vouches_for_what_it_has_merged(make_desk: MakeDesk) -> None:
    ann = await make_desk("ann")
    ann.admit(key_of("cid"), "writer")
    await ann.registry.sign_requests()
    ann.value("SELECT peer.remove_member('shelf', %s)", peer("cid"))
    (request,) = await members.grant_requests(ann.connection)
    assert (request.role, request.subject, request.creator) == ("removed", peer("cid"), ann.peer_id)
    assert request.fence == ()
