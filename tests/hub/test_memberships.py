"""What members of a bundle say in its namespace: sealed for each other; and what a worker makes of the lists (row E7)."""

from __future__ import annotations

import asyncio
import time
import zlib
from base64 import b64encode
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from pgpeer.commit import dag_cbor
from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey, seal_to
from pgpeer.identity.notice import sign_peer_record
from pgpeer.signaling.membership import UNPACKED_BYTES_LIMIT, Membership, Space
from pgpeer.signaling.record import Registration, sign_registration
from pgpeer.store.trust import Trust
from pgpeer.store.view import BundleState, View
from pgpeer.worker.attendance import NOT_A_MEMBER, PACE_SECONDS, STRANGERS_LIMIT, Attendance
from pgpeer.worker.office import Office

HUB, OTHER_HUB = "ws://hub.example", "ws://other.example"
BUNDLE, OTHER_BUNDLE = uuid4(), uuid4()
ANN, BOB, CID = (PrivateKey.from_seed(seed * 32) for seed in (b"a", b"b", b"c"))


def record(key: PrivateKey, seq: int = 1, count: int = 1, label: str = "somebody") -> bytes:
    addresses = [f"tls://[2001:db8:{seq:x}:{number:x}::17]:7432" for number in range(count)]
    return sign_peer_record(key, 1_763_000_000_000 + seq, label, addresses)


def listing(
    key: PrivateKey, seq: int = 1, said: bytes | None = None, bundle_id: UUID = BUNDLE, relay: str = HUB
) -> Registration:
    space = Space(bundle_id.bytes)
    body = space.seal(key.peer_id, Membership(relay, record(key, seq) if said is None else said))
    return Registration(key.peer_id, space.name, seq, int(time.time()) + 600, body)


def test_a_membership_is_read_by_who_knows_the_secret_and_by_nobody_else() -> None:
    said = Membership("wss://hub.example/a", record(ANN, count=8))
    space = Space(BUNDLE.bytes)
    body = space.seal(ANN.peer_id, said)
    assert space.seal(ANN.peer_id, said) != body, "the hub cannot tell whether something has changed"
    registration = Registration(ANN.peer_id, space.name, 1, 2, body)
    sign_registration(ANN, registration)  # it fits
    assert Space(BUNDLE.bytes).read(registration) == said
    assert str(BUNDLE) not in space.name
    assert BUNDLE.hex not in space.name
    with pytest.raises(RemoteProtocolError) as caught:
        Space(OTHER_BUNDLE.bytes).read(registration)
    assert caught.value.code == "bad_message"
    empty = Membership()
    assert space.read(replace(registration, body=space.seal(ANN.peer_id, empty))) == empty


def test_more_than_a_registration_holds_is_refused_before_it_is_sealed() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Space(BUNDLE.bytes).seal(
            ANN.peer_id, Membership("", record(ANN, count=16, label="".join(map(chr, range(200, 399)))))
        )
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x82",
        dag_cbor.array([dag_cbor.text(""), dag_cbor.byte_string(b"")]) + b"x",
        dag_cbor.array([dag_cbor.text("http://hub.example"), dag_cbor.byte_string(b"")]),
        dag_cbor.array([dag_cbor.text("ws://x:y@hub.example"), dag_cbor.byte_string(b"")]),
        dag_cbor.array([dag_cbor.text(""), dag_cbor.byte_string(bytes(UNPACKED_BYTES_LIMIT + 1))]),
        bytes(10_000_000),
    ],
)
def test_what_is_malformed_in_a_namespace_is_refused(content: bytes) -> None:
    packing = zlib.compressobj(wbits=-15)
    packed = packing.compress(content) + packing.flush()
    space = Space(BUNDLE.bytes)
    for body in (
        b64encode(seal_to(space._key.public_key, packed)).decode(),
        b64encode(packed).decode()[:512],
        "no base64 ä",
        "",
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            space.read(Registration(ANN.peer_id, space.name, 1, 2, body))
        assert caught.value.code == "bad_message"


@dataclass
class Archive:
    """In place of the worker's records: what it was given."""

    taken: list[tuple[bytes, str]] = field(default_factory=list)

    async def take(self, records: list[bytes], told_by: str) -> list[bytes]:
        self.taken += [(one, told_by) for one in records]
        return []


@dataclass
class Desk:
    """In place of the office: what an attendance looks at."""

    key: PrivateKey
    view: View = field(default_factory=View)
    records: Archive = field(default_factory=Archive)


class Hall:
    """An attendance whose members are ann (this database) and bob, and what it told."""

    def __init__(self) -> None:
        self.desk = Desk(ANN)
        self.told: deque[tuple[str, str, str]] = deque()
        self.attendance = Attendance(cast(Office, self.desk), cast(Any, self))
        self.admit(BOB)

    def listed(self, url: str, peer_id: str) -> None:
        self.told.append(("listed", url, peer_id))

    def unlisted(self, url: str, peer_id: str) -> None:
        self.told.append(("unlisted", url, peer_id))

    def admit(self, *keys: PrivateKey, trust: Trust | None = None) -> None:
        """These are the members of both bundles from now on."""
        bundles = {
            one: BundleState(one, "b", True, False, False, False, False) for one in (BUNDLE, OTHER_BUNDLE)
        }
        self.desk.view = View(
            bundles=bundles,
            members={key.peer_id: dict.fromkeys(bundles, "writer") for key in keys},
            trust=trust or Trust(),
        )
        self.attendance.follow_view()

    def push(self, *joined: Registration, left: tuple[str, ...] = (), bundle_id: UUID = BUNDLE) -> None:
        self.attendance.changed(HUB, bundle_id, joined, left)

    def members(self) -> set[str]:
        return self.attendance.members(HUB)

    async def settle(self) -> list[bytes]:
        """Let the records be taken, and give them."""
        task = asyncio.create_task(self.attendance.run())
        await asyncio.sleep(PACE_SECONDS + 0.2)
        task.cancel()
        await asyncio.wait([task])
        taken, self.desk.records.taken = self.desk.records.taken, []
        assert all(told_by == BOB.peer_id or told_by == CID.peer_id for _, told_by in taken)
        return [one for one, _ in taken]


async def test_members_come_renew_and_go_and_only_what_is_new_is_taken() -> None:
    hall = Hall()
    hall.push(listing(BOB))
    hall.push(listing(BOB), bundle_id=OTHER_BUNDLE)  # sealed for the other bundle: not believed here
    assert hall.attendance.refused["bad_message"] == 1
    hall.push(listing(BOB, bundle_id=OTHER_BUNDLE), bundle_id=OTHER_BUNDLE)
    assert list(hall.told) == [("listed", HUB, BOB.peer_id)]
    assert await hall.settle() == [record(BOB)]
    hall.push(listing(BOB, 2, record(BOB)))  # renewed, and it says the same
    assert await hall.settle() == []
    hall.push(listing(BOB, 9, record(BOB, 9)), listing(BOB, 10, record(BOB, 3)))
    hall.push(listing(BOB, 8, record(BOB, 11)))  # late
    assert await hall.settle() == [record(BOB, 9)], "the newest word of bob, once"
    hall.push(left=(BOB.peer_id,))
    assert hall.members() == {BOB.peer_id}, "it is in the other bundle's namespace still"
    hall.push(left=(BOB.peer_id, BOB.peer_id, "nobody"), bundle_id=OTHER_BUNDLE)
    assert hall.told.pop() == ("unlisted", HUB, BOB.peer_id)
    assert hall.members() == set()
    hall.push(listing(BOB, 12))
    hall.attendance.lost(HUB)
    assert list(hall.told)[1:] == [("listed", HUB, BOB.peer_id), ("unlisted", HUB, BOB.peer_id)]


async def test_a_stranger_counts_only_when_grants_have_made_it_a_member() -> None:
    hall = Hall()
    hall.push(listing(CID), listing(ANN))
    assert hall.members() == set()
    assert hall.attendance.refused == {NOT_A_MEMBER: 1}
    assert await hall.settle() == []
    hall.admit(BOB, CID)
    assert hall.members() == {CID.peer_id}
    assert await hall.settle() == [record(CID)]
    assert list(hall.told) == [("listed", HUB, CID.peer_id)]
    hall.admit(BOB)
    assert hall.members() == set()
    assert hall.told.pop() == ("unlisted", HUB, CID.peer_id)
    hall.admit(BOB, CID, trust=Trust(blocked=frozenset({CID.peer_id})))
    assert hall.members() == set()
    hall.admit(BOB, CID, trust=Trust(left=frozenset({BUNDLE})))
    assert hall.members() == set()


async def test_countless_strangers_take_no_memory_and_push_no_member_out() -> None:
    hall = Hall()
    hall.push(listing(BOB))
    body = listing(CID).body
    name = Space(BUNDLE.bytes).name
    for number in range(1000):
        key = PrivateKey.from_seed(number.to_bytes(32, "big"))
        hall.push(Registration(key.peer_id, name, 1, int(time.time()) + 600, body))
    assert hall.members() == {BOB.peer_id}
    assert hall.attendance.refused == {NOT_A_MEMBER: 1000}
    assert len(hall.attendance._boards[HUB].strangers) == STRANGERS_LIMIT
    hall.push(left=tuple(f"nobody {number}" for number in range(1000)))
    assert len(hall.attendance._boards[HUB].strangers) == STRANGERS_LIMIT
    assert await hall.settle() == [record(BOB)]


async def test_a_member_cannot_tell_the_record_of_somebody_else_or_a_forged_one() -> None:
    hall = Hall()
    hall.admit(BOB, CID)
    forged = record(BOB)[:64] + record(BOB, 7)[64:]
    for number, said in enumerate((record(CID, 5), forged, b"no record")):
        hall.push(listing(BOB, number + 1, said))
    assert hall.attendance.refused == {"identity_mismatch": 1, "bad_signature": 1, "bad_message": 1}
    assert hall.members() == set()
    assert await hall.settle() == []


async def test_a_whole_list_takes_the_place_of_what_was_known_and_what_was_pushed_meanwhile_counts() -> None:
    hall = Hall()
    hall.admit(BOB, CID)
    hall.push(listing(BOB))
    hall.attendance.begin(HUB, BUNDLE)
    hall.attendance.whole(HUB, BUNDLE, [listing(CID)])
    assert hall.members() == {CID.peer_id}
    # cid leaves and bob comes while the list, which is older, is on its way
    hall.attendance.begin(HUB, BUNDLE)
    hall.push(listing(BOB, 2), left=(CID.peer_id,))
    hall.attendance.whole(HUB, BUNDLE, [listing(CID)])
    assert hall.members() == {BOB.peer_id}
    # one that could not be read changes nothing
    hall.attendance.begin(HUB, BUNDLE)
    hall.attendance.failed(HUB, BUNDLE)
    assert hall.members() == {BOB.peer_id}
    hall.attendance.changed(OTHER_HUB, BUNDLE, [listing(CID)], ())
    hall.attendance.forget(HUB, BUNDLE)
    assert hall.members() == set()
    assert hall.attendance.members(OTHER_HUB) == {CID.peer_id}
    assert hall.attendance.is_listed(OTHER_HUB, CID.peer_id)
    assert not hall.attendance.is_listed(HUB, CID.peer_id)
