"""Inputs that the decoders accept: where the search begins."""

from __future__ import annotations

import json
from uuid import UUID

from pgpeer.commit import dag_cbor
from pgpeer.commit.cid import commit_id, section_id
from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.section import encode_section
from pgpeer.commit.vector import VectorEntry
from pgpeer.identity.invite import Invite
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.messages import Message
from pgpeer.protocol.packing import Packer
from pgpeer.transport import multipath_frames

KEY = PrivateKey.from_seed(b"f" * 32)
ID = UUID(int=7)
ENTRY = VectorEntry(bytes(32), 1, 2, b"h" * 32)
SECTIONS = (
    SectionHeader(ID, "UPDATE", (UUID(int=8), UUID(int=9)), 2, 30, b"s" * 32, (b"u" * 32, b"v" * 32)),
    SectionHeader(ID, "SCHEMA", (), 0, 2**40, b"t" * 32),
)
HEADERS = (
    Header(ID, KEY.public_key, 0, 1, None, (), 1, bytes(32), None, ()),
    Header(
        ID,
        KEY.public_key,
        5,
        2,
        b"p" * 32,
        (b"a" * 32, b"p" * 32),
        1 << 40,
        b"f" * 32,
        "zwei Städte",
        SECTIONS,
    ),
)
MESSAGES: tuple[Message, ...] = (
    messages.Hello(1, KEY.peer_id, b"\x04" * 32, "harbour"),
    messages.Authentication(b"\x05" * 64),
    messages.Join(ID, bytes(32)),
    messages.JoinAccepted(ID, {"tables": [{"name": "stadt ö"}], "n": [1, None, True, 1.5]}),
    messages.JoinRefused(ID, "refused_policy", "no"),
    messages.Vector(ID, (ENTRY, ENTRY), {b"d" * 32: (1, 300), b"e" * 32: ()}),
    messages.VectorDigest(ID, b"d" * 32),
    messages.VectorRequest(ID),
    messages.Commit(ID, HEADERS[0].encode(), b"\x05" * 64),
    messages.Section(ID, b"d" * 32, 1, False, b"1\tRome\n"),
    messages.Section(ID, b"d" * 32, 2, True, Packer().pack(b"1\tRome\n" * 100)[1]),
    messages.Acknowledgement(ID, (ENTRY,), b""),
    messages.Acknowledgement(ID, (), b"\x05" * 64),
    messages.Grant(300_000),
    messages.Ping(1),
    messages.Pong(1),
    messages.Error("timeout", "sync", True, "slow disk", "wait"),
    messages.Close("remote_closed", "bye"),
)
INVITE = Invite(
    ID,
    UUID(int=8),
    "atlas",
    KEY.peer_id,
    ("ws://hub.example:8080", "wss://hub.example"),
    "writer",
    2_000_000_000,
    b"s" * 32,
)
DESCRIPTION = "\r\n".join(
    (
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:65536",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host",
        "a=candidate:2 1 udp 1694498815 198.51.100.1 40001 typ srflx raddr 192.0.2.1 rport 40000",
        "a=end-of-candidates",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:actpass",
        "",
    )
)


def headers() -> list[bytes]:
    return [header.encode() for header in HEADERS]


def sections() -> list[bytes]:
    return [encode_section(section) for section in SECTIONS]


def items() -> list[bytes]:
    values = [dag_cbor.unsigned(number) for number in (0, 23, 24, 255, 256, 65_536, 2**32, 2**63 - 1)]
    values += [dag_cbor.text("Zürich"), dag_cbor.byte_string(bytes(32)), dag_cbor.NULL]
    values += [dag_cbor.link(b"\1\x71\x12\x20" + bytes(32)), dag_cbor.array([]), dag_cbor.head(5, 70_000)]
    return [*values, b"".join(values)]


def cids() -> list[bytes]:
    return [commit_id(bytes(32)).encode(), section_id(b"\xff" * 32).encode()]


def peer_ids() -> list[bytes]:
    return [KEY.peer_id.encode(), PrivateKey.from_seed(bytes(32)).peer_id.encode()]


def invites() -> list[bytes]:
    return [INVITE.link().encode()]


def invite_documents() -> list[bytes]:
    document = {
        "v": 1,
        "invite": str(INVITE.invite_id),
        "bundle": str(INVITE.bundle_id),
        "name": "atlas",
        "inviter": KEY.peer_id,
        "hubs": list(INVITE.hubs),
        "role": "writer",
        "expires": 2_000_000_000,
        "secret": INVITE.secret.hex(),
    }
    return [json.dumps(document).encode()]


def protocol_messages() -> list[bytes]:
    return [encode(message) for message in MESSAGES]


def packed() -> list[bytes]:
    return [Packer().pack(data)[1] for data in (b"1\tRome\n" * 100, bytes(100_000))]


def multipath() -> list[bytes]:
    frames = [
        multipath_frames.data(part, 7, 3)
        for is_signal in (False, True)
        for part in multipath_frames.split(b"part", is_signal=is_signal)
    ]
    frames += [multipath_frames.ping(1), multipath_frames.pong(1), multipath_frames.acknowledgement(3, 4096)]
    return [*frames, multipath_frames.abort("timeout")]


def descriptions() -> list[bytes]:
    return [DESCRIPTION.encode()]
