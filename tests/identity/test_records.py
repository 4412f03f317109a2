"""Signed records: one spelling, one purpose, numbers that only grow."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from pgpeer.errors import IdentityError
from pgpeer.identity.grant import read_grant, sign_grant
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import read_notice, read_peer_record, sign_notice, sign_peer_record
from pgpeer.identity.record import open_record, record_digest, sign_record, supersedes

ANN = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
BUNDLE = UUID(int=3)


def code_of(caught: pytest.ExceptionInfo[IdentityError]) -> str:
    return caught.value.code


def test_a_record_says_what_was_signed_and_by_whom() -> None:
    record = sign_record(ANN, "grant", {"b": 1, "a": "é"})
    assert open_record(record, "grant") == {"a": "é", "b": 1, "from": ANN.peer_id}
    assert record[64:] == f'{{"a":"é","b":1,"from":"{ANN.peer_id}"}}'.encode()


def test_a_record_of_one_purpose_is_worth_nothing_for_another() -> None:
    record = sign_record(ANN, "grant", {"b": 1})
    with pytest.raises(IdentityError) as caught:
        open_record(record, "friend")
    assert code_of(caught) == "bad_signature"


def test_a_record_in_somebody_elses_name_is_refused() -> None:
    body = json.dumps({"from": ANN.peer_id}, separators=(",", ":")).encode()
    with pytest.raises(IdentityError) as caught:
        open_record(BOB.sign("grant", body) + body, "grant")
    assert code_of(caught) == "bad_signature"


@pytest.mark.parametrize(
    "body",
    [
        b'{"from": "x"}',
        b'{"from":"x","from":"x"}',
        b"[1]",
        b"{",
        b"\xff",
        b'{"a":1e2,"from":"x"}',
        b"[" * 10000,
        b'{"a":"\xc3\xa9","from":"y"} ',
        b"",
    ],
)
def test_another_spelling_is_refused(body: bytes) -> None:
    with pytest.raises(IdentityError) as caught:
        open_record(ANN.sign("grant", body) + body, "grant")
    assert code_of(caught) in ("bad_message", "id_unknown")


def test_every_changed_byte_is_noticed() -> None:
    record = sign_record(ANN, "grant", {"b": 1})
    for place in range(len(record)):
        changed = bytearray(record)
        changed[place] ^= 1
        with pytest.raises(IdentityError):
            open_record(bytes(changed), "grant")


def test_a_record_that_is_too_long_is_neither_made_nor_read() -> None:
    with pytest.raises(IdentityError) as caught:
        sign_record(ANN, "grant", {"b": "x" * 20_000})
    assert code_of(caught) == "too_large"
    with pytest.raises(IdentityError) as caught:
        open_record(b"x" * 20_000, "grant")
    assert code_of(caught) == "too_large"


def test_a_newer_record_takes_the_place_and_an_older_one_is_refused() -> None:
    old, new = (sign_record(ANN, "peer-record", {"seq": seq}) for seq in (1, 2))
    other = sign_record(ANN, "peer-record", {"seq": 2, "x": 1})
    assert supersedes(1, old, None, None)
    assert supersedes(2, new, 1, old)
    assert not supersedes(2, new, 2, new)
    with pytest.raises(IdentityError) as caught:
        supersedes(1, old, 2, new)
    assert code_of(caught) == "replay"
    with pytest.raises(IdentityError) as caught:
        supersedes(2, other, 2, new)
    assert code_of(caught) == "equivocation"


def test_a_grant_is_read_as_it_was_made() -> None:
    made = sign_grant(ANN, BUNDLE, BOB.peer_id, "writer", 1, [b"\2" * 32, b"\1" * 32], [b"\3" * 32])
    assert read_grant(made.record) == made
    assert made.grant.seen == (b"\1" * 32, b"\2" * 32)
    assert made.grant.issuer == ANN.peer_id
    assert made.digest == record_digest(made.record)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "king"},
        {"seq": 0},
        {"seq": True},
        {"seq": 2**53},
        {"subject": "pg1" + "a" * 54},
        {"seen": ["ff"]},
        {"seen": [("22" * 32), ("11" * 32)]},
        {"seen": ["11" * 32] * 2},
        {"seen": ["11" * 32] * 65},
        {"fence": [1]},
        {"bundle": "3"},
        {"bundle": "{00000000-0000-0000-0000-000000000003}"},
        {"more": 1},
        {"subject": None},
    ],
)
def test_a_malformed_grant_is_refused(change: dict[str, object]) -> None:
    whole = {
        "bundle": str(BUNDLE),
        "fence": [],
        "role": "writer",
        "seen": [],
        "seq": 1,
        "subject": BOB.peer_id,
    }
    assert read_grant(sign_record(ANN, "grant", whole))
    with pytest.raises(IdentityError):
        read_grant(sign_record(ANN, "grant", whole | change))


def test_a_notice_is_for_one_recipient() -> None:
    record = sign_notice(ANN, BOB.peer_id, "request", 1, label="Ann", note="hello")
    notice = read_notice(record, recipient=BOB.peer_id)
    assert (notice.sender, notice.kind, notice.label, notice.note) == (
        ANN.peer_id,
        "request",
        "Ann",
        "hello",
    )
    with pytest.raises(IdentityError) as caught:
        read_notice(record, recipient=ANN.peer_id)
    assert code_of(caught) == "identity_mismatch"


def test_only_an_introduction_has_a_subject() -> None:
    assert read_notice(
        sign_notice(ANN, BOB.peer_id, "introduce", 1, subject=ANN.peer_id), recipient=BOB.peer_id
    )
    for kind, subject in (("introduce", ""), ("request", BOB.peer_id), ("shout", "")):
        with pytest.raises(IdentityError):
            sign_notice(ANN, BOB.peer_id, kind, 1, subject=subject)


def test_a_peer_record_names_addresses() -> None:
    record = sign_peer_record(ANN, 5, "Ann", ["wss://hub.example", "tls://[::1]:7432"])
    assert read_peer_record(record).addresses == ("tls://[::1]:7432", "wss://hub.example")
    for bad in (["http://x"], ["tls://a b"], [f"tls://{n}" for n in range(17)]):
        with pytest.raises(IdentityError):
            sign_peer_record(ANN, 5, "Ann", bad)
