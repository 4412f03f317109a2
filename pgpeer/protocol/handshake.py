"""Who is on the other side: hello and authentication, bound to the certificates of the link.

Both sides sign the same transcript: version, both certificate fingerprints, both nonces, both peer ids, and
their own role. So a signature is worth nothing on another link, at another time, or when it is sent back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pgpeer.commit.dag_cbor import array, byte_string, text, unsigned
from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.protocol.limits import PROTOCOL_VERSION
from pgpeer.protocol.messages import Authentication, Hello
from pgpeer.protocol.printable import printable

Role = Literal["offerer", "answerer"]
"""Which side of the WebRTC negotiation a peer was."""

SIGNATURE_DOMAIN: Final = "auth"


@dataclass(frozen=True, slots=True)
class Side:
    """What one side puts into the transcript: certificate fingerprint, nonce (32 bytes each) and peer id."""

    fingerprint: bytes
    nonce: bytes
    peer_id: str


def transcript(version: int, offerer: Side, answerer: Side, signer: Role) -> bytes:
    """Give the bytes that a side signs: canonical CBOR."""
    return array(
        [
            unsigned(version),
            byte_string(offerer.fingerprint),
            byte_string(answerer.fingerprint),
            byte_string(offerer.nonce),
            byte_string(answerer.nonce),
            text(offerer.peer_id),
            text(answerer.peer_id),
            text(signer),
        ]
    )


class Handshake:
    """This side's half of proving who talks to whom.

    Args:
        key: this side's key.
        role: this side's role.
        local_fingerprint: SHA-256 of this side's certificate.
        remote_fingerprint: SHA-256 of the certificate the other side used.
        nonce: 32 fresh random bytes.
        expected_peer_id: whom the other side must be; None for anybody.
        label: this side's name for people.
    """

    __slots__ = (
        "_expected",
        "_key",
        "_local",
        "_remote",
        "_remote_fingerprint",
        "_role",
        "label",
        "remote_label",
    )

    def __init__(
        self,
        key: PrivateKey,
        role: Role,
        local_fingerprint: bytes,
        remote_fingerprint: bytes,
        nonce: bytes,
        expected_peer_id: str | None,
        label: str,
    ) -> None:
        self._key = key
        self._role: Role = role
        self._local = Side(local_fingerprint, nonce, key.peer_id)
        self._remote_fingerprint = remote_fingerprint
        self._remote: Side | None = None
        self._expected = expected_peer_id
        self.label = label
        self.remote_label = ""

    @property
    def remote_peer_id(self) -> str:
        """Whom the other side claims to be; proven only after `check`."""
        assert self._remote is not None, "hello comes first"
        return self._remote.peer_id

    def hello(self) -> Hello:
        """Give this side's first message."""
        return Hello(PROTOCOL_VERSION, self._local.peer_id, self._local.nonce, self.label)

    def answer(self, hello: Hello) -> Authentication:
        """Take the other side's hello and give this side's proof.

        Raises:
            RemoteProtocolError: another version, a malformed or unexpected peer id, or this side's own words.
        """
        if hello.version != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"The other side speaks version {hello.version} of the protocol, "
                f"this one version {PROTOCOL_VERSION}.",
                code="version_mismatch",
                phase="hello",
                remedy="Install the same version of pgpeer on both sides.",
            )
        try:
            public_key_from_peer_id(hello.peer_id)
        except IdentityError as error:
            raise RemoteProtocolError(str(error), code="identity_mismatch", phase="identity") from error
        if self._expected is not None and hello.peer_id != self._expected:
            raise RemoteProtocolError(
                f"The other side is {hello.peer_id}, not {self._expected}.",
                code="identity_mismatch",
                phase="identity",
            )
        if hello.peer_id == self._local.peer_id or hello.nonce == self._local.nonce:
            raise RemoteProtocolError(
                "The other side has this side's own identity.",
                code="identity_mismatch",
                phase="identity",
                remedy="Give every database its own identity file.",
            )
        self._remote = Side(self._remote_fingerprint, hello.nonce, hello.peer_id)
        self.remote_label = printable(hello.label)
        return Authentication(self._key.sign(SIGNATURE_DOMAIN, self._transcript(self._role)))

    def check(self, authentication: Authentication) -> None:
        """Return when the other side has proven that it is whom it claims to be.

        Raises:
            RemoteProtocolError: it has not (code `bad_signature`).
        """
        assert self._remote is not None, "hello comes first"
        other: Role = "answerer" if self._role == "offerer" else "offerer"
        try:
            verify(
                public_key_from_peer_id(self._remote.peer_id),
                SIGNATURE_DOMAIN,
                self._transcript(other),
                authentication.signature,
            )
        except IdentityError as error:
            raise RemoteProtocolError(
                f"The other side could not prove that it is {self._remote.peer_id} on this link.",
                code="bad_signature",
                phase="identity",
            ) from error

    def _transcript(self, signer: Role) -> bytes:
        assert self._remote is not None, "hello comes first"
        offerer, answerer = self._local, self._remote
        if self._role == "answerer":
            offerer, answerer = answerer, offerer
        return transcript(PROTOCOL_VERSION, offerer, answerer, signer)
