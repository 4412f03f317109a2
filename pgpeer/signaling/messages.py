"""The messages between a hub and its clients: JSON objects in text frames, `t` says which one."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.signal import SID_PATTERN, is_encodable

PROTOCOL_VERSION: Final = 1
NONCE_BYTES: Final = 32
LABEL_CHARACTERS_LIMIT: Final = 128
URL_CHARACTERS_LIMIT: Final = 512
PRESENCE_ENTRIES_LIMIT: Final = 100
"""So many peers go into one presence message, which then fits a frame whatever their labels."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Hub → client, first: who the hub is, and what to sign."""

    hub_id: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Client → hub: who the client is, which URL it dialled, and its signature (domain "hub-auth")."""

    peer_id: str
    label: str
    url: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """Hub → client: authenticated; a client that says nothing for `lease_seconds` counts as offline."""

    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Client → hub: tell me of these peers, and no others; their present state comes at once."""

    peer_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Hub → client: these watched peers are online now (with their labels), those are not."""

    online: Mapping[str, str]
    offline: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Client → hub: give this sealed box to that peer; `request` is echoed in the reply."""

    request: int
    to: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hub → client: the box was handed to the peer's connection, or the peer is offline."""

    request: int
    delivered: bool


@dataclass(frozen=True, slots=True)
class TakeSignal:
    """Hub → client: a sealed box from that peer."""

    sender: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hub → client: an error; of one request, or (request None) of the conversation, which then ends."""

    code: str
    detail: str
    hint: str
    retryable: bool
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Client → hub: I am here."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Hub → client: so am I."""


ClientMessage = Authenticate | Watch | SendSignal | Ping
HubMessage = Hello | Welcome | Presence | Delivery | TakeSignal | Refusal | Pong
Fields = dict[str, object]
Message = TypeVar("Message")


def encode(message: ClientMessage | HubMessage) -> str:
    """Give the text frame of a message."""
    return json.dumps(_fields_of(message), ensure_ascii=False, separators=(",", ":"))


def decode_for_hub(frame: str, limit: int) -> ClientMessage:
    """Read what a client sent, at most `limit` bytes of UTF-8.

    Raises:
        RemoteProtocolError: it is not a message that a client sends.
    """
    return _decode(frame, limit, _FROM_CLIENT)


def decode_for_client(frame: str, limit: int) -> HubMessage:
    """Read what a hub sent, at most `limit` bytes of UTF-8.

    Raises:
        RemoteProtocolError: it is not a message that a hub sends.
    """
    return _decode(frame, limit, _FROM_HUB)


def _fields_of(message: ClientMessage | HubMessage) -> Fields:
    match message:
        case Hello(hub_id, nonce):
            return {"t": "hello", "hub_id": hub_id, "nonce": nonce.hex(), "proto": [PROTOCOL_VERSION]}
        case Authenticate(peer_id, label, url, signature):
            return {"t": "auth", "peer_id": peer_id, "label": label, "url": url, "sig": _base64(signature)}
        case Welcome(lease_seconds):
            return {"t": "ok", "lease": lease_seconds}
        case Watch(peer_ids):
            return {"t": "watch", "peers": list(peer_ids)}
        case Presence(online, offline):
            return {"t": "presence", "online": dict(online), "offline": list(offline)}
        case SendSignal(request, to, sid, box):
            return {"t": "signal", "id": request, "to": to, "sid": sid, "box": _base64(box)}
        case Delivery(request, delivered):
            return {"t": "delivered" if delivered else "offline", "id": request}
        case TakeSignal(sender, sid, box):
            return {"t": "signal", "from": sender, "sid": sid, "box": _base64(box)}
        case Refusal(code, detail, hint, retryable, request):
            fields: Fields = {
                "t": "error",
                "code": code,
                "detail": detail,
                "hint": hint,
                "retryable": retryable,
            }
            return fields if request is None else fields | {"id": request}
        case Ping():
            return {"t": "ping"}
        case Pong():
            return {"t": "pong"}


def _decode(frame: str, limit: int, readers: Mapping[str, Callable[[Fields], Message]]) -> Message:
    if len(frame) > limit or len(frame.encode("utf-8", "replace")) > limit:
        _refuse(f"it has more than {limit} bytes", code="too_large")
    try:
        fields = json.loads(frame)
    except (ValueError, RecursionError):
        _refuse("it is not JSON")
    if not isinstance(fields, dict):
        _refuse("it is not an object")
    kind = fields.get("t")
    reader = readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        _refuse("its type is unknown")
    return reader(fields)


def _hello(fields: Fields) -> Hello:
    versions = fields.get("proto")
    if not isinstance(versions, list) or PROTOCOL_VERSION not in versions:
        _refuse(f"the hub does not speak version {PROTOCOL_VERSION}", code="version_mismatch")
    return Hello(_text(fields, "hub_id", 128), _hex(fields, "nonce", NONCE_BYTES))


def _authenticate(fields: Fields) -> Authenticate:
    return Authenticate(
        peer_id=_peer_id(fields.get("peer_id")),
        label=_label(fields.get("label")),
        url=_text(fields, "url", URL_CHARACTERS_LIMIT),
        signature=_bytes(fields, "sig"),
    )


def _welcome(fields: Fields) -> Welcome:
    lease = fields.get("lease")
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease <= 3600:
        _refuse("'lease' is not a time")
    return Welcome(float(lease))


def _watch(fields: Fields) -> Watch:
    return Watch(tuple(_peer_id(peer_id) for peer_id in _list(fields, "peers")))


def _presence(fields: Fields) -> Presence:
    online = fields.get("online")
    if not isinstance(online, dict):
        _refuse("'online' is not an object")
    return Presence(
        {_peer_id(peer_id): _label(label) for peer_id, label in online.items()},
        tuple(_peer_id(peer_id) for peer_id in _list(fields, "offline")),
    )


def _send_signal(fields: Fields) -> SendSignal:
    return SendSignal(_request(fields), _peer_id(fields.get("to")), _sid(fields), _bytes(fields, "box"))


def _take_signal(fields: Fields) -> TakeSignal:
    return TakeSignal(_peer_id(fields.get("from")), _sid(fields), _bytes(fields, "box"))


def _delivered(fields: Fields) -> Delivery:
    return Delivery(_request(fields), True)


def _offline(fields: Fields) -> Delivery:
    return Delivery(_request(fields), False)


def _refusal(fields: Fields) -> Refusal:
    return Refusal(
        code=_text(fields, "code", 64),
        detail=_text(fields, "detail", 1024),
        hint=_text(fields, "hint", 1024, empty=True),
        retryable=fields.get("retryable") is True,
        request=_request(fields) if "id" in fields else None,
    )


def _ping(_: Fields) -> Ping:
    return Ping()


def _pong(_: Fields) -> Pong:
    return Pong()


_FROM_CLIENT: Final[Mapping[str, Callable[[Fields], ClientMessage]]] = {
    "auth": _authenticate,
    "watch": _watch,
    "signal": _send_signal,
    "ping": _ping,
}
_FROM_HUB: Final[Mapping[str, Callable[[Fields], HubMessage]]] = {
    "hello": _hello,
    "ok": _welcome,
    "presence": _presence,
    "delivered": _delivered,
    "offline": _offline,
    "signal": _take_signal,
    "error": _refusal,
    "pong": _pong,
}


def is_label(value: str) -> bool:
    """Whether a text can be a peer's label: at most 128 characters, none a control character."""
    return (
        len(value) <= LABEL_CHARACTERS_LIMIT
        and is_encodable(value)
        and not any(ord(character) < 32 or ord(character) == 127 for character in value)
    )


def presentable_label(value: str) -> str:
    """Make a label of any text: what cannot stand in one becomes a blank, what is too long is cut."""
    return "".join(character if is_label(character) else " " for character in value[:LABEL_CHARACTERS_LIMIT])


def _text(fields: Fields, name: str, limit: int, *, empty: bool = False) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > limit or not is_encodable(value) or not (value or empty):
        _refuse(f"'{name}' is not a text of at most {limit} characters")
    return value


def _label(value: object) -> str:
    if not isinstance(value, str) or not is_label(value):
        _refuse("a label is malformed")
    return value


def _peer_id(value: object) -> str:
    if not isinstance(value, str):
        _refuse("a peer id is not a text")
    try:
        public_key_from_peer_id(value)
    except IdentityError as error:
        _refuse(f"a peer id is malformed ({error})", code="id_unknown")
    return value


def _sid(fields: Fields) -> str:
    value = fields.get("sid")
    if not isinstance(value, str) or not SID_PATTERN.fullmatch(value):
        _refuse("'sid' is malformed")
    return value


def _request(fields: Fields) -> int:
    value = fields.get("id")
    if type(value) is not int or not 0 <= value < 2**53:
        _refuse("'id' is not a number")
    return value


def _hex(fields: Fields, name: str, size: int) -> bytes:
    value = fields.get(name)
    try:
        content = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        content = b""
    if len(content) != size:
        _refuse(f"'{name}' is not {2 * size} hexadecimal digits")
    return content


def _bytes(fields: Fields, name: str) -> bytes:
    value = fields.get(name)
    if not isinstance(value, str) or not value.isascii():
        _refuse(f"'{name}' is not base64")
    try:
        return b64decode(value, validate=True)
    except Base64Error:
        _refuse(f"'{name}' is not base64")


def _list(fields: Fields, name: str) -> list[object]:
    value = fields.get(name)
    if not isinstance(value, list):
        _refuse(f"'{name}' is not a list")
    return value


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _refuse(reason: str, *, code: str = "bad_message") -> NoReturn:
    raise RemoteProtocolError(
        f"A signalling message cannot be read: {reason}.", code=code, phase="signalling"
    )
