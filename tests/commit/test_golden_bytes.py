"""The recorded bytes are the contract with the SQL side, which produces the same."""

import json
from base64 import b32decode
from pathlib import Path
from uuid import UUID

import cbor2
import pytest

from pgpeer.commit.cid import COMMIT_PREFIX, SECTION_PREFIX, commit_id, digest_of, digest_of_bytes, section_id
from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.signature import sign_commit, verify_commit
from pgpeer.commit.vector import VectorEntry, vector_digest
from pgpeer.identity.key import PrivateKey

GOLDEN = Path(__file__).parent / "golden"
HEADERS = sorted(GOLDEN.glob("header_*.json"))


def header_of(record: dict) -> Header:
    return Header(
        bundle_id=UUID(record["bundle"]),
        author=bytes.fromhex(record["author"]),
        epoch=record["epoch"],
        seq=record["seq"],
        previous=None if record["prev"] is None else bytes.fromhex(record["prev"]),
        parents=tuple(bytes.fromhex(parent) for parent in record["parents"]),
        hlc=record["hlc"],
        schema=bytes.fromhex(record["schema"]),
        message=record["message"],
        sections=tuple(
            SectionHeader(
                relation_id=UUID(section["relation"]),
                op=section["op"],
                column_ids=tuple(UUID(column) for column in section["columns"]),
                row_count=section["rows"],
                byte_count=section["bytes"],
                digest=bytes.fromhex(section["digest"]),
                unseen=tuple(bytes.fromhex(unseen) for unseen in section["unseen"]),
            )
            for section in record["sections"]
        ),
    )


def encoded_by_another_library(record: dict) -> bytes:
    def link(prefix: bytes, digest: str) -> cbor2.CBORTag:
        return cbor2.CBORTag(42, b"\0" + prefix + bytes.fromhex(digest))

    document = {
        "version": 1,
        "bundle": UUID(record["bundle"]).bytes,
        "author": bytes.fromhex(record["author"]),
        "epoch": record["epoch"],
        "seq": record["seq"],
        "prev": None if record["prev"] is None else link(COMMIT_PREFIX, record["prev"]),
        "parents": [link(COMMIT_PREFIX, parent) for parent in record["parents"]],
        "hlc": record["hlc"],
        "schema": bytes.fromhex(record["schema"]),
        "message": record["message"],
        "sections": [
            {
                "relation": UUID(section["relation"]).bytes,
                "op": section["op"],
                "columns": [UUID(column).bytes for column in section["columns"]],
                "rows": section["rows"],
                "bytes": section["bytes"],
                "cid": link(SECTION_PREFIX, section["digest"]),
                "unseen": [link(COMMIT_PREFIX, unseen) for unseen in section["unseen"]],
            }
            for section in record["sections"]
        ],
    }
    return cbor2.dumps(document, canonical=True)


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_a_header_has_the_recorded_bytes_digest_id_and_signature(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    header = header_of(record["header"])
    key = PrivateKey.from_seed(bytes.fromhex(record["author_seed"]))

    assert key.public_key == header.author
    assert header.encode().hex() == record["encoded"]
    assert header.digest.hex() == record["digest"]
    assert header.commit_id == record["commit_id"]
    assert sign_commit(key, header.digest).hex() == record["signature"]


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_another_cbor_library_writes_the_same_header_bytes(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    assert encoded_by_another_library(record["header"]).hex() == record["encoded"]


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_a_recorded_header_is_read_back_as_it_was(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    assert Header.decode(bytes.fromhex(record["encoded"])) == header_of(record["header"])
    verify_commit(
        bytes.fromhex(record["header"]["author"]),
        bytes.fromhex(record["digest"]),
        bytes.fromhex(record["signature"]),
    )


def test_a_section_has_the_recorded_id() -> None:
    record = json.loads((GOLDEN / "section.json").read_text("utf-8"))
    digest = digest_of_bytes(record["data"].encode("utf-8"))
    assert digest.hex() == record["digest"]
    assert section_id(digest) == record["section_id"]
    assert digest_of(record["section_id"]) == digest


def test_a_peer_id_is_the_recorded_one() -> None:
    record = json.loads((GOLDEN / "peer_id.json").read_text("utf-8"))
    key = PrivateKey.from_seed(bytes.fromhex(record["seed"]))
    assert key.public_key.hex() == record["public_key"]
    assert key.peer_id == record["peer_id"]


def test_a_vector_has_the_recorded_digest() -> None:
    record = json.loads((GOLDEN / "vector.json").read_text("utf-8"))
    entries = [
        VectorEntry(bytes.fromhex(author), epoch, seq, bytes.fromhex(head))
        for author, epoch, seq, head in record["entries"]
    ]
    assert vector_digest(entries).hex() == record["digest"]
    assert vector_digest(reversed(entries)) == vector_digest(entries)


def test_ids_start_as_ipfs_tools_expect() -> None:
    digest = digest_of_bytes(b"")
    assert commit_id(digest).startswith("bafyrei")
    assert section_id(digest).startswith("bafkrei")
    assert b32decode(commit_id(digest)[1:].upper() + "======") == b"\x01\x71\x12\x20" + digest
