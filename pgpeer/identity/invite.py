"""The invite link: what one needs to ask a member of a bundle for admission.

"pgpeer://join/1/" + base64url without padding of a JSON object. SQL makes the secret and the link; the
worker of the joining database reads it here.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Final, NoReturn
from uuid import UUID

from pgpeer.errors import IdentityError, InviteError
from pgpeer.identity.peer_id import public_key_from_peer_id

LINK_PREFIX: Final = "pgpeer://join/1/"
LINK_CHARACTERS_LIMIT: Final = 4096
HUBS_LIMIT: Final = 8
SECRET_BYTES: Final = 32
ROLES: Final = frozenset({"reader", "writer", "admin"})

_REMEDY: Final = "Ask the inviter for a new link ('SELECT peer.invite(…)') and copy it whole."


@dataclass(frozen=True, slots=True)
class Invite:
    """One invitation.

    Attributes:
        invite_id: names the invitation at the inviter.
        bundle_id: the bundle to join.
        bundle_name: what the inviter calls it.
        inviter: peer id of the member to ask.
        hubs: URLs (ws:// or wss://) of hubs where the inviter can be found.
        role: 'reader', 'writer' or 'admin'.
        expires: unix time in seconds after which the inviter refuses.
        secret: 32 bytes that prove that one holds the link.
    """

    invite_id: UUID
    bundle_id: UUID
    bundle_name: str
    inviter: str
    hubs: tuple[str, ...]
    role: str
    expires: int
    secret: bytes

    def is_expired(self, now: float) -> bool:
        """Whether the invite's time is over at `now` (unix seconds)."""
        return now >= self.expires

    def link(self) -> str:
        """Give the link; `parse_invite` of it gives an equal invite."""
        document = {
            "v": 1,
            "invite": str(self.invite_id),
            "bundle": str(self.bundle_id),
            "name": self.bundle_name,
            "inviter": self.inviter,
            "hubs": list(self.hubs),
            "role": self.role,
            "expires": self.expires,
            "secret": self.secret.hex(),
        }
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return LINK_PREFIX + urlsafe_b64encode(text.encode("utf-8")).decode("ascii").rstrip("=")

    def __repr__(self) -> str:
        return f"Invite({self.invite_id}, bundle={self.bundle_id}, inviter={self.inviter})"


def parse_invite(link: str) -> Invite:
    """Read an invite link; blanks around it are ignored, unknown members of the object too.

    Whether it is expired is not looked at here.

    Raises:
        InviteError: the link is malformed or of another version; the sentence says where.
    """
    document = _document(link.strip())
    inviter = _text(document, "inviter", 57)
    try:
        public_key_from_peer_id(inviter)
    except IdentityError as error:
        raise InviteError(f"The invite link names no usable inviter: {error}", remedy=_REMEDY) from error
    role = _text(document, "role", 16)
    if role not in ROLES:
        _refuse(f"it gives the unknown role '{role}'")
    expires = document.get("expires")
    if type(expires) is not int or not 0 <= expires < 2**53:
        _refuse("'expires' is not a time")
    return Invite(
        invite_id=_uuid(document, "invite"),
        bundle_id=_uuid(document, "bundle"),
        bundle_name=_text(document, "name", 255),
        inviter=inviter,
        hubs=_hubs(document),
        role=role,
        expires=expires,
        secret=_secret(document),
    )


def _document(link: str) -> dict[str, object]:
    if not link.startswith(LINK_PREFIX):
        if link.startswith("pgpeer://join/"):
            _refuse("it was made by another version of pgpeer", code="version_mismatch")
        _refuse(f"it does not start with '{LINK_PREFIX}'")
    if len(link) > LINK_CHARACTERS_LIMIT:
        _refuse(f"it is longer than {LINK_CHARACTERS_LIMIT} characters")
    body = link.removeprefix(LINK_PREFIX)
    if not body.isascii() or not body.replace("-", "").replace("_", "").isalnum():
        _refuse("it holds characters that no link has")
    try:
        document = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (Base64Error, ValueError, RecursionError):
        _refuse("it is cut off or changed")
    if not isinstance(document, dict):
        _refuse("it holds no object")
    if document.get("v") != 1:
        _refuse("it was made by another version of pgpeer", code="version_mismatch")
    return document


def _text(document: dict[str, object], name: str, limit: int) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit or not _is_plain(value):
        _refuse(f"'{name}' is missing or not a text of at most {limit} characters")
    return value


def _is_plain(value: str) -> bool:
    return not any(ord(character) < 32 or 0xD800 <= ord(character) <= 0xDFFF for character in value)


def _uuid(document: dict[str, object], name: str) -> UUID:
    try:
        return UUID(_text(document, name, 36))
    except ValueError:
        _refuse(f"'{name}' is not a UUID")


def _hubs(document: dict[str, object]) -> tuple[str, ...]:
    hubs = document.get("hubs")
    if not isinstance(hubs, list) or len(hubs) > HUBS_LIMIT:
        _refuse(f"'hubs' is not a list of at most {HUBS_LIMIT} URLs")
    for hub in hubs:
        if not isinstance(hub, str) or len(hub) > 512 or not hub.startswith(("ws://", "wss://")):
            _refuse("'hubs' holds something that is not a ws:// or wss:// URL")
    return tuple(hubs)


def _secret(document: dict[str, object]) -> bytes:
    text = _text(document, "secret", 2 * SECRET_BYTES)
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or len(text) != 2 * SECRET_BYTES:
        _refuse(f"'secret' is not {2 * SECRET_BYTES} hexadecimal digits")
    return secret


def _refuse(reason: str, *, code: str | None = None) -> NoReturn:
    raise InviteError(f"The invite link cannot be used: {reason}.", remedy=_REMEDY, code=code)
