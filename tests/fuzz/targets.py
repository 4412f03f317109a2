"""The decoders, each with the errors that it may raise and the promise for what it accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pgpeer.commit import dag_cbor
from pgpeer.commit.cid import commit_id, digest_of, section_id
from pgpeer.commit.header import Header
from pgpeer.commit.section import decode_section, encode_section
from pgpeer.errors import (
    CommitError,
    HubError,
    IdentityError,
    InviteError,
    RemoteProtocolError,
    TransportError,
)
from pgpeer.identity.invite import parse_invite
from pgpeer.identity.peer_id import peer_id_from_public_key, public_key_from_peer_id
from pgpeer.protocol import limits, messages
from pgpeer.protocol.encoding import decode, encode
from pgpeer.protocol.framing import Assembler
from pgpeer.protocol.packing import Packer, allowed_size
from pgpeer.transport import multipath_frames
from pgpeer.transport.session_description import read_description

from . import applications, conversations, files, paths, records, samples, signalling, whereabouts


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        run: decodes the bytes and checks the promise; raises AssertionError when it is broken.
        errors: what it may raise.
        samples: inputs that it accepts, to begin with.
        words: pieces that inputs are made of.
    """

    run: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    samples: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = field(default=())

    def try_it(self, data: bytes) -> bool:
        """Run, and tell whether the input was accepted; any other error than the typed ones comes through."""
        try:
            self.run(data)
        except self.errors:
            return False
        return True


def _header(data: bytes) -> None:
    assert Header.decode(data).encode() == data


def _section(data: bytes) -> None:
    reader = dag_cbor.Reader(data)
    section = decode_section(reader)
    reader.end()
    assert encode_section(section) == data


def _dag_cbor(data: bytes) -> None:
    """Reads whatever item stands there, one after the other."""
    reader, written, position = dag_cbor.Reader(data), b"", 0
    while position < len(data):
        major = data[position] >> 5
        if major == dag_cbor.UNSIGNED:
            written += dag_cbor.unsigned(reader.unsigned())
        elif major == dag_cbor.TEXT:
            written += dag_cbor.text(reader.text(1 << 20))
        elif major in (dag_cbor.ARRAY, dag_cbor.MAP):
            written += dag_cbor.head(major, reader.length(major, 1 << 32))
        elif major == dag_cbor.TAG:
            written += dag_cbor.link(b"\1\x71\x12\x20" + reader.link(b"\1\x71\x12\x20", 32))
        elif reader.null():
            written += dag_cbor.NULL
        else:
            written += dag_cbor.byte_string(reader.byte_string(32))
        position = len(written)
        assert data.startswith(written)
    reader.end()


def _cid(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    digest = digest_of(text)
    assert text in (commit_id(digest), section_id(digest))


def _peer_id(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert peer_id_from_public_key(public_key_from_peer_id(text)) == text


def _invite(data: bytes) -> None:
    invite = parse_invite(data.decode("utf-8", "surrogateescape"))
    assert parse_invite(invite.link()) == invite


def _message(data: bytes) -> None:
    kind, message = decode(data)
    again = encode(message)
    assert decode(again) == (kind, message)
    if not isinstance(message, messages.JoinAccepted):  # JSON has more than one form
        assert again == data


def _frames(data: bytes) -> None:
    assembler = Assembler(limits.MAX_CONTROL_MESSAGE_BYTES, limits.MAX_DATA_MESSAGE_BYTES)
    for frame in conversations.frames_of(data):
        assert sum(segment.size for segment in assembler.read(frame)) == len(frame)


def _packed(data: bytes) -> None:
    assert len(Packer().unpack(data)) <= allowed_size(len(data))


def _multipath(data: bytes) -> None:
    multipath_frames.read(data)


def _description(data: bytes) -> None:
    assert len(read_description(data.decode("utf-8", "replace")).fingerprint) == 32


_CBOR = (
    b"\xf6",
    b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20",
    b"\x1b" + b"\xff" * 8,
    b"\x9f",
    b"\xbf",
    b"\xff",
    b"\xf9",
)
_JSON = (
    b"null",
    b'"\\u0000"',
    b"true",
    b"1e999",
    b"NaN",
    b"-1",
    b'"\\ud800"',
    b"[" * 2000,
    b'{"a":' * 2000,
    b"{}",
    b"9" * 5000,
)

TARGETS: dict[str, Target] = {
    "header": Target(_header, (CommitError,), samples.headers, _CBOR),
    "section": Target(_section, (CommitError,), samples.sections, _CBOR),
    "dag_cbor": Target(_dag_cbor, (CommitError,), samples.items, _CBOR),
    "cid": Target(_cid, (CommitError,), samples.cids),
    "peer_id": Target(_peer_id, (IdentityError,), samples.peer_ids),
    "invite": Target(_invite, (InviteError,), samples.invites, _JSON),
    "invite_document": Target(signalling.invite_document, (InviteError,), samples.invite_documents, _JSON),
    "identity_file": Target(files.identity_file, (IdentityError,), files.identity_samples, _JSON),
    "ledger_file": Target(files.ledger_file, (IdentityError,), files.ledger_samples, _JSON),
    "message": Target(_message, (RemoteProtocolError,), samples.protocol_messages, _CBOR + _JSON),
    "frames": Target(_frames, (RemoteProtocolError,), conversations.streams),
    "packed": Target(_packed, (RemoteProtocolError,), samples.packed),
    "handshake": Target(conversations.handshake, (RemoteProtocolError,), conversations.handshakes, _CBOR),
    "session": Target(conversations.session, (RemoteProtocolError,), conversations.streams, _CBOR),
    "hub_frame": Target(signalling.to_hub, (RemoteProtocolError,), signalling.hub_samples, _JSON),
    "client_frame": Target(signalling.to_client, (RemoteProtocolError,), signalling.client_samples, _JSON),
    "signal": Target(signalling.signal, (RemoteProtocolError,), signalling.signal_samples, _JSON),
    "letter": Target(signalling.letter, (RemoteProtocolError,), signalling.letter_samples, _JSON),
    "registration": Target(
        signalling.registration, (RemoteProtocolError,), signalling.registration_samples, _JSON
    ),
    "hub_conversation": Target(
        signalling.hub_conversation, (RemoteProtocolError,), signalling.hub_conversation_samples, _JSON
    ),
    "client_conversation": Target(
        signalling.client_conversation, (HubError,), signalling.client_conversation_samples, _JSON
    ),
    "circuit": Target(paths.circuit, (RemoteProtocolError,), paths.circuit_samples),
    "document": Target(records.document, (RemoteProtocolError,), records.document_samples, _JSON),
    "grant": Target(records.grant, (IdentityError,), records.grant_samples, _JSON),
    "device": Target(records.device, (IdentityError,), records.device_samples, _JSON),
    "notice": Target(records.notice, (IdentityError,), records.notice_samples, _JSON),
    "peer_record": Target(records.peer_record, (IdentityError,), records.peer_record_samples, _JSON),
    "payload": Target(records.payload, (CommitError, IdentityError), records.payload_samples, _JSON),
    "channel_message": Target(
        applications.message, (RemoteProtocolError,), applications.message_samples, _CBOR
    ),
    "channel_conversation": Target(
        applications.conversation, (RemoteProtocolError,), applications.conversation_samples, _CBOR
    ),
    "search": Target(
        whereabouts.search, (RemoteProtocolError, CommitError), whereabouts.search_samples, _JSON
    ),
    "membership": Target(whereabouts.membership, (RemoteProtocolError,), whereabouts.membership_samples),
    "address": Target(paths.address, (RemoteProtocolError,), paths.address_samples),
    "path_hello": Target(paths.hello, (RemoteProtocolError, TransportError), paths.hello_samples),
    "path_proof": Target(paths.proof, (RemoteProtocolError, TransportError), paths.proof_samples),
    "path_negotiation": Target(paths.negotiation, (RemoteProtocolError,), paths.negotiation_samples, _JSON),
    "path_switch": Target(paths.switch, (RemoteProtocolError,), paths.switch_samples),
    "multipath": Target(_multipath, (RemoteProtocolError,), samples.multipath),
    "session_description": Target(_description, (TransportError,), samples.descriptions),
}
