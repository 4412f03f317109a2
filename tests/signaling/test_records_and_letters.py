"""Registrations and letters: signed, for one place or peer, not older than what is known.

Rows E7 (membership by registration), B15 (user ids are checked); threats 2, 3 and 5 of the network anchors
(replays, swapped identities, rolled-back records)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.letter import LETTER_DOMAIN, Letter, read_letter, sign_letter
from pgpeer.signaling.record import (
    REMEMBERED_RECORDS_LIMIT,
    RecordGuard,
    Registration,
    read_registration,
    rendezvous_name,
    sign_registration,
)

ALICE = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
NOW = 1_800_000_000
HERE = Registration(ALICE.peer_id, "bundle:x", 7, NOW + 3600, "wss://hub.example")
LETTER = Letter(b"i" * 16, ALICE.peer_id, BOB.peer_id, "friend-request", "Hello, Bob", NOW + 3600)


def refusal_of_record(record: bytes, namespace: str = "bundle:x", now: float = NOW) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        read_registration(record, namespace=namespace, now=now)
    return caught.value.code


def test_a_registration_comes_back_as_it_was_signed() -> None:
    assert read_registration(sign_registration(ALICE, HERE), namespace="bundle:x", now=NOW) == HERE


def test_forged_diverted_and_expired_registrations_are_refused() -> None:
    record = sign_registration(ALICE, HERE)
    assert refusal_of_record(record[:64] + record[64:].replace(b"wss", b"ws:")) == "bad_signature"
    assert refusal_of_record(b"s" * 64 + record[64:]) == "bad_signature"
    assert refusal_of_record(record, namespace="bundle:y") == "identity_mismatch"
    assert refusal_of_record(record, now=NOW + 3600 + 301) == "replay"
    assert refusal_of_record(b"") == "bad_message"
    assert refusal_of_record(record[:64] + b"[]") == "bad_message"


def test_a_letters_signature_is_no_registrations() -> None:
    body = sign_registration(ALICE, HERE)[64:]
    assert refusal_of_record(ALICE.sign(LETTER_DOMAIN, body) + body) == "bad_signature"


@given(st.binary(max_size=200))
def test_noise_is_no_registration_and_no_letter(noise: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_registration(noise, namespace="bundle:x", now=NOW)
    with pytest.raises(RemoteProtocolError):
        read_letter(noise, sender=ALICE.peer_id, recipient=BOB.peer_id, now=NOW)


def test_an_older_registration_and_another_one_of_the_same_number_are_refused() -> None:
    guard = RecordGuard()
    new, old = HERE, dataclasses.replace(HERE, seq=6)
    twin = dataclasses.replace(HERE, body="other")
    guard.admit(new, b"new")
    guard.admit(new, b"new")
    for registration, record in ((old, b"old"), (twin, b"twin")):
        with pytest.raises(RemoteProtocolError) as caught:
            guard.admit(registration, record)
        assert caught.value.code == "replay"
    guard.admit(dataclasses.replace(HERE, seq=8), b"newer")
    guard.admit(dataclasses.replace(old, namespace="bundle:y"), b"old")


def test_what_is_remembered_of_registrations_is_bounded() -> None:
    guard = RecordGuard()
    for number in range(REMEMBERED_RECORDS_LIMIT + 100):
        guard.admit(dataclasses.replace(HERE, namespace=f"n{number}"), b"r")
    assert len(guard._newest) == REMEMBERED_RECORDS_LIMIT


@pytest.mark.parametrize(
    "wrong",
    [
        dataclasses.replace(HERE, peer_id=BOB.peer_id),
        dataclasses.replace(HERE, namespace="with blank"),
        dataclasses.replace(HERE, namespace=""),
        dataclasses.replace(HERE, seq=-1),
        dataclasses.replace(HERE, body="x" * 513),
        dataclasses.replace(HERE, body="\ud800"),
        dataclasses.replace(HERE, body="\0" * 512),
    ],
)
def test_a_registration_outside_its_limits_is_not_signed(wrong: Registration) -> None:
    with pytest.raises(LocalProtocolError):
        sign_registration(ALICE, wrong)


def test_a_rendezvous_name_tells_nothing_and_keeps_purposes_apart() -> None:
    name = rendezvous_name("bundle", b"s" * 16)
    assert name == rendezvous_name("bundle", b"s" * 16)
    assert name != rendezvous_name("bundle", b"t" * 16)
    assert name.partition(":")[2] != rendezvous_name("invite", b"s" * 16).partition(":")[2]
    sign_registration(ALICE, dataclasses.replace(HERE, namespace=name))


def test_a_letter_comes_back_as_it_was_signed() -> None:
    plaintext = sign_letter(ALICE, LETTER)
    assert read_letter(plaintext, sender=ALICE.peer_id, recipient=BOB.peer_id, now=NOW) == LETTER


@pytest.mark.parametrize(
    ("sender", "recipient", "now", "code"),
    [
        (BOB.peer_id, BOB.peer_id, NOW, "identity_mismatch"),
        (ALICE.peer_id, ALICE.peer_id, NOW, "identity_mismatch"),
        (ALICE.peer_id, BOB.peer_id, NOW + 3600 + 301, "replay"),
        (ALICE.peer_id, BOB.peer_id, NOW - 8 * 24 * 3600, "replay"),
    ],
    ids=["another sender", "another recipient", "too old", "too far ahead"],
)
def test_a_letter_that_is_not_what_the_hub_says_is_refused(
    sender: str, recipient: str, now: float, code: str
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_letter(sign_letter(ALICE, LETTER), sender=sender, recipient=recipient, now=now)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [
        dataclasses.replace(LETTER, sender=BOB.peer_id),
        dataclasses.replace(LETTER, letter_id=b"short"),
        dataclasses.replace(LETTER, subject="Big Letters"),
        dataclasses.replace(LETTER, body="x" * (24 * 1024 + 1)),
        dataclasses.replace(LETTER, expires=-1),
    ],
)
def test_a_letter_outside_its_limits_is_not_signed(wrong: Letter) -> None:
    with pytest.raises(LocalProtocolError):
        sign_letter(ALICE, wrong)
