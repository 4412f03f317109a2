"""Seeking friends at a common friend: what is sent, what is refused, and who is paired with whom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.store.trust import Trust
from pgpeer.store.view import View
from pgpeer.worker.office import Office
from pgpeer.worker.records import Records
from pgpeer.worker.seeking import HASH_BYTES, SALT_BYTES, SOUGHT_LIMIT, Search

ANN, BOB, CID, FAY = (PrivateKey.from_seed(bytes([number]) * 32).peer_id for number in range(1, 5))
SALT = b"s" * SALT_BYTES


def test_a_question_is_understood_by_who_knows_the_same_peer_and_says_nothing_else() -> None:
    asked = Search.of(ANN, FAY, SALT, [BOB])
    read = Search.read(ANN, FAY, asked.payload())
    assert read == asked
    assert read.seeks(BOB)
    assert not read.seeks(CID)
    assert BOB not in str(asked.payload())
    assert Search.of(ANN, FAY, b"t" * SALT_BYTES, [BOB]).hashes.isdisjoint(asked.hashes)


def test_a_question_that_is_passed_on_is_worth_nothing() -> None:
    overheard = Search.of(ANN, FAY, SALT, [BOB]).payload()
    assert not Search.read(FAY, CID, overheard).seeks(BOB)
    assert not Search.read(CID, FAY, overheard).seeks(BOB)


HASH = "0" * 2 * HASH_BYTES


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "salt",
        {},
        {"salt": SALT.hex()},
        {"salt": SALT.hex(), "hashes": [], "more": 1},
        {"salt": 1, "hashes": []},
        {"salt": "", "hashes": []},
        {"salt": SALT.hex() + "00", "hashes": []},
        {"salt": "é" * 2 * SALT_BYTES, "hashes": []},
        {"salt": SALT.hex(), "hashes": HASH},
        {"salt": SALT.hex(), "hashes": {HASH: 1}},
        {"salt": SALT.hex(), "hashes": [HASH[:-2]]},
        {"salt": SALT.hex(), "hashes": [" " * len(HASH)]},
        {"salt": SALT.hex(), "hashes": [["0"] * 2 * HASH_BYTES]},
        {"salt": SALT.hex(), "hashes": [None]},
        {"salt": SALT.hex(), "hashes": [HASH] * (SOUGHT_LIMIT + 1)},
        {"salt": SALT.hex(), "hashes": ["0" * 1_000_000]},
    ],
    ids=lambda told: str(told)[:40],
)
def test_a_malformed_question_is_refused(told: object) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        Search.read(ANN, FAY, told)
    assert (refused.value.code, refused.value.phase) == ("bad_message", "sync")


class Desk:
    """The records of fay, who is linked with everybody."""

    def __init__(self, *friends: str, blocked: tuple[str, ...] = ()) -> None:
        self.woken: list[str] = []
        self.exchanges: dict[str, Any] = {}
        for one in (ANN, BOB, CID):
            self.link(one)
        office = SimpleNamespace(
            key=SimpleNamespace(peer_id=FAY),
            view=View(trust=Trust(friends=frozenset(friends), blocked=frozenset(blocked))),
            exchanges=self.exchanges,
        )
        self.records = Records(cast(Office, office))

    def link(self, peer_id: str) -> None:
        self.exchanges[peer_id] = SimpleNamespace(view_changed=lambda: self.woken.append(peer_id))

    def ask(self, seeker: str, *sought: str) -> None:
        self.records.heard_search(Search.of(seeker, FAY, SALT, sought))

    def sought(self) -> dict[str, set[str]]:
        found = {one: set(self.records.sought_by(one)) for one in (ANN, BOB, CID)}
        return {one: pairs for one, pairs in found.items() if pairs}


async def test_two_friends_that_seek_each_other_are_told_of_each_other_and_nobody_else_is() -> None:
    desk = Desk(ANN, BOB, CID)
    desk.ask(ANN, BOB, CID)
    desk.ask(CID, BOB)
    assert desk.sought() == {}, "ann seeks bob, and bob has asked for nobody"
    desk.ask(BOB, ANN)
    assert desk.sought() == {ANN: {BOB}, BOB: {ANN}}
    assert {ANN, BOB} <= set(desk.woken)
    desk.ask(BOB)  # it has ended the friendship
    assert desk.sought() == {}


async def test_who_is_no_friend_or_blocked_is_neither_told_nor_told_of() -> None:
    for desk in (Desk(ANN), Desk(BOB), Desk(ANN, BOB, blocked=(BOB,))):
        desk.ask(ANN, BOB)
        desk.ask(BOB, ANN)
        assert desk.sought() == {}


async def test_what_a_peer_asked_for_is_forgotten_when_its_link_is_over() -> None:
    desk = Desk(ANN, BOB, CID)
    desk.ask(ANN, BOB)
    desk.ask(BOB, ANN)
    del desk.exchanges[BOB]
    desk.ask(CID)
    assert desk.sought() == {}
    desk.link(BOB)
    desk.ask(BOB, ANN)
    assert desk.sought() == {ANN: {BOB}, BOB: {ANN}}


async def test_a_question_names_so_many_friends_and_first_those_that_are_not_linked() -> None:
    many = [PrivateKey.from_seed(number.to_bytes(32, "big")).peer_id for number in range(100, 400)]
    desk = Desk(ANN, BOB, CID, *many)
    sought = desk.records.to_seek(ANN)
    assert len(sought) == SOUGHT_LIMIT
    assert sought <= set(many)
    assert Desk(ANN, BOB, CID, blocked=(CID,)).records.to_seek(ANN) == {BOB}
