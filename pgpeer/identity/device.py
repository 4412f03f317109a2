"""Devices of one owner: the word of an owner's key that a peer is its device, or is one no longer.

The owner's key is an ordinary Ed25519 key that no database uses and that is kept where nobody gets at it.
Each device has a key of its own. A certificate names one peer id, so it is worth nothing to another peer. Of
the words about one device the one with the highest number counts; of two with one number the revocation:
removal wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgpeer.errors import IdentityError
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.record import (
    number_field,
    open_record,
    peer_field,
    record_digest,
    sign_record,
    text_field,
)

DEVICE_DOMAIN: Final = "device"
LABEL_CHARACTERS_LIMIT: Final = 200
MEMBERS: Final = frozenset({"device", "from", "issued", "label", "revoked", "seq"})


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """One word of an owner about one device.

    Attributes:
        owner: id of the owner's key, which has signed it; in the form of a peer id.
        device: peer id of the device.
        seq: grows with every word about the device; milliseconds of unix time will do.
        issued: when it was signed, in unix seconds; for people, nothing is decided by it.
        label: what the device is called; for people.
        is_revoked: whether the device is none of the owner's any more.
    """

    owner: str
    device: str
    seq: int
    issued: int = 0
    label: str = ""
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class SignedDevice:
    """A certificate whose signature is right, with its digest (its name) and its record (what travels)."""

    certificate: DeviceCertificate
    digest: bytes
    record: bytes


def sign_device(
    owner: PrivateKey, device: str, seq: int, *, issued: int = 0, label: str = "", is_revoked: bool = False
) -> SignedDevice:
    """Make a certificate, or a revocation, in the name of an owner's key.

    Raises:
        IdentityError: a field is outside its limits, or the device is the owner's key itself.
    """
    document = {"device": device, "seq": seq, "issued": issued, "label": label, "revoked": is_revoked}
    return read_device(sign_record(owner, DEVICE_DOMAIN, document))


def read_device(record: bytes) -> SignedDevice:
    """Check a record and give the certificate in it.

    Raises:
        IdentityError: it is malformed, or not signed by the owner that it names.
    """
    document = open_record(record, DEVICE_DOMAIN)
    if set(document) != MEMBERS:
        raise _refused("it has not exactly the members of one")
    is_revoked = document["revoked"]
    if not isinstance(is_revoked, bool):
        raise _refused("'revoked' is neither true nor false")
    certificate = DeviceCertificate(
        owner=peer_field(document, "from", DEVICE_DOMAIN),
        device=peer_field(document, "device", DEVICE_DOMAIN),
        seq=number_field(document, "seq", DEVICE_DOMAIN, 1),
        issued=number_field(document, "issued", DEVICE_DOMAIN),
        label=text_field(document, "label", DEVICE_DOMAIN, LABEL_CHARACTERS_LIMIT),
        is_revoked=is_revoked,
    )
    if certificate.owner == certificate.device:
        raise _refused("an owner's key is no device")
    return SignedDevice(certificate, record_digest(record), record)


def _refused(reason: str) -> IdentityError:
    return IdentityError(f"A device certificate was refused: {reason}.", code="bad_message")
