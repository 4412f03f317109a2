"""A letter: what a peer leaves at a hub for one that is absent, signed inside and sealed outside.

The hub keeps the sealed box and never learns more than sender, recipient, size and time. A letter may arrive
more than once: its recipient remembers the ids of those it has acted upon until they expire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.envelope import open_document, sign_document
from pgpeer.signaling.fields import LARGEST_NUMBER
from pgpeer.signaling.signal import CLOCK_LEEWAY_SECONDS, is_encodable

LETTER_DOMAIN: Final = "letter"
ID_BYTES: Final = 16
BODY_BYTES_LIMIT: Final = 24 * 1024
SUBJECT_PATTERN: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
LONGEST_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter.

    Attributes:
        letter_id: 16 random bytes; who gets it twice knows it by them.
        sender: peer id of who signs it.
        recipient: peer id of whom it is for.
        subject: what kind of letter it is: 1 to 64 of a-z 0-9 _ -.
        body: at most 24 KiB of UTF-8.
        expires: unix time in seconds, at most 7 days after it was made.
    """

    letter_id: bytes
    sender: str
    recipient: str
    subject: str
    body: str
    expires: int


def sign_letter(key: PrivateKey, letter: Letter) -> bytes:
    """Give the plain text to seal.

    Raises:
        LocalProtocolError: the letter is not the key's own, or is outside its limits.
    """
    if letter.sender != key.peer_id:
        raise LocalProtocolError("A letter can be signed by its sender only.", phase="signalling")
    document = {
        "id": letter.letter_id.hex(),
        "from": letter.sender,
        "to": letter.recipient,
        "subject": letter.subject,
        "body": letter.body,
        "expires": letter.expires,
    }
    problem = _problem(document)
    if problem:
        raise LocalProtocolError(f"A letter cannot be sent: {problem}.", phase="signalling")
    return sign_document(key, LETTER_DOMAIN, document)


def read_letter(plaintext: bytes, *, sender: str, recipient: str, now: float) -> Letter:
    """Read and check what was inside a sealed box that came from the mailbox.

    Args:
        plaintext: the opened box.
        sender: peer id that the hub names as the sender.
        recipient: our own peer id.
        now: unix seconds; clocks may differ by 5 minutes.

    Raises:
        RemoteProtocolError: it is malformed, badly signed, expired, dated too far ahead, or not from and for
            whom the hub said.
    """
    document = open_document(plaintext, LETTER_DOMAIN, sender)
    problem = _problem(document)
    if problem:
        raise _refused(problem, "bad_message")
    letter = Letter(
        letter_id=bytes.fromhex(str(document["id"])),
        sender=sender,
        recipient=str(document["to"]),
        subject=str(document["subject"]),
        body=str(document["body"]),
        expires=int(str(document["expires"])),
    )
    if letter.recipient != recipient:
        raise _refused("it was made for another peer", "identity_mismatch")
    if letter.expires + CLOCK_LEEWAY_SECONDS < now:
        raise _refused("it has expired", "replay")
    if letter.expires > now + LONGEST_SECONDS + CLOCK_LEEWAY_SECONDS:
        raise _refused("it is dated too far ahead", "replay")
    return letter


def _problem(document: dict[str, object]) -> str:
    letter_id, subject, body = document.get("id"), document.get("subject"), document.get("body")
    if not isinstance(letter_id, str) or not re.fullmatch(f"[0-9a-f]{{{2 * ID_BYTES}}}", letter_id):
        return "its id is malformed"
    if not isinstance(document.get("to"), str):
        return "its recipient is malformed"
    if not isinstance(subject, str) or not SUBJECT_PATTERN.fullmatch(subject):
        return "its subject is malformed"
    if not isinstance(body, str) or not is_encodable(body) or len(body.encode("utf-8")) > BODY_BYTES_LIMIT:
        return f"its body is not a text of at most {BODY_BYTES_LIMIT} bytes"
    expires = document.get("expires")
    if type(expires) is not int or not 0 <= expires <= LARGEST_NUMBER:
        return "its expiry is not a time"
    return ""


def _refused(reason: str, code: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"A letter was refused: {reason}.", code=code, phase="signalling")
