import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import IdentityError
from pgpeer.identity.key import PrivateKey, seal_to, verify
from pgpeer.identity.peer_id import peer_id_from_public_key, public_key_from_peer_id

ALICE = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_gives_back_its_key(public_key: bytes) -> None:
    peer_id = peer_id_from_public_key(public_key)
    assert len(peer_id) == 57
    assert public_key_from_peer_id(peer_id) == public_key


@given(st.integers(3, 56), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_mistyped_peer_id_is_never_the_same_peer(position: int, character: str) -> None:
    mistyped = ALICE.peer_id[:position] + character + ALICE.peer_id[position + 1 :]
    if mistyped == ALICE.peer_id:
        return
    try:
        other = public_key_from_peer_id(mistyped)
    except IdentityError:
        return
    assert other != ALICE.public_key  # ten check bits let one of 1,024 mistakes pass, never as the same peer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pg1",
        ALICE.peer_id[:-1],
        ALICE.peer_id + "a",
        ALICE.peer_id.upper(),
        "pg2" + ALICE.peer_id[3:],
        "pg1" + "0" * 54,
        "pg1" + "é" * 54,
        " " + ALICE.peer_id[1:],
    ],
)
def test_what_is_not_a_peer_id_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        public_key_from_peer_id(text)


def test_spare_bits_of_the_last_key_character_must_be_zero() -> None:
    peer_id = peer_id_from_public_key(bytes(32))
    assert peer_id[54] == "a"
    with pytest.raises(IdentityError):
        public_key_from_peer_id(peer_id[:54] + "b" + peer_id[55:])


def test_a_key_of_a_wrong_length_has_no_peer_id() -> None:
    with pytest.raises(IdentityError):
        peer_id_from_public_key(b"short")
    with pytest.raises(IdentityError):
        PrivateKey.from_seed(b"short")


def test_two_new_keys_differ() -> None:
    assert PrivateKey.generate().peer_id != PrivateKey.generate().peer_id


def test_a_signature_holds_for_its_key_purpose_and_payload_only() -> None:
    signature = ALICE.sign("commit", b"payload")
    verify(ALICE.public_key, "commit", b"payload", signature)
    for public_key, domain, payload in [
        (BOB.public_key, "commit", b"payload"),
        (ALICE.public_key, "auth", b"payload"),
        (ALICE.public_key, "commit", b"another"),
    ]:
        with pytest.raises(IdentityError) as caught:
            verify(public_key, domain, payload, signature)
        assert caught.value.code == "bad_signature"


def test_a_domain_cannot_run_into_its_payload() -> None:
    assert ALICE.sign("ab", b"c") != ALICE.sign("a", b"bc")
    with pytest.raises(IdentityError):
        ALICE.sign("a\0b", b"c")


@pytest.mark.parametrize("signature", [b"", b"x" * 63, bytes(64), b"x" * 65])
def test_what_is_not_a_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(IdentityError):
        verify(ALICE.public_key, "commit", b"payload", signature)


def test_a_key_of_small_order_signs_for_nobody() -> None:
    with pytest.raises(IdentityError):
        verify(b"\x01" + bytes(31), "commit", b"payload", b"\x01" + bytes(63))


def test_only_the_recipient_opens_a_sealed_box() -> None:
    box = seal_to(BOB.public_key, b"the way to me")
    assert BOB.open(box) == b"the way to me"
    assert b"the way" not in box
    with pytest.raises(IdentityError):
        ALICE.open(box)


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_changed_box_is_refused(position: int) -> None:
    box = bytearray(seal_to(BOB.public_key, b"the way to me"))
    box[position] ^= 1
    with pytest.raises(IdentityError):
        BOB.open(bytes(box))


def test_a_box_too_short_to_be_one_is_refused() -> None:
    with pytest.raises(IdentityError):
        BOB.open(b"x")


@pytest.mark.parametrize("public_key", [bytes(32), b"\xff" * 32, b"short"])
def test_nothing_is_sealed_to_an_unusable_key(public_key: bytes) -> None:
    with pytest.raises(IdentityError):
        seal_to(public_key, b"the way to me")


def test_the_seed_shows_in_no_representation() -> None:
    assert ALICE.peer_id in repr(ALICE)
    assert ALICE.seed.hex() not in repr(ALICE)
    assert str(ALICE.seed) not in repr(ALICE)
