"""A client's proof to a hub: its signature over the hub, the connection's nonce, and the URL dialled.

The URL keeps a hostile hub from passing another hub's nonce on to its own clients.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pgpeer.commit import dag_cbor
from pgpeer.errors import ConfigError, IdentityError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.messages import PROTOCOL_VERSION, URL_CHARACTERS_LIMIT, Authenticate, Hello

HUB_DOMAIN: Final = "hub-auth"

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


def authenticate(
    key: PrivateKey,
    hello: Hello,
    label: str,
    url: str,
    features: tuple[str, ...] = (),
    visitor: bool = False,
) -> Authenticate:
    """Answer a hub's hello."""
    signature = key.sign(HUB_DOMAIN, _transcript(hello, key.peer_id, label, url))
    return Authenticate(key.peer_id, label, url, signature, features, visitor)


def check_authentication(hello: Hello, message: Authenticate, authorities: frozenset[str]) -> None:
    """Return when a client has proven its peer id to this hub.

    Args:
        hello: what the hub said on this connection.
        message: the client's answer.
        authorities: host names (with port unless it is the scheme's own) under which clients reach this hub,
            in lower case.

    Raises:
        RemoteProtocolError: the signature is not the peer's, or the client dialled another hub.
    """
    transcript = _transcript(hello, message.peer_id, message.label, message.url)
    try:
        verify(public_key_from_peer_id(message.peer_id), HUB_DOMAIN, transcript, message.signature)
    except IdentityError as error:
        raise RemoteProtocolError(
            f"The client could not prove that it is {message.peer_id}.",
            code="bad_signature",
            phase="hub_auth",
        ) from error
    authority, default_port = _authority(message.url)
    if not authorities & {authority, authority.removesuffix(default_port)}:
        raise RemoteProtocolError(
            f"The client dialled '{authority}', which is not this hub.",
            code="identity_mismatch",
            phase="hub_auth",
        )


def require_hub_url(url: str) -> str:
    """Give the URL back when it can be a hub's.

    Raises:
        ConfigError: it is not a ws:// or wss:// URL with a host, or it holds a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.username is None
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or len(url) > URL_CHARACTERS_LIMIT:
        raise ConfigError(
            f"'{url[:80]}' is not a hub's URL.",
            remedy="Write it as ws://HOST:PORT or wss://HOST.",
            code="config",
        )
    return url


def _authority(url: str) -> tuple[str, str]:
    """Give host and port as in a Host header, and the scheme's own port as ":80" or ":443"."""
    try:
        parts = urlsplit(url)
        default_port = f":{_DEFAULT_PORTS.get(parts.scheme, 80)}"
        return parts.netloc.rpartition("@")[2].lower(), default_port
    except ValueError:
        return "", ""


def _transcript(hello: Hello, peer_id: str, label: str, url: str) -> bytes:
    return dag_cbor.array(
        [
            dag_cbor.unsigned(PROTOCOL_VERSION),
            dag_cbor.text(hello.hub_id),
            dag_cbor.byte_string(hello.nonce),
            dag_cbor.text(peer_id),
            dag_cbor.text(label),
            dag_cbor.text(url),
        ]
    )
