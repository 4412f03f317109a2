"""Targets that are signed records: the body is signed by who sends it, so that what stands behind is reached."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import pytest

from pgpeer.errors import IdentityError
from pgpeer.identity.device import DEVICE_DOMAIN, read_device, sign_device
from pgpeer.identity.grant import GRANT_DOMAIN, read_grant, sign_grant
from pgpeer.identity.key import SIGNATURE_BYTES
from pgpeer.identity.notice import (
    FRIEND_DOMAIN,
    PEER_DOMAIN,
    read_notice,
    read_peer_record,
    sign_notice,
    sign_peer_record,
)
from pgpeer.protocol.payload import read_payload
from pgpeer.signaling.envelope import open_document
from pgpeer.worker.registry import readable

from .signalling import ALICE, BOB

BUNDLE = UUID(int=7)


def _signed(domain: str, body: bytes) -> bytes:
    return ALICE.sign(domain, body) + body


def _refused_with_a_bit_changed(record: bytes, read: Callable[[bytes], object]) -> None:
    """What is accepted is not accepted any more when any part of it is another."""
    for place in (0, SIGNATURE_BYTES - 1, len(record) - 2):
        changed = bytearray(record)
        changed[place] ^= 1
        with pytest.raises(IdentityError):
            read(bytes(changed))


def grant(data: bytes) -> None:
    record = _signed(GRANT_DOMAIN, data)
    read = read_grant(record)
    assert (read.grant.issuer, read.record) == (ALICE.peer_id, record)
    given = read.grant
    again = sign_grant(ALICE, given.bundle_id, given.subject, given.role, given.seq, given.seen, given.fence)
    assert again.digest == read.digest, "a grant has one spelling"
    _refused_with_a_bit_changed(record, read_grant)


def grant_samples() -> list[bytes]:
    made = [
        sign_grant(ALICE, BUNDLE, BOB.peer_id, "writer", 1),
        sign_grant(ALICE, BUNDLE, BOB.peer_id, "removed", 2, [b"s" * 32], [b"f" * 32, b"g" * 32]),
        sign_grant(ALICE, BUNDLE, BOB.peer_id, "successor", 3, [b"t" * 32]),
    ]
    return [one.record[SIGNATURE_BYTES:] for one in made]


def device(data: bytes) -> None:
    record = _signed(DEVICE_DOMAIN, data)
    read = read_device(record)
    said = read.certificate
    assert (said.owner, read.record) == (ALICE.peer_id, record)
    again = sign_device(
        ALICE, said.device, said.seq, issued=said.issued, label=said.label, is_revoked=said.is_revoked
    )
    assert again.digest == read.digest, "a certificate has one spelling"
    _refused_with_a_bit_changed(record, read_device)


def device_samples() -> list[bytes]:
    made = [
        sign_device(ALICE, BOB.peer_id, 1, issued=1_700_000_000, label="laptop"),
        sign_device(ALICE, BOB.peer_id, 2, is_revoked=True),
    ]
    return [one.record[SIGNATURE_BYTES:] for one in made]


def notice(data: bytes) -> None:
    record = _signed(FRIEND_DOMAIN, data)
    read = read_notice(record, recipient=BOB.peer_id)
    assert (read.sender, read.recipient) == (ALICE.peer_id, BOB.peer_id)
    _refused_with_a_bit_changed(record, lambda one: read_notice(one, recipient=BOB.peer_id))
    with pytest.raises(IdentityError):
        read_notice(record, recipient=ALICE.peer_id)


def notice_samples() -> list[bytes]:
    made = [
        sign_notice(ALICE, BOB.peer_id, "request", 1, label="ship", note="It's me"),
        sign_notice(
            ALICE,
            BOB.peer_id,
            "accept",
            3,
            device=sign_device(BOB, ALICE.peer_id, 1).record,
        ),
        sign_notice(ALICE, BOB.peer_id, "introduce", 2, label="shop", subject=ALICE.peer_id),
    ]
    return [one[SIGNATURE_BYTES:] for one in made]


def peer_record(data: bytes) -> None:
    record = _signed(PEER_DOMAIN, data)
    read = read_peer_record(record)
    assert read.peer_id == ALICE.peer_id
    _refused_with_a_bit_changed(record, read_peer_record)


def peer_record_samples() -> list[bytes]:
    record = sign_peer_record(ALICE, 1, "ship", ["tls://192.0.2.1:7432", "wss://hub.example"])
    return [record[SIGNATURE_BYTES:]]


def document(data: bytes) -> None:
    """What a hub passes on, signed for any purpose."""
    assert open_document(_signed("any", data), "any")["from"] == ALICE.peer_id


def document_samples() -> list[bytes]:
    return [json.dumps({"from": ALICE.peer_id, "n": [1, None]}).encode()]


def payload(data: bytes) -> None:
    """The payload of a join as JSON, and the list of grants that may be in it."""
    found = read_payload(data.decode("utf-8", "surrogateescape"))
    assert read_payload(json.dumps(found)) == found
    assert all(isinstance(one, bytes) for one in readable(found.get("grants", [])))


def payload_samples() -> list[bytes]:
    return [json.dumps({"bundle": str(BUNDLE), "grants": [b"record".hex()], "vector": []}).encode()]
