"""What peers tell each other apart from bundles: friendship notices, and where they can be reached.

Both are signed records whose numbers grow, so that they can travel by any way and an older one that comes
again changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgpeer.errors import IdentityError
from pgpeer.identity.device import SignedDevice, read_device
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.record import number_field, open_record, peer_field, sign_record, text_field

FRIEND_DOMAIN: Final = "friend"
PEER_DOMAIN: Final = "peer-record"
KINDS: Final = frozenset({"request", "accept", "end", "introduce"})
NOTE_CHARACTERS_LIMIT: Final = 500
LABEL_CHARACTERS_LIMIT: Final = 200
ADDRESSES_LIMIT: Final = 16
ADDRESS_PATTERN: Final = re.compile(r"(tls|ws|wss)://[^\s]{1,500}")


@dataclass(frozen=True, slots=True)
class FriendNotice:
    """One word of friendship.

    Attributes:
        sender: peer id of who says it.
        recipient: peer id of whom it is for; worth nothing to anybody else.
        kind: one of `KINDS`.
        seq: grows with every notice of the sender.
        label: what the sender calls itself; of an introduction: what it calls the subject.
        note: for people.
        subject: peer id of who is introduced; else empty.
        device: the certificate that the sender is a device of some owner; None: it shows none.
    """

    sender: str
    recipient: str
    kind: str
    seq: int
    label: str = ""
    note: str = ""
    subject: str = ""
    device: SignedDevice | None = None


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer says that it can be reached.

    Attributes:
        peer_id: whose it is, and who signs it.
        seq: grows with every new record; milliseconds of unix time will do.
        label: what the peer calls itself.
        addresses: tls://host:port, or ws:// or wss:// URLs of hubs where it is.
    """

    peer_id: str
    seq: int
    label: str = ""
    addresses: tuple[str, ...] = ()


def sign_notice(
    key: PrivateKey,
    recipient: str,
    kind: str,
    seq: int,
    *,
    label: str = "",
    note: str = "",
    subject: str = "",
    device: bytes = b"",
) -> bytes:
    """Make a notice in the name of the key; `device` is the record of the sender's own device certificate.

    Raises:
        IdentityError: a field is outside its limits.
    """
    document = {"to": recipient, "kind": kind, "seq": seq, "label": label, "note": note, "subject": subject}
    if device:
        document["device"] = device.hex()
    record = sign_record(key, FRIEND_DOMAIN, document)
    read_notice(record, recipient=recipient)
    return record


def read_notice(record: bytes, *, recipient: str) -> FriendNotice:
    """Check a notice and give it.

    Raises:
        IdentityError: it is malformed, not signed by its sender, or for somebody else or with the certificate
            of another device (`identity_mismatch`).
    """
    document = open_record(record, FRIEND_DOMAIN)
    notice = FriendNotice(
        sender=peer_field(document, "from", FRIEND_DOMAIN),
        recipient=peer_field(document, "to", FRIEND_DOMAIN),
        kind=text_field(document, "kind", FRIEND_DOMAIN, 16),
        seq=number_field(document, "seq", FRIEND_DOMAIN, 1),
        label=text_field(document, "label", FRIEND_DOMAIN, LABEL_CHARACTERS_LIMIT),
        note=text_field(document, "note", FRIEND_DOMAIN, NOTE_CHARACTERS_LIMIT),
        subject=text_field(document, "subject", FRIEND_DOMAIN, 64),
        device=_device_in(document),
    )
    if notice.kind not in KINDS or (notice.kind == "introduce") != bool(notice.subject):
        raise IdentityError(f"A notice of the unknown kind '{notice.kind}' was refused.", code="bad_message")
    if notice.subject:
        peer_field(document, "subject", FRIEND_DOMAIN)
    if notice.recipient != recipient:
        raise IdentityError("A notice is meant for another peer.", code="identity_mismatch")
    if notice.device is not None and notice.device.certificate.device != notice.sender:
        raise IdentityError("A notice shows the certificate of another device.", code="identity_mismatch")
    return notice


def _device_in(document: Mapping[str, object]) -> SignedDevice | None:
    """The certificate in a notice; raises IdentityError when there is none that can be read in its place."""
    shown = document.get("device")
    if shown is None:
        return None
    try:
        record = bytes.fromhex(shown) if isinstance(shown, str) else b""
    except ValueError:
        record = b""
    return read_device(record)


def sign_peer_record(key: PrivateKey, seq: int, label: str, addresses: Sequence[str]) -> bytes:
    """Make a peer record in the name of the key.

    Raises:
        IdentityError: a field is outside its limits.
    """
    record = sign_record(key, PEER_DOMAIN, {"seq": seq, "label": label, "addresses": sorted(set(addresses))})
    read_peer_record(record)
    return record


def read_peer_record(record: bytes) -> PeerRecord:
    """Check a peer record and give it.

    Raises:
        IdentityError: it is malformed, or not signed by its peer.
    """
    document = open_record(record, PEER_DOMAIN)
    addresses = document.get("addresses")
    if (
        not isinstance(addresses, list)
        or len(addresses) > ADDRESSES_LIMIT
        or not all(isinstance(one, str) and ADDRESS_PATTERN.fullmatch(one) for one in addresses)
    ):
        raise IdentityError("A peer record names addresses in a malformed way.", code="bad_message")
    return PeerRecord(
        peer_id=peer_field(document, "from", PEER_DOMAIN),
        seq=number_field(document, "seq", PEER_DOMAIN, 1),
        label=text_field(document, "label", PEER_DOMAIN, LABEL_CHARACTERS_LIMIT),
        addresses=tuple(addresses),
    )
