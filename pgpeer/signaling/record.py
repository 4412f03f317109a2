"""A registration: a peer's signed word that it can be found in a namespace, with a sequence number.

The hub hands records out as they are and every reader checks the signature, so a hub cannot invent a member;
the number only grows, so nobody can bring an older record back to a reader that knows a newer one.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from dataclasses import dataclass
from typing import Final

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.envelope import open_document, sign_document
from pgpeer.signaling.fields import LARGEST_NUMBER, NAMESPACE_PATTERN
from pgpeer.signaling.signal import CLOCK_LEEWAY_SECONDS, is_encodable
from pgpeer.signaling.wire import RECORD_BYTES_LIMIT

REGISTRATION_DOMAIN: Final = "registration"
BODY_CHARACTERS_LIMIT: Final = 512
REMEMBERED_RECORDS_LIMIT: Final = 16_384


@dataclass(frozen=True, slots=True)
class Registration:
    """What a peer says of itself in a namespace.

    Attributes:
        peer_id: whose it is, and who signs it.
        namespace: where; `rendezvous_name` makes one that tells strangers nothing.
        seq: grows with every new record of the peer there; milliseconds of unix time will do.
        expires: unix time in seconds.
        body: what readers shall know, at most 512 characters; everybody who knows the namespace can read it.
    """

    peer_id: str
    namespace: str
    seq: int
    expires: int
    body: str = ""


class RecordGuard:
    """Remembers the newest number seen of each peer in each namespace, so that older records are refused."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[int, bytes]] = {}

    def admit(self, registration: Registration, record: bytes) -> None:
        """Take note of a record.

        Raises:
            RemoteProtocolError: a newer one is known, or another one of the same number (`replay`).
        """
        name = (registration.namespace, registration.peer_id)
        seq, known = self._newest.get(name, (-1, record))
        if registration.seq < seq or (registration.seq == seq and record != known):
            raise _refused("a newer one is known", "replay")
        self._newest.pop(name, None)
        self._newest[name] = (registration.seq, record)
        if len(self._newest) > REMEMBERED_RECORDS_LIMIT:
            del self._newest[next(iter(self._newest))]


def rendezvous_name(kind: str, secret: bytes) -> str:
    """Make a namespace that only those find who know the secret (a bundle's id, an invite's nonce).

    Args:
        kind: a word that keeps purposes apart, 1 to 32 of a-z and -.
        secret: at least 16 bytes that strangers cannot guess.
    """
    digest = hashlib.sha256(b"pgpeer/v1/rendezvous\0" + kind.encode("ascii") + b"\0" + secret).digest()
    return f"{kind}:{b32encode(digest).decode('ascii').rstrip('=').lower()}"


def sign_registration(key: PrivateKey, registration: Registration) -> bytes:
    """Give the record to register.

    Raises:
        LocalProtocolError: the registration is not the key's own, or is outside its limits.
    """
    if registration.peer_id != key.peer_id:
        raise LocalProtocolError("A registration can be signed by its peer only.", phase="signalling")
    document = {
        "from": registration.peer_id,
        "ns": registration.namespace,
        "seq": registration.seq,
        "expires": registration.expires,
        "body": registration.body,
    }
    problem = _problem(document)
    record = b"" if problem else sign_document(key, REGISTRATION_DOMAIN, document)
    if problem or len(record) > RECORD_BYTES_LIMIT:
        raise LocalProtocolError(
            f"A registration cannot be made: {problem or 'it is too long'}.", phase="signalling"
        )
    return record


def read_registration(record: bytes, *, namespace: str, now: float) -> Registration:
    """Read and check a record that stands in a namespace, at `now` (unix seconds).

    Raises:
        RemoteProtocolError: it is malformed, badly signed, expired, or made for another namespace.
    """
    document = open_document(record, REGISTRATION_DOMAIN)
    problem = _problem(document)
    if problem:
        raise _refused(problem, "bad_message")
    read = Registration(
        peer_id=str(document["from"]),
        namespace=str(document["ns"]),
        seq=int(str(document["seq"])),
        expires=int(str(document["expires"])),
        body=str(document["body"]),
    )
    if read.namespace != namespace:
        raise _refused("it was made for another namespace", "identity_mismatch")
    if read.expires + CLOCK_LEEWAY_SECONDS < now:
        raise _refused("it has expired", "replay")
    return read


def _problem(document: dict[str, object]) -> str:
    namespace, body = document.get("ns"), document.get("body")
    if not isinstance(namespace, str) or not NAMESPACE_PATTERN.fullmatch(namespace):
        return "its namespace is malformed"
    if not isinstance(body, str) or len(body) > BODY_CHARACTERS_LIMIT or not is_encodable(body):
        return f"its body is not a text of at most {BODY_CHARACTERS_LIMIT} characters"
    for name in ("seq", "expires"):
        value = document.get(name)
        if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
            return f"its {name} is not a number"
    return ""


def _refused(reason: str, code: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"A registration was refused: {reason}.", code=code, phase="signalling")
