"""Signed records: a 64-byte Ed25519 signature and the JSON object that it signs, for one purpose.

The object has exactly one spelling (sorted keys, no blanks, UTF-8), so that equal records are equal bytes
and one digest names them. SQL reads the same bytes as jsonb. The form is that of the hub's documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from pgpeer.errors import IdentityError
from pgpeer.identity.key import SIGNATURE_BYTES, PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id

RECORD_BYTES_LIMIT: Final = 16 * 1024
"""No record is longer."""

LARGEST_NUMBER: Final = 2**53 - 1
"""Numbers are held exactly by every JSON reader."""


def sign_record(key: PrivateKey, domain: str, document: Mapping[str, object]) -> bytes:
    """Give the record that says `document` in the name of the key; `from` is added.

    Args:
        key: the signer's.
        domain: the purpose; a record of one purpose is worth nothing for another.
        document: what JSON can say.

    Raises:
        IdentityError: the record would be longer than `RECORD_BYTES_LIMIT` (code `too_large`).
    """
    body = _encoded({**document, "from": key.peer_id})
    record = key.sign(domain, body) + body
    if len(record) > RECORD_BYTES_LIMIT:
        raise IdentityError(
            f"A '{domain}' record is longer than {RECORD_BYTES_LIMIT} bytes.", code="too_large"
        )
    return record


def open_record(record: bytes, domain: str) -> dict[str, object]:
    """Check a record and give what it says; `from` is the peer id of who has signed it.

    Raises:
        IdentityError: it is malformed or not in its one spelling (`bad_message`), too long (`too_large`), or
            not signed by the peer that it names (`bad_signature`).
    """
    if len(record) > RECORD_BYTES_LIMIT:
        raise _refused(domain, f"it is longer than {RECORD_BYTES_LIMIT} bytes", "too_large")
    body = record[SIGNATURE_BYTES:]
    try:
        document = json.loads(body)
        is_canonical = isinstance(document, dict) and _encoded(document) == body
    except (ValueError, RecursionError) as error:
        raise _refused(domain, "it is malformed", "bad_message") from error
    if not is_canonical:
        raise _refused(domain, "it is not in its one spelling", "bad_message")
    signer = document.get("from")
    if not isinstance(signer, str):
        raise _refused(domain, "it names no signer", "bad_message")
    verify(public_key_from_peer_id(signer), domain, body, record[:SIGNATURE_BYTES])
    return dict(document)


def record_digest(record: bytes) -> bytes:
    """Give the 32-byte name of a record: the sha256 of what it says, whatever its signature."""
    return hashlib.sha256(record[SIGNATURE_BYTES:]).digest()


def supersedes(seq: int, record: bytes, known_seq: int | None, known: bytes | None) -> bool:
    """Whether a record takes the place of the newest known one of the same signer and purpose.

    Args:
        seq: its number, which grows with every new record.
        record: its bytes.
        known_seq: the number of the newest known one; None when none is known.
        known: the bytes of that one.

    Returns:
        False when it is that same record.

    Raises:
        IdentityError: a newer one is known (`replay`), or another one of this number (`equivocation`): who
            signs two things under one number was copied, or lies.
    """
    if known_seq is None or known is None or seq > known_seq:
        return True
    if seq < known_seq:
        raise IdentityError(
            f"A record with number {seq} came after one with number {known_seq}.", code="replay"
        )
    if record_digest(record) != record_digest(known):
        raise IdentityError(f"Two different records have the number {seq}.", code="equivocation")
    return False


def text_field(document: Mapping[str, object], name: str, domain: str, limit: int) -> str:
    """Read a text of at most `limit` characters without control characters.

    Raises:
        IdentityError: it is something else (`bad_message`).
    """
    value = document.get(name)
    if not isinstance(value, str) or len(value) > limit or any(ord(one) < 32 for one in value):
        raise _refused(domain, f"'{name}' is not a text of at most {limit} characters", "bad_message")
    return value


def number_field(document: Mapping[str, object], name: str, domain: str, least: int = 0) -> int:
    """Read a number from `least` to 2⁵³ - 1; raises as `text_field`."""
    value = document.get(name)
    if type(value) is not int or not least <= value <= LARGEST_NUMBER:
        raise _refused(domain, f"'{name}' is not a number from {least} on", "bad_message")
    return value


def digests_field(document: Mapping[str, object], name: str, domain: str, limit: int) -> tuple[bytes, ...]:
    """Read a sorted list of at most `limit` different sha256 digests; raises as `text_field`."""
    value = document.get(name)
    try:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError(name)
        digests = tuple(bytes.fromhex(one) for one in value)
        is_canonical = [one.hex() for one in sorted(set(digests))] == value
    except (ValueError, TypeError) as error:
        raise _refused(domain, f"'{name}' is not a list of digests", "bad_message") from error
    if not is_canonical or any(len(one) != 32 for one in digests):
        raise _refused(domain, f"'{name}' is not a sorted list of digests", "bad_message")
    return digests


def peer_field(document: Mapping[str, object], name: str, domain: str) -> str:
    """Read a peer id; raises as `text_field`, or that it is none (`id_unknown`)."""
    peer_id = text_field(document, name, domain, 64)
    public_key_from_peer_id(peer_id)
    return peer_id


def _encoded(document: Mapping[str, object]) -> bytes:
    return json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    ).encode("utf-8")


def _refused(domain: str, reason: str, code: str) -> IdentityError:
    return IdentityError(f"A '{domain}' record was refused: {reason}.", code=code)
