"""A signal: the signed, short-lived description of how to reach a peer, sealed against the hub.

The plain text inside the sealed box is a 64-byte signature (domain "signal") and the JSON body that it signs.
Both peer ids, the session id, a nonce and an expiry are inside, so an old or diverted offer is worth nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal

from pgpeer.errors import IdentityError, LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import SIGNATURE_BYTES, PrivateKey, verify
from pgpeer.identity.peer_id import public_key_from_peer_id

SIGNAL_DOMAIN: Final = "signal"
LIFETIME_SECONDS: Final = 60
CLOCK_LEEWAY_SECONDS: Final = 300
NONCE_BYTES: Final = 16
SDP_BYTES_LIMIT: Final = 32 * 1024
REMEMBERED_NONCES_LIMIT: Final = 16_384

SignalKind = Literal["offer", "answer", "reject"]

SID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal.

    Attributes:
        sid: names the attempt to connect; the answer bears the offer's. 1 to 64 of A-Z a-z 0-9 _ -.
        sender: peer id of who signs it.
        recipient: peer id of whom it is for.
        kind: 'offer', 'answer' or 'reject'.
        sdp: the complete session description; of a reject the reason code.
        nonce: 16 random bytes.
        expires: unix time in seconds, at most 60 s after it was made.
    """

    sid: str
    sender: str
    recipient: str
    kind: SignalKind
    sdp: str
    nonce: bytes
    expires: int


class ReplayGuard:
    """Remembers the nonces of signals that were taken, as long as they could come again."""

    __slots__ = ("_expiries",)

    def __init__(self) -> None:
        self._expiries: dict[tuple[str, bytes], float] = {}

    def admit(self, signal: Signal, now: float) -> None:
        """Take note of a signal at `now` (unix seconds).

        Raises:
            RemoteProtocolError: it was taken before, or too many are remembered.
        """
        if len(self._expiries) >= REMEMBERED_NONCES_LIMIT:
            self._expiries = {key: expiry for key, expiry in self._expiries.items() if expiry > now}
        name = (signal.sender, signal.nonce)
        if name in self._expiries:
            raise _refused("it was received before", "replay")
        if len(self._expiries) >= REMEMBERED_NONCES_LIMIT:
            raise _refused("too many came at once", "rate_limited")
        self._expiries[name] = signal.expires + CLOCK_LEEWAY_SECONDS


def sign_signal(key: PrivateKey, signal: Signal) -> bytes:
    """Give the plain text to seal: signature and body.

    Raises:
        LocalProtocolError: the signal is not the key's own, or is outside its limits.
    """
    if signal.sender != key.peer_id:
        raise LocalProtocolError("A signal can be signed by its sender only.", phase="signalling")
    problem = _problem(signal)
    if problem:
        raise LocalProtocolError(f"A signal cannot be sent: {problem}.", phase="signalling")
    document = {
        "sid": signal.sid,
        "from": signal.sender,
        "to": signal.recipient,
        "kind": signal.kind,
        "sdp": signal.sdp,
        "nonce": signal.nonce.hex(),
        "expires": signal.expires,
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return key.sign(SIGNAL_DOMAIN, body) + body


def read_signal(
    plaintext: bytes, *, sender: str, recipient: str, sid: str, now: float, guard: ReplayGuard
) -> Signal:
    """Read and check what was inside a sealed box.

    Args:
        plaintext: the opened box.
        sender: peer id that the hub names as the sender.
        recipient: our own peer id.
        sid: session id that the hub names.
        now: unix seconds; clocks may differ by 5 minutes.
        guard: refuses what was taken before; it remembers this signal when it is good.

    Raises:
        RemoteProtocolError: it is malformed, badly signed, expired, repeated, or not from, for and about whom
            and what the hub said.
    """
    signature, body = plaintext[:SIGNATURE_BYTES], plaintext[SIGNATURE_BYTES:]
    try:
        verify(public_key_from_peer_id(sender), SIGNAL_DOMAIN, body, signature)
    except IdentityError as error:
        raise _refused("its signature is not the sender's", "bad_signature") from error
    signal = _parse(body)
    if (signal.sender, signal.recipient, signal.sid) != (sender, recipient, sid):
        raise _refused("it was made for another peer or attempt", "identity_mismatch")
    if signal.expires + CLOCK_LEEWAY_SECONDS < now:
        raise _refused("it has expired", "replay")
    if signal.expires > now + LIFETIME_SECONDS + CLOCK_LEEWAY_SECONDS:
        raise _refused("it is dated too far ahead", "replay")
    guard.admit(signal, now)
    return signal


def _parse(body: bytes) -> Signal:
    try:
        document = json.loads(body)
        nonce = bytes.fromhex(document["nonce"])
        signal = Signal(
            sid=document["sid"],
            sender=document["from"],
            recipient=document["to"],
            kind=document["kind"],
            sdp=document["sdp"],
            nonce=nonce,
            expires=document["expires"],
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused("it is malformed", "bad_message") from error
    problem = _problem(signal)
    if problem:
        raise _refused(problem, "bad_message")
    return signal


def _problem(signal: Signal) -> str:
    """Say what is wrong with a signal's members, whose types are not sure; empty when nothing is."""
    if not isinstance(signal.sid, str) or not SID_PATTERN.fullmatch(signal.sid):
        return "its session id is malformed"
    if signal.kind not in ("offer", "answer", "reject"):
        return "its kind is unknown"
    if not isinstance(signal.sdp, str) or not is_encodable(signal.sdp):
        return "its description is not a text"
    if len(signal.sdp.encode("utf-8")) > SDP_BYTES_LIMIT:
        return f"its description is longer than {SDP_BYTES_LIMIT} bytes"
    if len(signal.nonce) != NONCE_BYTES:
        return f"its nonce is not {NONCE_BYTES} bytes long"
    if type(signal.expires) is not int or not 0 <= signal.expires < 2**53:
        return "its expiry is not a time"
    return ""


def is_encodable(value: str) -> bool:
    """Whether a text that came as JSON can be written as UTF-8 (it has no lone surrogates)."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _refused(reason: str, code: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"A signal from a peer was refused: {reason}.", code=code, phase="signalling")
