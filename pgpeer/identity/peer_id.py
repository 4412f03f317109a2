"""The peer id: a public key as text that shows a typing mistake.

"pg1", the 32-byte Ed25519 key in lower-case base32 without padding (52 characters), and 2 check
characters: the first 10 bits of sha256("pgpeer/v1/peer-id" + key). SQL computes the same from `sha256()`
    alone.
"""

from __future__ import annotations

import hashlib
from base64 import b32decode, b32encode
from typing import Final

from pgpeer.errors import IdentityError

PUBLIC_KEY_BYTES: Final = 32
PEER_ID_CHARACTERS: Final = 57

_PREFIX: Final = "pg1"
_CHECK_DOMAIN: Final = b"pgpeer/v1/peer-id"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_REMEDY: Final = "Copy the whole peer id again from 'SELECT peer.identity()' on the other database."


def peer_id_from_public_key(public_key: bytes) -> str:
    """Give the peer id of a 32-byte Ed25519 public key, 57 characters.

    Raises:
        IdentityError: the key has another length.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise IdentityError(f"A public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}.")
    body = b32encode(public_key).decode("ascii").rstrip("=").lower()
    return _PREFIX + body + _check_characters(public_key)


def public_key_from_peer_id(peer_id: str) -> bytes:
    """Give the 32-byte public key that a peer id stands for.

    Exactly one text stands for each key: other spellings (upper case, blanks) are refused, so that peer ids
    can be compared as text.

    Raises:
        IdentityError: the text is not a peer id or its check characters are wrong.
    """
    if len(peer_id) != PEER_ID_CHARACTERS or not peer_id.startswith(_PREFIX):
        raise IdentityError(
            f"'{peer_id[:80]}' is not a peer id: one has {PEER_ID_CHARACTERS} characters, '{_PREFIX}' first.",
            remedy=_REMEDY,
            code="id_unknown",
        )
    body = peer_id[len(_PREFIX) : -2]
    if any(character not in _ALPHABET for character in body):
        raise IdentityError(
            f"'{peer_id}' is not a peer id: it may hold only a-z and 2-7.", remedy=_REMEDY, code="id_unknown"
        )
    public_key = b32decode(body.upper() + "====")
    if peer_id_from_public_key(public_key) != peer_id:
        raise IdentityError(
            f"'{peer_id}' has a typing mistake: its check characters do not fit.",
            remedy=_REMEDY,
            code="id_unknown",
        )
    return public_key


def _check_characters(public_key: bytes) -> str:
    digest = hashlib.sha256(_CHECK_DOMAIN + public_key).digest()
    ten_bits = int.from_bytes(digest[:2], "big") >> 6
    return _ALPHABET[ten_bits >> 5] + _ALPHABET[ten_bits & 31]
