"""Certificates of devices: what an owner has said, for one purpose, of one peer, and what friend notices show of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pgpeer.errors import IdentityError
from pgpeer.identity.device import DEVICE_DOMAIN, read_device, sign_device
from pgpeer.identity.key import SIGNATURE_BYTES, PrivateKey
from pgpeer.identity.keyfile import IdentityFile, OwnerFile
from pgpeer.identity.notice import FRIEND_DOMAIN, read_notice, sign_notice
from pgpeer.identity.record import record_digest, sign_record


def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


OWNER, LAPTOP, PHONE = key_of("owner"), key_of("laptop"), key_of("phone")
WHOLE = {"device": LAPTOP.peer_id, "seq": 7, "issued": 1, "label": "laptop", "revoked": False}


def refusal(record: bytes) -> str:
    with pytest.raises(IdentityError) as caught:
        read_device(record)
    return caught.value.code


def test_a_certificate_says_what_was_signed() -> None:
    made = sign_device(OWNER, LAPTOP.peer_id, 7, issued=1, label="laptop")
    said = made.certificate
    assert (said.owner, said.device, said.seq, said.issued) == (OWNER.peer_id, LAPTOP.peer_id, 7, 1)
    assert (said.label, said.is_revoked) == ("laptop", False)
    assert read_device(made.record) == made
    assert made.digest == record_digest(made.record)
    assert sign_device(OWNER, LAPTOP.peer_id, 8, is_revoked=True).certificate.is_revoked


def test_a_certificate_has_one_spelling_that_never_changes() -> None:
    made = sign_device(OWNER, LAPTOP.peer_id, 7, issued=1, label="Büro")
    assert made.record[SIGNATURE_BYTES:].decode() == (
        f'{{"device":"{LAPTOP.peer_id}","from":"{OWNER.peer_id}","issued":1,"label":"Büro",'
        '"revoked":false,"seq":7}'
    )


@pytest.mark.parametrize("place", [0, SIGNATURE_BYTES - 1, SIGNATURE_BYTES + 12, -2])
def test_a_changed_certificate_is_refused(place: int) -> None:
    changed = bytearray(sign_device(OWNER, LAPTOP.peer_id, 7).record)
    changed[place] ^= 1
    assert refusal(bytes(changed)) in ("bad_signature", "bad_message", "id_unknown", "identity_mismatch")


def test_a_signature_for_another_purpose_or_of_another_key_is_worth_nothing() -> None:
    body = sign_device(OWNER, LAPTOP.peer_id, 7).record[SIGNATURE_BYTES:]
    assert refusal(OWNER.sign("friend", body) + body) == "bad_signature"
    assert refusal(PHONE.sign(DEVICE_DOMAIN, body) + body) == "bad_signature"
    assert refusal(sign_record(OWNER, "grant", WHOLE)) == "bad_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"revoked": 0},
        {"revoked": None},
        {"seq": 0},
        {"seq": "7"},
        {"seq": 2**53},
        {"issued": -1},
        {"label": "x" * 201},
        {"label": "a\nb"},
        {"device": "pg1short"},
        {"device": OWNER.peer_id},
        {"more": 1},
    ],
)
def test_a_malformed_certificate_is_refused(change: dict[str, object]) -> None:
    assert refusal(sign_record(OWNER, DEVICE_DOMAIN, WHOLE | change)) in ("bad_message", "id_unknown")
    read_device(sign_record(OWNER, DEVICE_DOMAIN, WHOLE))


def test_a_request_shows_the_certificate_of_its_sender() -> None:
    own = sign_device(OWNER, LAPTOP.peer_id, 7)
    record = sign_notice(LAPTOP, PHONE.peer_id, "request", 1, device=own.record)
    assert read_notice(record, recipient=PHONE.peer_id).device == own
    plain = sign_notice(LAPTOP, PHONE.peer_id, "request", 1)
    assert read_notice(plain, recipient=PHONE.peer_id).device is None


def test_a_stolen_certificate_is_refused() -> None:
    stolen = sign_device(OWNER, LAPTOP.peer_id, 7)
    thief = key_of("thief")
    with pytest.raises(IdentityError) as caught:
        sign_notice(thief, PHONE.peer_id, "request", 1, device=stolen.record)
    assert caught.value.code == "identity_mismatch"


@pytest.mark.parametrize("shown", ["zz", 7, "", "00" * 100])
def test_a_notice_with_a_certificate_that_is_none_is_refused(shown: object) -> None:
    document = {"to": PHONE.peer_id, "kind": "request", "seq": 1, "label": "", "note": "", "subject": ""}
    record = sign_record(LAPTOP, FRIEND_DOMAIN, document | {"device": shown})
    with pytest.raises(IdentityError):
        read_notice(record, recipient=PHONE.peer_id)


def test_the_file_of_an_owner_is_no_identity_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    key = OwnerFile(path).create()
    assert path.stat().st_mode & 0o777 == 0o600
    assert OwnerFile(path).load().seed == key.seed
    assert json.loads(path.read_text())["kind"] == "pgpeer owner"
    with pytest.raises(IdentityError, match="no usable pgpeer identity"):
        IdentityFile(path).load()
    IdentityFile(tmp_path / "identity").create()
    with pytest.raises(IdentityError, match="no usable pgpeer owner"):
        OwnerFile(tmp_path / "identity").load()
    with pytest.raises(IdentityError, match="There is no owner file") as caught:
        OwnerFile(tmp_path / "none").load()
    assert "pgpeer owner create" in caught.value.remedy
