"""The part of DAG-CBOR that headers use: writing it in its one canonical form, and reading only that form.

The reader is told what comes next and refuses everything else, so what it accepts is canonical by
construction, and a hostile input costs no more memory or time than an honest one of its size.
"""

from __future__ import annotations

from typing import Final

from pgpeer.errors import CommitError

INTEGER_LIMIT: Final = 2**63
"""Integers are below this, as PostgreSQL's bigint."""

UNSIGNED: Final = 0
BYTES: Final = 2
TEXT: Final = 3
ARRAY: Final = 4
MAP: Final = 5
TAG: Final = 6

NULL: Final = b"\xf6"
LINK_TAG: Final = 42


def head(major: int, argument: int) -> bytes:
    """Give the shortest head for a major type and its argument (0 ≤ argument < 2⁶⁴)."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    if argument < 0x100:
        return bytes((major << 5 | 24, argument))
    if argument < 0x10000:
        return bytes((major << 5 | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x1_0000_0000:
        return bytes((major << 5 | 26,)) + argument.to_bytes(4, "big")
    return bytes((major << 5 | 27,)) + argument.to_bytes(8, "big")


def unsigned(value: int) -> bytes:
    """Encode a non-negative integer."""
    return head(UNSIGNED, value)


def byte_string(value: bytes) -> bytes:
    """Encode a byte string."""
    return head(BYTES, len(value)) + value


def text(value: str) -> bytes:
    """Encode a text as UTF-8."""
    encoded = value.encode("utf-8")
    return head(TEXT, len(encoded)) + encoded


def array(items: list[bytes]) -> bytes:
    """Encode an array of items that are encoded already."""
    return head(ARRAY, len(items)) + b"".join(items)


def mapping(items: list[tuple[str, bytes]]) -> bytes:
    """Encode a map from text keys to encoded values, given shortest key first, then by bytes."""
    return head(MAP, len(items)) + b"".join(text(key) + value for key, value in items)


def link(binary_cid: bytes) -> bytes:
    """Encode a link to a CID in binary form."""
    return head(TAG, LINK_TAG) + byte_string(b"\0" + binary_cid)


class Reader:
    """Reads canonical DAG-CBOR from the front of `data`, one expected item after the other.

    Every method raises CommitError when something else stands there.
    """

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def length(self, major: int, limit: int) -> int:
        """Read a head of the major type and give its argument, which may be at most `limit`."""
        data, position = self._data, self._position
        if position >= len(data):
            raise _bad("it ends too early")
        initial = data[position]
        if initial >> 5 != major:
            raise _bad(f"an item of another type stands at byte {position}")
        small = initial & 31
        if small < 24:
            argument, size = small, 0
        elif small <= 27:
            size = 1 << (small - 24)
            follow = data[position + 1 : position + 1 + size]
            if len(follow) < size:
                raise _bad("it ends too early")
            argument = int.from_bytes(follow, "big")
            if argument < (24 if size == 1 else 1 << (4 * size)):
                raise _bad(f"a number is not in its shortest form at byte {position}")
        else:
            raise _bad(f"a length is open at byte {position}")
        if argument > limit:
            raise _bad(f"a number or length is above its limit at byte {position}")
        self._position = position + 1 + size
        return argument

    def unsigned(self) -> int:
        """Read a non-negative integer below 2⁶³."""
        return self.length(UNSIGNED, INTEGER_LIMIT - 1)

    def byte_string(self, size: int) -> bytes:
        """Read a byte string of exactly this size."""
        if self.length(BYTES, size) != size:
            raise _bad(f"a byte string is not {size} bytes long")
        return self._take(size)

    def text(self, limit: int) -> str:
        """Read a text of at most `limit` bytes."""
        encoded = self._take(self.length(TEXT, limit))
        try:
            return encoded.decode("utf-8")
        except UnicodeDecodeError:
            raise _bad("a text is not UTF-8") from None

    def key(self, name: str) -> None:
        """Read exactly this map key."""
        if self._take(len(name) + 1) != text(name):
            raise _bad(f"the key '{name}' does not stand where it must")

    def null(self) -> bool:
        """Read a null if one stands here, and tell whether it did."""
        if self._data[self._position : self._position + 1] != NULL:
            return False
        self._position += 1
        return True

    def link(self, prefix: bytes, size: int) -> bytes:
        """Read a link whose binary CID is `prefix` and `size` more bytes; give those."""
        if self.length(TAG, 255) != LINK_TAG:
            raise _bad("a tag is not that of a link")
        content = self.byte_string(1 + len(prefix) + size)
        if not content.startswith(b"\0" + prefix):
            raise _bad("a link is of another kind")
        return content[1 + len(prefix) :]

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._position != len(self._data):
            raise _bad("something follows its end")

    def _take(self, size: int) -> bytes:
        start = self._position
        taken = self._data[start : start + size]
        if len(taken) < size:
            raise _bad("it ends too early")
        self._position = start + size
        return taken


def _bad(reason: str) -> CommitError:
    return CommitError(f"The encoding is not canonical DAG-CBOR: {reason}.", code="bad_message")
