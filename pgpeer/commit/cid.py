"""Content ids: a commit or a section named by the sha256 of its bytes, as CIDv1 that any IPFS tool reads."""

from __future__ import annotations

import hashlib
from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from typing import Final

from pgpeer.errors import CommitError

DIGEST_BYTES: Final = 32
COMMIT_PREFIX: Final = bytes.fromhex("01711220")
"""CIDv1, dag-cbor, sha2-256, 32 bytes."""
SECTION_PREFIX: Final = bytes.fromhex("01551220")
"""CIDv1, raw, sha2-256, 32 bytes."""

_CID_CHARACTERS: Final = 59


def digest_of_bytes(data: bytes) -> bytes:
    """Give the sha256 of a header's or section's bytes."""
    return hashlib.sha256(data).digest()


def commit_id(digest: bytes) -> str:
    """Give a commit's id, "bafyrei…", 59 characters, from its header's 32-byte digest."""
    return _cid(COMMIT_PREFIX, digest)


def section_id(digest: bytes) -> str:
    """Give a section's id, "bafkrei…", 59 characters, from its data's 32-byte digest."""
    return _cid(SECTION_PREFIX, digest)


def digest_of(cid: str) -> bytes:
    """Give the 32-byte digest that a commit id or section id stands for.

    Raises:
        CommitError: the text is not the canonical form of such an id.
    """
    if len(cid) == _CID_CHARACTERS and cid.startswith("b") and cid.isascii():
        try:
            binary = b32decode(cid[1:].upper() + "======")
        except Base32Error:
            binary = b""
        prefix, digest = binary[: len(COMMIT_PREFIX)], binary[len(COMMIT_PREFIX) :]
        if prefix in (COMMIT_PREFIX, SECTION_PREFIX) and _cid(prefix, digest) == cid:
            return digest
    raise CommitError(
        f"'{cid[:80]}' is not the id of a commit or section.",
        remedy="Copy the whole id from 'SELECT * FROM peer.log(…)'.",
        code="id_unknown",
    )


def _cid(prefix: bytes, digest: bytes) -> str:
    if len(digest) != DIGEST_BYTES:
        raise CommitError(f"A digest has {DIGEST_BYTES} bytes, not {len(digest)}.", code="internal")
    return "b" + b32encode(prefix + digest).decode("ascii").rstrip("=").lower()
