"""Who is at the other end of one path, and which stream the path belongs to: hello, proof, answer. No I/O.

Three frames: the opener says hello, naming whom it wants; the taker answers with its hello and proof; the
opener sends its proof. Both sign one transcript: version, kind of path, both certificate fingerprints, both
streams' tokens, both nonces, both peer ids, and the signer's role. So a proof is worth nothing on another
path, for another stream, at another time, or when it is sent back; and whoever ends TLS or DTLS in the middle
has another fingerprint. A proof names the fingerprints that its signer saw: one that is good for others than
these tells for sure that somebody stands between. Nothing else flows on a path before both were checked.

Every version begins its first frame and a refusal with the same three bytes, kind and version, so that two
versions can always tell each other which of them is the older one.

A token names one side's half of a stream and is made anew with every stream. Paths on which both tokens are
the same carry the same stream; a peer that comes with another token than before has begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from struct import error as StructError
from typing import Final, Literal

from pgpeer.commit.dag_cbor import array, byte_string, text, unsigned
from pgpeer.errors import CODES, IdentityError, RemoteProtocolError, TransportError
from pgpeer.identity.key import SIGNATURE_BYTES, PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.transport.base import PathKind
from pgpeer.transport.verdicts import REFUSALS

PATH_VERSION: Final = 1
PROOF_DOMAIN: Final = "path"
TOKEN_BYTES: Final = 16
NONCE_BYTES: Final = 32
PROOF_FAIL_SECONDS: Final = 10.0
"""How long both sides may take to prove who they are."""

_HELLO, _PROOF, _REFUSAL = 1, 2, 3
_HEAD: Final = Struct(">BH")
_HELLO_HEAD: Final = Struct(f">BH{TOKEN_BYTES}s{NONCE_BYTES}sBB")
_FINGERPRINT_BYTES: Final = 32
_MAX_ID_BYTES: Final = 64
_MAX_CODE_BYTES: Final = 64

Role = Literal["opener", "taker"]


@dataclass(frozen=True, slots=True)
class Hello:
    """One side's first frame: its stream's token, a fresh nonce, who it is and whom it means."""

    token: bytes
    nonce: bytes
    sender: str
    recipient: str

    def encode(self) -> bytes:
        """Give the frame."""
        sender, recipient = self.sender.encode(), self.recipient.encode()
        head = _HELLO_HEAD.pack(_HELLO, PATH_VERSION, self.token, self.nonce, len(sender), len(recipient))
        return head + sender + recipient


@dataclass(frozen=True, slots=True)
class Proof:
    """What a side proves itself with: the certificates that it saw, its own first, and its signature."""

    fingerprints: tuple[bytes, bytes]
    signature: bytes

    def encode(self) -> bytes:
        """Give the frame."""
        return b"".join((bytes((_PROOF,)), *self.fingerprints, self.signature))


class PathProof:
    """This side's half of proving who is at both ends of a path.

    Args:
        key: this side's key.
        role: whether this side opened the path.
        kind: the kind of path, as both sides see it.
        local_fingerprint: SHA-256 of this side's certificate.
        remote_fingerprint: SHA-256 of the certificate the other side used.
        hello: this side's hello.
    """

    __slots__ = ("_fingerprints", "_hello", "_key", "_kind", "_role", "remote")

    def __init__(
        self,
        key: PrivateKey,
        role: Role,
        kind: PathKind,
        local_fingerprint: bytes,
        remote_fingerprint: bytes,
        hello: Hello,
    ) -> None:
        self._key = key
        self._role: Role = role
        self._kind = kind
        self._fingerprints = (local_fingerprint, remote_fingerprint)
        self._hello = hello
        self.remote: Hello | None = None

    def take_hello(self, hello: Hello) -> None:
        """Take the other side's hello.

        Raises:
            RemoteProtocolError: it is not from or for whom it should be, or repeats this side's own words.
        """
        mine = self._hello
        if hello.recipient != mine.sender or (mine.recipient and hello.sender != mine.recipient):
            raise _wrong_peer(f"The other side is {hello.sender}, which is not the peer that was meant.")
        if hello.sender == mine.sender or hello.nonce == mine.nonce:
            raise _wrong_peer("The other side has this side's own identity.")
        self.remote = hello

    def proof(self) -> bytes:
        """Give the frame that proves who this side is; only after `take_hello`."""
        transcript = self._transcript(self._role, self._fingerprints)
        return Proof(self._fingerprints, self._key.sign(PROOF_DOMAIN, transcript)).encode()

    def check(self, proof: Proof) -> None:
        """Return when the other side has proven that it is who it says; only after `take_hello`.

        Raises:
            RemoteProtocolError: it has not (code `bad_signature`); or it has, but on a connection with other
                certificates (`identity_mismatch`): somebody stands between and passes frames on.
        """
        assert self.remote is not None, "hello comes first"
        other: Role = "taker" if self._role == "opener" else "opener"
        seen_there = (proof.fingerprints[1], proof.fingerprints[0])
        try:
            key = public_key_from_peer_id(self.remote.sender)
            verify(key, PROOF_DOMAIN, self._transcript(other, seen_there), proof.signature)
        except IdentityError as error:
            raise RemoteProtocolError(
                f"The other side could not prove that it is {self.remote.sender} on this path.",
                code="bad_signature",
                phase="identity",
            ) from error
        if seen_there != self._fingerprints:
            raise RemoteProtocolError(
                f"Somebody stands between this side and {self.remote.sender}: the certificates at the two "
                "ends of the path are not the same.",
                code="identity_mismatch",
                phase="identity",
                remedy="Nothing was given away. Use another hub, or an address of the peer that you trust.",
            )

    def _transcript(self, signer: Role, fingerprints: tuple[bytes, bytes]) -> bytes:
        """Give what a side signs; `fingerprints`: of this side's certificate and of the other one's."""
        assert self.remote is not None, "hello comes first"
        sides = [(self._hello, fingerprints[0]), (self.remote, fingerprints[1])]
        if self._role == "taker":
            sides.reverse()
        items = [unsigned(PATH_VERSION), text(self._kind)]
        for hello, fingerprint in sides:
            items += (
                byte_string(fingerprint),
                byte_string(hello.token),
                byte_string(hello.nonce),
                text(hello.sender),
            )
        return array([*items, text(signer)])


def stream_fingerprints(local: Hello, remote: Hello) -> tuple[bytes, bytes]:
    """Give what stands for both sides' certificates in a session over the stream, this side's first.

    A stream has no certificate of its own; its tokens are in every path's transcript, so what is bound to
    them is bound to paths that were proven.
    """
    pair = array(sorted((byte_string(local.token), byte_string(remote.token))))
    mine, theirs = (sha256(b"pgpeer stream" + pair + one.sender.encode()) for one in (local, remote))
    return mine.digest(), theirs.digest()


def refusal(code: str) -> bytes:
    """Give the frame that refuses a path before both sides are proven, for this reason (of `CODES`)."""
    return _HEAD.pack(_REFUSAL, PATH_VERSION) + code.encode("ascii")


def read_hello(frame: bytes) -> Hello:
    """Read the first frame of the other side.

    Raises:
        RemoteProtocolError: it is malformed, or of another version (code `version_mismatch`).
        TransportError: it is a refusal (see `read_proof`).
    """
    _raise_refusal(frame)
    if len(frame) >= _HEAD.size and frame[0] == _HELLO:
        _, version = _HEAD.unpack_from(frame)
        if version != PATH_VERSION:  # what comes after these bytes may have another form
            sentence, remedy = _other_version(version)
            raise RemoteProtocolError(sentence, code="version_mismatch", phase="hello", remedy=remedy)
    try:
        kind, _, token, nonce, sender_size, recipient_size = _HELLO_HEAD.unpack_from(frame)
        ids = frame[_HELLO_HEAD.size :].decode("ascii")
    except (StructError, UnicodeDecodeError) as error:
        raise RemoteProtocolError("The first frame of a path is malformed.", phase="identity") from error
    if kind != _HELLO or max(sender_size, recipient_size) > _MAX_ID_BYTES:
        raise RemoteProtocolError("The first frame of a path is no hello.", phase="identity")
    if len(ids) != sender_size + recipient_size:
        raise RemoteProtocolError("The first frame of a path has a wrong length.", phase="identity")
    sender = ids[:sender_size]
    try:
        public_key_from_peer_id(sender)
    except IdentityError as error:
        raise _wrong_peer(str(error)) from error
    return Hello(token, nonce, sender, ids[sender_size:])


def read_proof(frame: bytes) -> Proof:
    """Read a proof.

    Raises:
        RemoteProtocolError: it is malformed.
        TransportError: it is a refusal. Nothing is proven yet, so this is the word of whoever ends the
            encryption: it can be tried again, and its code is never one of `REFUSALS`.
    """
    _raise_refusal(frame)
    if frame[:1] != bytes((_PROOF,)) or len(frame) != 1 + 2 * _FINGERPRINT_BYTES + SIGNATURE_BYTES:
        raise RemoteProtocolError("A path carried something else than a proof.", phase="identity")
    middle, end = 1 + _FINGERPRINT_BYTES, 1 + 2 * _FINGERPRINT_BYTES
    return Proof((frame[1:middle], frame[middle:end]), frame[end:])


def _raise_refusal(frame: bytes) -> None:
    if frame[:1] != bytes((_REFUSAL,)):
        return
    code = frame[_HEAD.size :][:_MAX_CODE_BYTES].decode("ascii", "replace")
    version = int.from_bytes(frame[1 : _HEAD.size], "big")
    if code == "version_mismatch" and version != PATH_VERSION:
        sentence, remedy = _other_version(version)
        raise TransportError(sentence, code=code, phase="hello", remedy=remedy)
    if code not in CODES or code in REFUSALS:
        code = "remote_closed"
    raise TransportError(
        "The other side ended the path before it had proven who it is.",
        code=code,
        phase="identity",
        remedy="If it is the peer, its log says why.",
    )


def _other_version(version: int) -> tuple[str, str]:
    """Give a sentence about the other side's version, and the remedy."""
    older = "this side, which is the older one" if version > PATH_VERSION else "the other side, the older one"
    return (
        f"The other side speaks version {version} of the path protocol, this one version {PATH_VERSION}.",
        f"Upgrade pgpeer on {older}.",
    )


def _wrong_peer(sentence: str) -> RemoteProtocolError:
    return RemoteProtocolError(sentence, code="identity_mismatch", phase="identity")
