import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling import signal as signal_room
from pgpeer.signaling.signal import ReplayGuard, Signal, read_signal, sign_signal

ALICE = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
NOW = 1_800_000_000.0
OFFER = Signal("attempt-1", ALICE.peer_id, BOB.peer_id, "offer", "v=0\r\n…", b"n" * 16, int(NOW) + 60)


def read(plaintext: bytes, **changes: object) -> Signal:
    expected = {"sender": ALICE.peer_id, "recipient": BOB.peer_id, "sid": "attempt-1", "now": NOW}
    return read_signal(plaintext, guard=ReplayGuard(), **(expected | changes))  # type: ignore[arg-type]


def signed(body: object) -> bytes:
    encoded = json.dumps(body).encode()
    return ALICE.sign("signal", encoded) + encoded


def body(**changes: object) -> dict:
    plain = json.loads(sign_signal(ALICE, OFFER)[64:])
    return plain | changes


def refusal_code(plaintext: bytes, **changes: object) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        read(plaintext, **changes)
    assert caught.value.phase == "signalling"
    return caught.value.code


def test_a_signal_is_read_back_as_it_was_signed() -> None:
    assert read(sign_signal(ALICE, OFFER)) == OFFER


def test_a_changed_signal_is_refused() -> None:
    plaintext = bytearray(sign_signal(ALICE, OFFER))
    plaintext[-3] ^= 1
    assert refusal_code(bytes(plaintext)) == "bad_signature"


def test_a_signal_signed_by_another_peer_is_refused() -> None:
    forged = sign_signal(BOB, replace(OFFER, sender=BOB.peer_id))
    assert refusal_code(forged) == "bad_signature"


def test_a_signal_passed_on_to_another_peer_or_attempt_is_refused() -> None:
    plaintext = sign_signal(ALICE, OFFER)
    assert refusal_code(plaintext, recipient=ALICE.peer_id) == "identity_mismatch"
    assert refusal_code(plaintext, sid="attempt-2") == "identity_mismatch"
    assert refusal_code(signed(body(**{"from": BOB.peer_id}))) == "identity_mismatch"


def test_an_old_signal_is_refused_after_its_expiry_and_the_clock_leeway() -> None:
    plaintext = sign_signal(ALICE, OFFER)
    assert read(plaintext, now=NOW + 360) == OFFER
    assert refusal_code(plaintext, now=NOW + 361) == "replay"


def test_a_signal_that_would_live_too_long_is_refused() -> None:
    assert read(sign_signal(ALICE, replace(OFFER, expires=int(NOW) + 360)))
    assert refusal_code(sign_signal(ALICE, replace(OFFER, expires=int(NOW) + 361))) == "replay"


def test_a_repeated_signal_is_refused() -> None:
    guard = ReplayGuard()
    guard.admit(OFFER, NOW)
    with pytest.raises(RemoteProtocolError) as caught:
        guard.admit(OFFER, NOW + 1)
    assert caught.value.code == "replay"
    guard.admit(replace(OFFER, nonce=b"m" * 16), NOW)
    guard.admit(replace(OFFER, sender=BOB.peer_id), NOW)


def test_the_replay_guard_has_bounded_memory_and_forgets_what_has_expired() -> None:
    guard = ReplayGuard()
    for number in range(signal_room.REMEMBERED_NONCES_LIMIT):
        guard.admit(replace(OFFER, nonce=number.to_bytes(16, "big")), NOW)
    with pytest.raises(RemoteProtocolError) as caught:
        guard.admit(OFFER, NOW)
    assert caught.value.code == "rate_limited"
    guard.admit(replace(OFFER, expires=int(NOW) + 1000), OFFER.expires + 301)


@pytest.mark.parametrize(
    "change",
    [
        {"sid": ""},
        {"sid": "a b"},
        {"kind": "candidate"},
        {"kind": []},
        {"sdp": "x" * 32_769},
        {"sdp": "\ud800"},
        {"sdp": None},
        {"nonce": "00"},
        {"nonce": 5},
        {"expires": 1.5},
        {"expires": True},
        {"expires": -1},
        {"expires": 2**60},
    ],
    ids=str,
)
def test_a_malformed_signal_is_refused_though_well_signed(change: dict) -> None:
    assert refusal_code(signed(body(**change))) == "bad_message"


@pytest.mark.parametrize("content", [[], None, "text", {}, 5])
def test_a_signal_that_is_no_object_is_refused(content: object) -> None:
    assert refusal_code(signed(content)) == "bad_message"


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_typed_error(noise: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(noise)
    with pytest.raises(RemoteProtocolError):
        read(ALICE.sign("signal", noise) + noise)


def test_nobody_signs_for_another_or_beyond_the_limits() -> None:
    for signal in (
        replace(OFFER, sender=BOB.peer_id),
        replace(OFFER, sdp="x" * 32_769),
        replace(OFFER, sid=""),
    ):
        with pytest.raises(LocalProtocolError):
            sign_signal(ALICE, signal)
