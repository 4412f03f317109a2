"""Devices of one owner on real databases: what is accepted by itself, and what counts nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from fixtures.databases import Database
from friends.test_friends import Person

from pgpeer.identity.device import SignedDevice, sign_device
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import read_notice, sign_notice

MakeDatabase = Callable[..., Database]


def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


OWNER, OTHER = key_of("owner"), key_of("another owner")


class Device(Person):
    """A database, and what its worker and `pgpeer owner` do."""

    def store(self, word: SignedDevice) -> object:
        said = word.certificate
        return self.value(
            "SELECT peer_internal.store_device(%s, %s, %s, %s, %s, %s, NULL)",
            said.owner,
            said.device,
            said.seq,
            word.record,
            said.label,
            said.is_revoked,
        )

    def adopt(self, owner: PrivateKey = OWNER, seq: int = 1) -> SignedDevice:
        with self.connection.transaction():
            self.value("SELECT peer_internal.adopt(%s)", owner.peer_id)
            made = sign_device(owner, self.peer_id, seq, label=self.database.label)
            self.store(made)
            self.value("SELECT peer_internal.adopted()")
        return made

    def outgoing(self, recipient: str) -> list[bytes]:
        certificate = self.value("SELECT peer_internal.own_certificate()")
        assert certificate is None or isinstance(certificate, bytes)
        records = []
        for record in super().outgoing(recipient):
            said = read_notice(record, recipient=recipient)
            records.append(
                sign_notice(
                    self.key,
                    recipient,
                    said.kind,
                    said.seq,
                    label=said.label,
                    note=said.note,
                    device=certificate or b"",
                )
            )
        return records

    def hear(self, record: bytes) -> object:
        notice = read_notice(record, recipient=self.peer_id)
        trusted = None if notice.device is None else self.store(notice.device)
        outcome = super().hear(record)
        if notice.device is not None and trusted == "foreign":
            self.store(notice.device)
        return outcome

    def admits(self, other: Device) -> object:
        return self.value("SELECT peer_internal.may_connect(%s)", other.peer_id)


@pytest.fixture
def devices(make_database: MakeDatabase) -> Callable[[str], list[Device]]:
    return lambda names: [Device(make_database(name)) for name in names.split()]


Devices = Callable[[str], list[Device]]


def deliver(*people: Device) -> None:
    while True:
        said = [
            (other, record) for one in people for other in people for record in one.outgoing(other.peer_id)
        ]
        if not said:
            return
        for other, record in said:
            other.hear(record)


def test_a_request_of_a_device_of_the_same_owner_is_accepted_by_itself(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    laptop.adopt()
    phone.adopt()
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("accepted", True)
    assert laptop.state(phone.peer_id) == ("accepted", False)
    assert "friend-requested" not in phone.events()
    assert [kind for kind in phone.events() if kind != "device-added"] == ["friend-accepted"]
    assert (laptop.admits(phone), phone.admits(laptop)) == ("device", "device")
    assert phone.value("SELECT accept FROM peer.config") == "invited"
    refusal = "SELECT peer_internal.refusal_of_peer(%s)"
    assert phone.value(refusal, laptop.peer_id) is None
    shown = phone.connection.execute(
        "SELECT peer_id, label, state FROM peer.device ORDER BY state"
    ).fetchall()
    assert shown == [(laptop.peer_id, "laptop", "device"), (phone.peer_id, "phone", "here")]


@pytest.mark.parametrize("owner_of_the_other", [None, OTHER])
def test_a_request_of_somebody_else_waits_for_people(
    devices: Devices, owner_of_the_other: PrivateKey | None
) -> None:
    stranger, phone = devices("stranger phone")
    phone.adopt()
    if owner_of_the_other is not None:
        stranger.adopt(owner_of_the_other)
    stranger.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(stranger, phone)
    assert phone.state(stranger.peer_id) == ("requested", True)
    assert phone.admits(stranger) == "refused"
    assert phone.value("SELECT count(*) FROM peer.device") == 1


def test_who_asked_before_the_owner_was_known_is_accepted_then(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    laptop.adopt()
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("requested", True)
    phone.adopt()
    assert phone.state(laptop.peer_id) == ("accepted", True)
    deliver(laptop, phone)
    assert laptop.state(phone.peer_id) == ("accepted", False)
    assert laptop.admits(phone) == "device"


def test_who_asked_before_it_was_adopted_asks_again_with_its_certificate(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    phone.adopt()
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("requested", True)
    laptop.adopt()
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("accepted", True)
    assert laptop.state(phone.peer_id) == ("accepted", False)


def test_a_block_wins(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    laptop.adopt()
    phone.adopt()
    phone.value("SELECT peer.block(%s)", laptop.peer_id)
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("blocked", False)
    assert phone.admits(laptop) == "blocked"
    assert phone.value("SELECT peer_internal.refusal_of_peer(%s)", laptop.peer_id) == "refused_blocked"


def test_a_revocation_ends_everything_and_an_older_certificate_changes_nothing(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    old = laptop.adopt(seq=5)
    phone.adopt()
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.store(sign_device(OWNER, laptop.peer_id, 9, is_revoked=True)) == "new"
    assert phone.state(laptop.peer_id) is None
    assert phone.admits(laptop) == "refused"
    assert phone.events()[-2:] == ["device-revoked", "friend-ended"]
    assert phone.store(old) == "replay"
    assert phone.store(sign_device(OWNER, laptop.peer_id, 9)) == "equivocation"
    laptop.value("SELECT peer.unfriend(%s)", phone.peer_id)
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    assert phone.state(laptop.peer_id) == ("requested", True)
    # only the owner can take it back
    assert phone.store(sign_device(OWNER, laptop.peer_id, 10)) == "new"
    assert phone.state(laptop.peer_id) == ("accepted", True)


def test_of_two_words_with_one_number_the_revocation_counts(devices: Devices) -> None:
    (phone,) = devices("phone")
    phone.adopt()
    laptop = key_of("laptop").peer_id
    assert phone.store(sign_device(OWNER, laptop, 3)) == "new"
    assert phone.store(sign_device(OWNER, laptop, 3)) == "known"
    assert phone.store(sign_device(OWNER, laptop, 3, label="other")) == "equivocation"
    assert phone.store(sign_device(OWNER, laptop, 3, is_revoked=True)) == "new"
    assert phone.store(sign_device(OWNER, laptop, 3)) == "equivocation"


def test_a_device_that_hears_of_its_own_revocation_trusts_nobody(devices: Devices) -> None:
    laptop, phone = devices("laptop phone")
    laptop.adopt()
    phone.adopt()
    laptop.value("SELECT peer.befriend(%s)", phone.peer_id)
    deliver(laptop, phone)
    laptop.store(sign_device(OWNER, laptop.peer_id, 9, is_revoked=True))
    assert laptop.admits(phone) == "refused"
    assert laptop.value("SELECT peer_internal.own_certificate()") is None


def test_what_was_revoked_stays_so_when_the_owner_is_forgotten(devices: Devices) -> None:
    (phone,) = devices("phone")
    phone.adopt()
    laptop, tablet = key_of("laptop").peer_id, key_of("tablet").peer_id
    phone.store(sign_device(OWNER, laptop, 9, is_revoked=True))
    phone.store(sign_device(OWNER, tablet, 9))
    assert phone.value("SELECT peer_internal.disown()") == OWNER.peer_id
    assert phone.value("SELECT peer_internal.disown()") is None
    assert phone.value("SELECT peer.owner()") is None
    assert phone.value("SELECT count(*) FROM peer.device") == 0
    phone.adopt(seq=2)
    assert phone.store(sign_device(OWNER, laptop, 5)) == "replay"
    assert phone.value("SELECT state FROM peer.device WHERE peer_id = %s", laptop) == "revoked"
    assert phone.value("SELECT count(*) FROM peer.device WHERE peer_id = %s", tablet) == 0


def test_what_strangers_show_of_other_owners_takes_one_row_for_each_friend(devices: Devices) -> None:
    (phone,) = devices("phone")
    phone.adopt()
    stranger = key_of("stranger").peer_id
    assert phone.store(sign_device(OTHER, stranger, 1)) == "foreign"
    count = "SELECT count(*) FROM peer_internal.device WHERE owner <> %s"
    assert phone.value(count, OWNER.peer_id) == 0
    phone.value("INSERT INTO peer.friend (peer_id, is_incoming) VALUES (%s, true) RETURNING 1", stranger)
    for number in range(5):
        assert phone.store(sign_device(key_of(f"owner {number}"), stranger, 1)) == "foreign"
    assert phone.value(count, OWNER.peer_id) == 1
