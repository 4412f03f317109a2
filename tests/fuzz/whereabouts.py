"""Targets that tell where peers are: the question for friends, and what members say in a bundle's namespace."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode

from pgpeer.commit import dag_cbor
from pgpeer.identity.key import seal_to
from pgpeer.identity.notice import sign_peer_record
from pgpeer.protocol.payload import read_payload
from pgpeer.signaling.membership import Membership, Space, _expected
from pgpeer.signaling.record import Registration
from pgpeer.worker.seeking import Search

from .signalling import ALICE, BOB

SALT = b"s" * 16
SPACE = Space(b"b" * 16)


def search(data: bytes) -> None:
    """A question for friends, as JSON."""
    payload = read_payload(data.decode("utf-8", "surrogateescape"))
    asked = Search.read(ALICE.peer_id, BOB.peer_id, payload.get("search"))
    assert Search.read(ALICE.peer_id, BOB.peer_id, asked.payload()) == asked


def search_samples() -> list[bytes]:
    asked = Search.of(ALICE.peer_id, BOB.peer_id, SALT, [BOB.peer_id])
    return [json.dumps({"search": asked.payload()}).encode(), b'{"search":{"salt":"","hashes":[]}}']


def membership(data: bytes) -> None:
    """What a member says, sealed for the namespace as any member can seal."""
    body = b64encode(seal_to(SPACE._key.public_key, data)).decode()
    said = SPACE.read(Registration(ALICE.peer_id, SPACE.name, 1, 2**40, body))
    again = Registration(ALICE.peer_id, SPACE.name, 1, 2**40, SPACE.seal(ALICE.peer_id, said))
    assert SPACE.read(again) == said


def membership_samples() -> list[bytes]:
    record = sign_peer_record(ALICE, 17, "alice", ["tls://192.168.10.4:5432"])
    made = [Membership(), Membership("wss://hub.example"), Membership("wss://hub.example", record)]
    packed = [dag_cbor.array([dag_cbor.text(one.relay), dag_cbor.byte_string(one.record)]) for one in made]
    return [_pack(one) for one in packed] + [_pack(bytes(2**16))]


def _pack(said: bytes) -> bytes:
    packing = zlib.compressobj(level=9, wbits=-15, zdict=_expected(ALICE.peer_id))
    return packing.compress(said) + packing.flush()
