"""Signed documents: a 64-byte Ed25519 signature and the JSON object that it signs, for one purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.key import SIGNATURE_BYTES, PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id


def sign_document(key: PrivateKey, domain: str, document: Mapping[str, object]) -> bytes:
    """Give signature and body of a document."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode("utf-8")
    return key.sign(domain, body) + body


def open_document(signed: bytes, domain: str, signer: str | None = None) -> dict[str, object]:
    """Check a document and give it.

    Args:
        signed: signature and body.
        domain: the purpose that it was signed for.
        signer: peer id of who must have signed it; None: the peer that the document names as `from`.

    Raises:
        RemoteProtocolError: it is malformed (`bad_message`), or not signed by that peer (`bad_signature`).
    """
    body = signed[SIGNATURE_BYTES:]
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refused("it is malformed", "bad_message") from error
    named = document.get("from") if isinstance(document, dict) else None
    if not isinstance(named, str):
        raise _refused("it is malformed", "bad_message")
    if signer is not None and named != signer:
        raise _refused("it names another signer", "identity_mismatch")
    try:
        verify(public_key_from_peer_id(named), domain, body, signed[:SIGNATURE_BYTES])
    except IdentityError as error:
        raise _refused("its signature is not the peer's", "bad_signature") from error
    return dict(document)


def _refused(reason: str, code: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"A signed document was refused: {reason}.", code=code, phase="signalling")
