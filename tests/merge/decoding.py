"""An independent decoder of commit headers and section bytes: cbor2 and the written format, nothing else.

Every rule of the format is checked on the way: one encoding only, sorted lists, digests, counts, line ends
and escapes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cbor2

from .oracle import DELETE, INSERT, UPDATE, Commit, Operation

COMMIT_CID = bytes((0x01, 0x71, 0x12, 0x20))
SECTION_CID = bytes((0x01, 0x55, 0x12, 0x20))
HEADER_KEYS = {
    *(
        "hlc",
        "seq",
        "prev",
        "epoch",
        "author",
        "bundle",
        "schema",
        "message",
        "parents",
        "version",
        "sections",
    ),
}
SECTION_KEYS = {"op", "cid", "rows", "bytes", "unseen", "columns", "relation"}
FIELD = re.compile(r"(?:\\N|(?:[^\\\t\n\r]|\\[\\tnr])*)\Z")
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Section:
    """A section as the header describes it."""

    op: str
    relation: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    digest: bytes
    unseen: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """A commit header, decoded."""

    digest: bytes
    bundle: str
    author: bytes
    epoch: int
    seq: int
    previous: bytes | None
    parents: tuple[bytes, ...]
    hlc: int
    schema: bytes
    message: str | None
    sections: tuple[Section, ...]


@lru_cache(maxsize=4096)
def decode_header(header: bytes) -> Header:
    """Decode a header and check every rule of its form; AssertionError when one is broken."""
    stream = io.BytesIO(header)
    value: dict[str, Any] = cbor2.CBORDecoder(stream).decode()
    assert stream.read() == b"", "bytes after the header"
    assert cbor2.dumps(value, canonical=True) == header, "the header is not in its one deterministic encoding"
    assert set(value) == HEADER_KEYS, f"header keys {sorted(value)}"
    assert value["version"] == 1
    parents = tuple(link(parent, COMMIT_CID) for parent in value["parents"])
    assert list(parents) == sorted(set(parents)), "parents are not sorted or not unique"
    sections = tuple(decode_section_header(section) for section in value["sections"])
    previous = None if value["prev"] is None else link(value["prev"], COMMIT_CID)
    assert len(value["author"]) == 32
    assert len(value["schema"]) == 32
    return Header(
        hashlib.sha256(header).digest(),
        str(uuid.UUID(bytes=value["bundle"])),
        value["author"],
        value["epoch"],
        value["seq"],
        previous,
        parents,
        value["hlc"],
        value["schema"],
        value["message"],
        sections,
    )


def decode_section_header(value: dict[str, Any]) -> Section:
    """Decode one section's description."""
    assert set(value) == SECTION_KEYS, f"section keys {sorted(value)}"
    assert value["op"] in (INSERT, UPDATE, DELETE, "SCHEMA"), value["op"]
    unseen = tuple(link(commit, COMMIT_CID) for commit in value["unseen"])
    assert list(unseen) == sorted(set(unseen)), "unseen is not sorted or not unique"
    columns = tuple(str(uuid.UUID(bytes=column)) for column in value["columns"])
    assert len(set(columns)) == len(columns)
    relation = str(uuid.UUID(bytes=value["relation"]))
    digest = link(value["cid"], SECTION_CID)
    return Section(value["op"], relation, columns, value["rows"], value["bytes"], digest, unseen)


def link(value: Any, prefix: bytes) -> bytes:
    """The digest in a tag-42 link."""
    assert isinstance(value, cbor2.CBORTag)
    assert value.tag == 42
    assert value.value[:5] == b"\0" + prefix
    assert len(value.value) == 37
    return value.value[5:]


def decode_section(section: Section, data: bytes) -> list[Operation]:
    """The operations in a section's bytes; none for a schema section."""
    assert hashlib.sha256(data).digest() == section.digest, "a section's bytes do not have its digest"
    assert len(data) == section.bytes
    assert data.endswith(b"\n") or not data
    if section.op == "SCHEMA":
        json.loads(data)
        return []
    lines = data.decode("utf-8").split("\n")[:-1]
    assert len(lines) == section.rows
    assert 0 < len(lines) <= 8192
    assert section.columns or section.op in (DELETE, INSERT)
    assert not (section.op == DELETE and section.columns)
    keys = []
    operations = []
    for line in lines:
        fields = line.split("\t")
        assert all(FIELD.match(f) for f in fields), f"not COPY text: {line!r}"
        width = len(fields) - len(section.columns)
        assert width > 0, f"no key in the line {line!r}"
        key, cells = "\t".join(fields[:width]), tuple(zip(section.columns, fields[width:], strict=True))
        assert "\\N" not in fields[:width], "NULL in a key"
        keys.append(key.encode())
        operations.append(Operation(section.op, section.relation, key, cells, frozenset(section.unseen)))
    assert keys == sorted(set(keys)), "lines are not sorted by key or not unique"
    return operations


def decode_commit(header: bytes, sections: list[bytes]) -> Commit:
    """The oracle's commit for a header and the bytes of its sections, in order."""
    decoded = decode_header(header)
    operations = [
        operation
        for section, data in zip(decoded.sections, sections, strict=True)
        for operation in decode_section(section, data)
    ]
    written: dict[tuple[str, str], list[Operation]] = {}
    for operation in operations:
        earlier = written.setdefault((operation.relation, operation.key), [])
        columns = {column for other in earlier for column, _ in other.cells}
        assert not earlier or (
            {operation.op, *(other.op for other in earlier)} == {UPDATE}
            and not columns & {column for column, _ in operation.cells}
        ), f"two operations on {operation.key!r} in one commit: {earlier} and {operation}"
        earlier.append(operation)
    return Commit(
        decoded.digest,
        decoded.author,
        decoded.hlc,
        frozenset(decoded.parents),
        tuple(operations),
        decoded.epoch,
        decoded.seq,
        decoded.previous,
    )


def escape(value: str | None) -> str:
    r"""A value as COPY text: `\N` for NULL, escapes for backslash, tab, newline and carriage return only."""
    if value is None:
        return "\\N"
    return "".join(ESCAPES.get(character, character) for character in value)


def unescape(text: str) -> str | None:
    """The value of a COPY text field, None for NULL."""
    if text == "\\N":
        return None
    plain = {code: value for value, code in ESCAPES.items()}
    return re.sub(r"\\[\\tnr]", lambda match: plain[match[0]], text)
