"""How single values stand in the JSON of a message: written by `write`, read and checked by `read`."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.messages import (
    NONCE_BYTES,
    PROTOCOL_VERSION,
    URL_CHARACTERS_LIMIT,
    is_label,
)
from pgpeer.signaling.signal import SID_PATTERN, is_encodable

NAMESPACE_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
LARGEST_NUMBER: Final = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: how it is written, and how what came is read (or refused with the error below)."""

    write: Callable[[Any], object]
    read: Callable[[object], object]


def refuse(reason: str, *, code: str = "bad_message") -> NoReturn:
    """Refuse a message.

    Raises:
        RemoteProtocolError: always.
    """
    raise RemoteProtocolError(
        f"A signalling message cannot be read: {reason}.", code=code, phase="signalling"
    )


def text(limit: int, *, empty: bool = False) -> Kind:
    """A text of at most `limit` characters."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > limit or not is_encodable(value):
            refuse(f"a value is not a text of at most {limit} characters")
        if not (value or empty):
            refuse("a text is empty")
        return value

    return Kind(str, read)


def number(lowest: int, highest: int = LARGEST_NUMBER) -> Kind:
    """A whole number."""

    def read(value: object) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            refuse(f"a value is not a number from {lowest} to {highest}")
        return value

    return Kind(int, read)


def several(kind: Kind, limit: int = 1_000_000) -> Kind:
    """A list of at most `limit` values of one kind."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list) or len(value) > limit:
            refuse(f"a value is not a list of at most {limit}")
        return tuple(kind.read(one) for one in value)

    return Kind(lambda values: [kind.write(one) for one in values], read)


def content(limit: int = 1_000_000) -> Kind:
    """Bytes, as base64."""

    def read(value: object) -> bytes:
        if not isinstance(value, str) or not value.isascii():
            refuse("a value is not base64")
        try:
            found = b64decode(value, validate=True)
        except Base64Error:
            refuse("a value is not base64")
        if len(found) > limit:
            refuse(f"a value has more than {limit} bytes", code="too_large")
        return found

    return Kind(lambda value: b64encode(value).decode("ascii"), read)


def _read_peer_id(value: object) -> str:
    if not isinstance(value, str):
        refuse("a peer id is not a text")
    if not is_encodable(value):
        refuse("a peer id is malformed", code="id_unknown")
    try:
        public_key_from_peer_id(value)
    except IdentityError as error:
        refuse(f"a peer id is malformed ({error})", code="id_unknown")
    return value


def _read_label(value: object) -> str:
    if not isinstance(value, str) or not is_label(value):
        refuse("a label is malformed")
    return value


def _read_sid(value: object) -> str:
    if not isinstance(value, str) or not SID_PATTERN.fullmatch(value):
        refuse("'sid' is malformed")
    return value


def _read_namespace(value: object) -> str:
    if not isinstance(value, str) or not NAMESPACE_PATTERN.fullmatch(value):
        refuse("a namespace is not 1 to 128 of A-Z a-z 0-9 _ . : -")
    return value


def _read_nonce(value: object) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if len(found) != NONCE_BYTES:
        refuse(f"'nonce' is not {2 * NONCE_BYTES} hexadecimal digits")
    return found


def _read_versions(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or PROTOCOL_VERSION not in value:
        refuse(f"the hub does not speak version {PROTOCOL_VERSION}", code="version_mismatch")
    return (PROTOCOL_VERSION,)


def _read_lease(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        refuse("'lease' is not a time")
    return float(value)


def _read_labels(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        refuse("'online' is not an object")
    return {_read_peer_id(peer_id): _read_label(label) for peer_id, label in value.items()}


def _read_features(value: object) -> tuple[str, ...]:
    """Unknown features are those of a later version: only their form is checked."""
    if not isinstance(value, list) or len(value) > 64:
        refuse("'features' is not a list")
    return tuple(str(FEATURE.read(one)) for one in value)


FEATURE: Final = text(32)
FEATURES: Final = Kind(list, _read_features)
FLAG: Final = Kind(bool, lambda value: value is True)
LABEL: Final = Kind(str, _read_label)
LABELS: Final = Kind(dict, _read_labels)
LEASE: Final = Kind(float, _read_lease)
NAMESPACE: Final = Kind(str, _read_namespace)
NONCE: Final = Kind(bytes.hex, _read_nonce)
NUMBER: Final = number(0)
PEER_ID: Final = Kind(str, _read_peer_id)
SID: Final = Kind(str, _read_sid)
URL: Final = text(URL_CHARACTERS_LIMIT)
VERSIONS: Final = Kind(list, _read_versions)
