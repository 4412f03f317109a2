"""The certificate of this side of TLS links: self-signed, made anew by every process, known by its SHA-256.

Nobody vouches for it. It is worth something only because both peers sign a transcript that names both
certificates' fingerprints (`pgpeer.transport.path_proof`), and TLS proves possession of their keys.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

ALPN: Final = b"pgpeer/1"
"""Both sides must ask for it (RFC 7301), so that no other service's connection can be taken for a link."""

_LIFETIME: Final = datetime.timedelta(days=3650)
_EPOCH: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key with its self-signed certificate; `repr` shows the fingerprint only.

    Attributes:
        fingerprint: SHA-256 of the certificate (32 bytes).
    """

    _key: ec.EllipticCurvePrivateKey
    _certificate: x509.Certificate
    fingerprint: bytes

    @classmethod
    def generate(cls) -> Certificate:
        """Make one from the operating system's randomness; dates carry no meaning."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pgpeer")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_EPOCH)
            .not_valid_after(_EPOCH + _LIFETIME)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate, certificate.fingerprint(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"Certificate({self.fingerprint.hex()})"

    def context(self) -> SSL.Context:
        """Give an OpenSSL context: TLS 1.3 only, both sides show a certificate, any certificate is taken.

        Whose it is, is for the caller to check by its fingerprint; OpenSSL checks that its key is there.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # a resumed session would show no certificate
        context.use_certificate(self._certificate)
        context.use_privatekey(self._key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _take_any)
        context.set_alpn_protos([ALPN])
        context.set_alpn_select_callback(_select)
        return context


def fingerprint_of(connection: SSL.Connection) -> bytes:
    """Give SHA-256 of the certificate that the other side showed; empty when it showed none."""
    shown = connection.get_peer_certificate(as_cryptography=True)
    return b"" if shown is None else shown.fingerprint(hashes.SHA256())


def _take_any(*_: object) -> bool:
    return True


def _select(_: SSL.Connection, offered: list[bytes]) -> bytes:
    return ALPN if ALPN in offered else b""  # empty: none, which `open_tls` refuses
