r"""Signing, verifying, sealing: the only place that touches libsodium.

What is signed is always `b"pgpeer/v1/" + domain + b"\0" + payload`, so that a signature made for one
purpose is worth nothing for another.
"""

from __future__ import annotations

from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey, VerifyKey

from pgpeer.errors import IdentityError
from pgpeer.identity.peer_id import PUBLIC_KEY_BYTES, peer_id_from_public_key

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SEAL_OVERHEAD_BYTES: Final = 48


class PrivateKey:
    """An Ed25519 private key. Its `repr` shows the peer id only."""

    __slots__ = ("_key", "peer_id", "public_key")

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.public_key: bytes = bytes(key.verify_key)
        self.peer_id: str = peer_id_from_public_key(self.public_key)

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new key from the operating system's randomness."""
        return cls(SigningKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """Make the key that belongs to a 32-byte seed.

        Raises:
            IdentityError: the seed has another length.
        """
        if len(seed) != SEED_BYTES:
            raise IdentityError(f"A key seed has {SEED_BYTES} bytes, not {len(seed)}.")
        return cls(SigningKey(seed))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for the key file only."""
        return bytes(self._key)

    def sign(self, domain: str, payload: bytes) -> bytes:
        """Give the 64-byte signature of a payload for one purpose (`domain`, ASCII without NUL)."""
        return self._key.sign(_signed_bytes(domain, payload)).signature

    def open(self, box: bytes) -> bytes:
        """Give the plain text of a box that `seal_to` made for this key.

        Raises:
            IdentityError: the box was made for another key or was changed.
        """
        try:
            return SealedBox(self._key.to_curve25519_private_key()).decrypt(box)
        except (CryptoError, ValueError) as error:
            raise IdentityError("A sealed message cannot be opened with this key.") from error

    def __repr__(self) -> str:
        return f"PrivateKey({self.peer_id})"


def verify(public_key: bytes, domain: str, payload: bytes, signature: bytes) -> None:
    """Return when the signature is the key's for this payload and purpose.

    Raises:
        IdentityError: it is not, or the key or the signature has a wrong length (code `bad_signature`).
    """
    message = _signed_bytes(domain, payload)
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise IdentityError("A signature or public key has the wrong length.", code="bad_signature")
    try:
        VerifyKey(public_key).verify(message, signature)
    except (CryptoError, ValueError) as error:
        raise IdentityError(
            f"A '{domain}' signature is not that of {peer_id_from_public_key(public_key)}.",
            code="bad_signature",
        ) from error


def seal_to(recipient_public_key: bytes, plaintext: bytes) -> bytes:
    """Encrypt so that only the holder of the recipient's key can read; the sender stays anonymous.

    Returns:
        A libsodium sealed box, 48 bytes longer than the plain text.

    Raises:
        IdentityError: the recipient's key is not a usable Ed25519 key.
    """
    if len(recipient_public_key) != PUBLIC_KEY_BYTES:
        raise IdentityError(f"A public key has {PUBLIC_KEY_BYTES} bytes, not {len(recipient_public_key)}.")
    try:
        return SealedBox(VerifyKey(recipient_public_key).to_curve25519_public_key()).encrypt(plaintext)
    except (CryptoError, ValueError) as error:
        raise IdentityError("The recipient's public key is not a usable Ed25519 key.") from error


def _signed_bytes(domain: str, payload: bytes) -> bytes:
    if not domain or not domain.isascii() or "\0" in domain:
        raise IdentityError(f"'{domain!r}' cannot be a signature's domain.", code="internal")
    return b"pgpeer/v1/" + domain.encode("ascii") + b"\0" + payload
