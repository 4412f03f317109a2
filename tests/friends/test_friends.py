"""Friends on real databases: what people ask for here, what the other side says, and who may connect."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import read_notice, sign_notice
from pgpeer.identity.record import record_digest

MakeDatabase = Callable[..., Database]


def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


class Person:
    """One database, and what its worker does with notices."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.key = database.key
        self.connection = database.connect()

    @property
    def peer_id(self) -> str:
        return self.key.peer_id

    def value(self, statement: str, *values: object) -> object:
        row = self.connection.execute(statement.encode(), values).fetchone()
        return None if row is None else row[0]

    def state(self, other: str) -> tuple[str, bool] | None:
        return self.connection.execute(
            "SELECT state, is_incoming FROM peer.friend WHERE peer_id = %s", [other]
        ).fetchone()

    def events(self) -> list[str]:
        return [row[0] for row in self.connection.execute("SELECT kind FROM peer.event ORDER BY id")]

    def outgoing(self, recipient: str) -> list[bytes]:
        """Sign what a peer shall be told, and take it as told."""
        rows = self.connection.execute("SELECT * FROM peer_internal.friend_notices()").fetchall()
        records = []
        for number, peer_id, kind, subject, note, label in rows:
            if peer_id == recipient:
                records.append(
                    sign_notice(
                        self.key,
                        peer_id,
                        kind,
                        number,
                        label=label or "",
                        note=note or "",
                        subject=subject or "",
                    )
                )
                self.value("SELECT peer_internal.friend_told(%s)", number)
        return records

    def hear(self, record: bytes) -> object:
        notice = read_notice(record, recipient=self.peer_id)
        if notice.kind == "introduce":
            return self.value(
                "SELECT peer_internal.hear_introduction(%s, %s, %s, %s, %s, %s)",
                notice.sender,
                notice.seq,
                notice.subject,
                notice.label,
                notice.note,
                record,
            )
        return self.value(
            "SELECT peer_internal.hear_friend(%s, %s, %s, %s, %s, %s)",
            notice.sender,
            notice.seq,
            record_digest(record),
            notice.kind,
            notice.label,
            notice.note,
        )


def exchange(*people: Person) -> None:
    """Deliver everything until nobody has anything to say."""
    while True:
        said = [
            (other, record) for one in people for other in people for record in one.outgoing(other.peer_id)
        ]
        if not said:
            return
        for other, record in said:
            other.hear(record)


@pytest.fixture
def people(make_database: MakeDatabase) -> Callable[[str], list[Person]]:
    return lambda names: [Person(make_database(name)) for name in names.split()]


People = Callable[[str], list[Person]]


def refusal(person: Person, statement: str, *values: object) -> str:
    with pytest.raises(psycopg.Error) as caught:
        person.value(statement, *values)
    assert caught.value.diag.message_hint
    return caught.value.sqlstate or ""


def befriended(ann: Person, bob: Person) -> None:
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    exchange(ann, bob)
    bob.value("SELECT peer.accept(%s)", ann.peer_id)
    exchange(ann, bob)
    assert ann.state(bob.peer_id) == ("accepted", False)


def test_a_request_that_is_accepted_makes_both_friends(people: People) -> None:
    ann, bob = people("ann bob")
    ann.value("SELECT peer.befriend(%s, %s)", bob.peer_id, "from the clinic")
    assert ann.state(bob.peer_id) == ("requested", False)
    exchange(ann, bob)
    assert bob.state(ann.peer_id) == ("requested", True)
    assert bob.value("SELECT note || '/' || label FROM peer.friend") == "from the clinic/ann"
    assert bob.events() == ["friend-requested"]
    bob.value("SELECT peer.accept(%s)", ann.peer_id)
    exchange(ann, bob)
    assert ann.state(bob.peer_id) == ("accepted", False)
    assert bob.state(ann.peer_id) == ("accepted", True)
    assert ann.events() == ["friend-accepted"]


def test_two_that_ask_each_other_are_friends_at_once(people: People) -> None:
    ann, bob = people("ann bob")
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    bob.value("SELECT peer.befriend(%s)", ann.peer_id)
    exchange(ann, bob)
    assert ann.state(bob.peer_id) == bob.state(ann.peer_id) == ("accepted", False)


def test_befriend_answers_a_request(people: People) -> None:
    ann, bob = people("ann bob")
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    exchange(ann, bob)
    bob.value("SELECT peer.befriend(%s)", ann.peer_id)
    exchange(ann, bob)
    assert ann.state(bob.peer_id) == ("accepted", False)


def test_unfriend_ends_it_on_both_sides(people: People) -> None:
    ann, bob = people("ann bob")
    befriended(ann, bob)
    ann.value("SELECT peer.unfriend(%s)", bob.peer_id)
    exchange(ann, bob)
    assert ann.state(bob.peer_id) is None
    assert bob.state(ann.peer_id) is None
    assert bob.events()[-1] == "friend-ended"


def test_a_blocked_peer_changes_nothing_and_learns_nothing(people: People) -> None:
    ann, bob = people("ann bob")
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    bob.value("SELECT peer.block(%s)", ann.peer_id)
    exchange(ann, bob)
    assert bob.state(ann.peer_id) == ("blocked", False)
    assert bob.events() == []
    assert ann.state(bob.peer_id) == ("requested", False)
    bob.value("SELECT peer.unfriend(%s)", ann.peer_id)
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    exchange(ann, bob)
    assert bob.state(ann.peer_id) == ("requested", True), "the block was lifted"


def test_an_older_notice_that_comes_again_changes_nothing(people: People) -> None:
    ann, bob = people("ann bob")
    ann.value("SELECT peer.befriend(%s)", bob.peer_id)
    (request,) = ann.outgoing(bob.peer_id)
    assert bob.hear(request) == "friend-requested"
    assert bob.hear(request) == "known"
    ann.value("SELECT peer.unfriend(%s)", bob.peer_id)
    (end,) = ann.outgoing(bob.peer_id)
    assert bob.hear(end) == "friend-ended"
    assert bob.hear(request) == "replay"
    assert bob.state(ann.peer_id) is None
    twin = sign_notice(ann.key, bob.peer_id, "request", read_notice(end, recipient=bob.peer_id).seq)
    assert bob.hear(twin) == "equivocation"
    assert bob.state(ann.peer_id) is None


def test_nobody_becomes_a_friend_by_an_answer_that_was_not_asked_for(people: People) -> None:
    ann, bob = people("ann bob")
    assert bob.hear(sign_notice(ann.key, bob.peer_id, "accept", 1)) == "ignored"
    assert bob.state(ann.peer_id) is None
    bob.hear(sign_notice(ann.key, bob.peer_id, "request", 2))
    assert bob.hear(sign_notice(ann.key, bob.peer_id, "accept", 3)) == "ignored"
    assert bob.state(ann.peer_id) == ("requested", True), "who asks cannot accept in the other's place"


def test_an_introduction_is_a_suggestion_to_both(people: People) -> None:
    ann, bob, cid = people("ann bob cid")
    befriended(ann, bob)
    befriended(ann, cid)
    ann.value("SELECT peer.introduce(%s, %s, 'you both have clinics')", bob.peer_id, cid.peer_id)
    exchange(ann, bob, cid)
    assert bob.state(cid.peer_id) is None, "nothing follows by itself"
    assert bob.value("SELECT peer_id FROM peer.suggestion") == cid.peer_id
    assert cid.value("SELECT introduced_by FROM peer.suggestion") == ann.peer_id
    assert cid.events()[-1] == "friend-suggested"
    bob.value("SELECT peer.befriend(%s)", cid.peer_id)
    cid.value("SELECT peer.befriend(%s)", bob.peer_id)
    exchange(ann, bob, cid)
    assert bob.state(cid.peer_id) == ("accepted", False)
    assert bob.value("SELECT count(*) FROM peer.suggestion") == 0


@pytest.mark.parametrize("how", ["unfriend", "block"])
def test_removal_wins_over_an_introduction(people: People, how: str) -> None:
    ann, bob, cid = people("ann bob cid")
    befriended(ann, bob)
    befriended(ann, cid)
    bob.value(f"SELECT peer.{how}(%s)", cid.peer_id)
    ann.value("SELECT peer.introduce(%s, %s)", bob.peer_id, cid.peer_id)
    exchange(ann, bob, cid)
    assert bob.value("SELECT count(*) FROM peer.suggestion") == 0
    if how == "unfriend":
        bob.value("SELECT peer.befriend(%s)", cid.peer_id)
        bob.value("DELETE FROM peer.friend WHERE peer_id = %s RETURNING 1", cid.peer_id)
        ann.value("SELECT peer.introduce(%s, %s)", bob.peer_id, cid.peer_id)
        exchange(ann, bob, cid)
        assert bob.value("SELECT count(*) FROM peer.suggestion") == 1, "people here asked for it again"


def test_only_friends_are_believed_when_they_introduce(people: People) -> None:
    ann, bob = people("ann bob")
    record = sign_notice(ann.key, bob.peer_id, "introduce", 1, subject=key_of("eve").peer_id)
    assert bob.hear(record) == "ignored"
    befriended(ann, bob)
    assert bob.hear(record) == "friend-suggested"
    assert bob.hear(record) == "replay"
    ann.value("SELECT peer.unfriend(%s)", bob.peer_id)
    bob.value("SELECT peer.unfriend(%s)", ann.peer_id)
    assert bob.value("SELECT count(*) FROM peer.suggestion") == 0, "with the friend go its suggestions"


@pytest.mark.parametrize(
    ("accept", "rights"),
    [
        ("invited", {"friend": "refused", "stranger": "refused"}),
        ("friends", {"friend": "friend", "stranger": "refused"}),
        ("open", {"friend": "friend", "stranger": "open"}),
    ],
)
def test_the_policy_says_who_may_connect(people: People, accept: str, rights: dict[str, str]) -> None:
    (ann,) = people("ann")
    ann.value("UPDATE peer.config SET accept = %s RETURNING 1", accept)
    ann.value("INSERT INTO peer.hub (url) VALUES ('ws://127.0.0.1:1') RETURNING 1")
    bundle = ann.value("SELECT peer.create_bundle('shelf')")
    member, friend, stranger, blocked, removed = (
        key_of(name) for name in ("member", "friend", "stranger", "blocked", "removed")
    )
    for key in (member, blocked, removed):
        ann.value("SELECT peer_internal.add_member(%s, %s, 'writer')", bundle, key.public_key)
    ann.value(
        "UPDATE peer_internal.member SET state = 'removed' WHERE author_id = peer_internal.author_id(%s) RETURNING 1",
        removed.public_key,
    )
    ann.value("SELECT peer.befriend(%s)", friend.peer_id)
    assert ann.value("SELECT peer_internal.may_connect(%s)", friend.peer_id) == rights["stranger"], (
        "a request is no friendship yet"
    )
    ann.hear(sign_notice(friend, ann.peer_id, "accept", 1))
    ann.value("SELECT peer.block(%s)", blocked.peer_id)
    found = {
        name: ann.value("SELECT peer_internal.may_connect(%s)", key.peer_id)
        for name, key in (("friend", friend), ("stranger", stranger))
    }
    assert found == rights
    assert ann.value("SELECT peer_internal.may_connect(%s)", member.peer_id) == "member"
    assert ann.value("SELECT peer_internal.may_connect(%s)", blocked.peer_id) == "blocked"
    assert ann.value("SELECT peer_internal.may_connect(%s)", removed.peer_id) == rights["stranger"]
    ann.value("SELECT peer.invite('shelf')")
    assert ann.value("SELECT peer_internal.may_connect(%s)", stranger.peer_id) in ("invite", "open")
    assert ann.value("SELECT peer_internal.may_connect(%s)", blocked.peer_id) == "blocked"
    assert ann.value("SELECT peer_internal.may_connect('pg1nobody')") == "refused"


def test_bad_input_is_refused_with_a_remedy(people: People) -> None:
    (ann,) = people("ann")
    other = key_of("bob").peer_id
    assert refusal(ann, "SELECT peer.befriend(NULL)") == "PGF01"
    assert refusal(ann, "SELECT peer.befriend('bob')") == "PGF01"
    typo = other[:-1] + ("a" if other[-1] != "a" else "b")
    assert refusal(ann, "SELECT peer.befriend(%s)", typo) == "PGF01"
    assert refusal(ann, "SELECT peer.block(%s)", ann.peer_id) == "PGF05"
    assert refusal(ann, "SELECT peer.accept(%s)", other) == "PGF06"
    assert refusal(ann, "SELECT peer.befriend(%s, repeat('x', 501))", other) == "PGF07"
    assert refusal(ann, "SELECT peer.introduce(%s, %s)", other, key_of("cid").peer_id) == "PGF08"
    assert refusal(ann, "SELECT peer.add_address(%s, 'http://x')", other) == "PGF09"
    assert refusal(ann, "SELECT peer.add_address(%s, NULL)", other) == "PGF09"
