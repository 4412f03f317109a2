"""What devices tell each other: signed words only, of the own owner only, and to devices only."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.device import SignedDevice, sign_device
from pgpeer.identity.key import PrivateKey
from pgpeer.store.trust import Trust
from pgpeer.worker.household import DEVICES_ID, Household


def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


OWNER, OTHER = key_of("owner"), key_of("another owner")
LAPTOP, PHONE, FRIEND = (key_of(name).peer_id for name in ("laptop", "phone", "friend"))


class Desk:
    """Takes statements in place of a database; answers each word with 'new' once."""

    def __init__(self, *records: bytes) -> None:
        self.records = list(records)
        self.stored: list[tuple[object, ...]] = []

    async def value(self, _: str, *words: object) -> str:
        self.stored.append(words)
        return "new"

    async def fetch(self, _: str) -> list[dict[str, bytes]]:
        return [{"record": record} for record in self.records]


class Conversation:
    """Remembers what was told in place of a link."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def accept_join(self, topic: object, payload: dict[str, Any]) -> None:
        assert topic == DEVICES_ID
        self.told.append(payload["devices"])


def household(desk: Desk, trust: Trust) -> tuple[Household, Any, Conversation]:
    office = SimpleNamespace(
        view=SimpleNamespace(trust=trust), connections=SimpleNamespace(desk=desk), changed=asyncio.Event()
    )
    conversation = Conversation()
    return Household(office, conversation), office, conversation  # type: ignore[arg-type]


def words(*made: SignedDevice) -> dict[str, Any]:
    return {"devices": [one.record.hex() for one in made]}


TRUST = Trust(owner=OWNER.peer_id, devices=frozenset({PHONE}), device_words="7")


async def test_only_devices_are_told_and_everything_once() -> None:
    first, second = sign_device(OWNER, PHONE, 1).record, sign_device(OWNER, LAPTOP, 2).record
    desk = Desk(first)
    one, office, conversation = household(desk, TRUST)
    await one.tell(FRIEND)
    assert conversation.told == []
    await one.tell(PHONE)
    await one.tell(PHONE)
    assert conversation.told == [[first.hex()]]
    desk.records.append(second)
    office.view.trust = Trust(owner=OWNER.peer_id, devices=frozenset({PHONE}), device_words="9")
    await one.tell(PHONE)
    assert conversation.told[1:] == [[second.hex()]]


async def test_words_of_the_own_owner_are_taken_and_not_told_back() -> None:
    made = sign_device(OWNER, LAPTOP, 3, is_revoked=True)
    desk = Desk(made.record)
    one, office, conversation = household(desk, TRUST)
    await one.hear(PHONE, words(made, sign_device(OTHER, FRIEND, 1)))
    assert [stored[1] for stored in desk.stored] == [LAPTOP]
    assert office.changed.is_set()
    await one.tell(PHONE)
    assert conversation.told == []


async def test_without_an_owner_nothing_is_taken() -> None:
    desk = Desk()
    one, office, _ = household(desk, Trust())
    await one.hear(PHONE, words(sign_device(OWNER, LAPTOP, 3)))
    assert desk.stored == []
    assert not office.changed.is_set()


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"devices": None},
        {"devices": "00"},
        {"devices": ["zz"]},
        {"devices": [7]},
        {"devices": ["00" * 100]},
        {"devices": [sign_device(OWNER, LAPTOP, 1).record.hex()] * 257},
        {"devices": [(sign_device(OWNER, LAPTOP, 1).record[:-1] + b"]").hex()]},
    ],
)
async def test_what_is_malformed_forged_or_too_much_ends_the_link(payload: dict[str, Any]) -> None:
    desk = Desk()
    one, _, _ = household(desk, TRUST)
    with pytest.raises(RemoteProtocolError, match="device certificates"):
        await one.hear(PHONE, payload)
    assert desk.stored == []


async def test_a_forged_word_is_refused_whoever_tells_it() -> None:
    body = sign_device(OWNER, LAPTOP, 9, is_revoked=True).record[64:]
    forged = key_of("friend").sign("device", body) + body
    one, _, _ = household(Desk(), TRUST)
    with pytest.raises(RemoteProtocolError) as caught:
        await one.hear(FRIEND, {"devices": [forged.hex()]})
    assert caught.value.code == "bad_signature"
