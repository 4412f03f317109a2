"""Reading a peer's SDP before the engine does: it may say only what one data channel needs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsFingerprint
from aiortc.rtcicetransport import RTCIceCandidate
from aiortc.sdp import SessionDescription

from pgpeer.errors import TransportError

MAX_SDP_BYTES: Final = 32 * 1024
"""The largest description accepted."""

MAX_CANDIDATES: Final = 64
"""The most addresses a peer may make this host try."""

_PARSE_ERRORS: Final = (
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    AssertionError,
    StopIteration,
)
"""What the engine's parser raises on text that is not SDP."""


@dataclass(frozen=True, slots=True)
class Description:
    """A peer's description that passed the checks.

    Attributes:
        sdp: the text for the engine.
        fingerprint: SHA-256 of the certificate that the peer must prove possession of (32 bytes).
    """

    sdp: str
    fingerprint: bytes


def read_description(sdp: str) -> Description:
    """Check a peer's SDP.

    Raises:
        TransportError: it is not SDP, or asks for anything but one data channel section.
    """
    if len(sdp) > MAX_SDP_BYTES:
        raise _refused(f"has {len(sdp)} characters, {MAX_SDP_BYTES} are allowed", code="too_large")
    try:
        session = SessionDescription.parse(sdp)
    except _PARSE_ERRORS as error:
        raise _refused("is not SDP") from error
    if [media.kind for media in session.media] != ["application"]:
        raise _refused("must have exactly one section, for data")
    media = session.media[0]
    if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
        raise _refused("has no ICE credentials")
    if media.sctp_port is None:
        raise _refused("has no SCTP port")
    if len(media.ice_candidates) > MAX_CANDIDATES:
        raise _refused(
            f"has {len(media.ice_candidates)} candidates, {MAX_CANDIDATES} are allowed", code="too_large"
        )
    if not any(map(_is_usable, media.ice_candidates)):
        raise _refused("names no address where the peer can be reached")
    return Description(sdp, _sha256(media.dtls.fingerprints if media.dtls is not None else []))


def _is_usable(candidate: RTCIceCandidate) -> bool:
    """Whether the engine can try this candidate; with none that it can it would wait for nothing."""
    if candidate.component != 1 or candidate.type not in ("host", "srflx", "relay"):
        return False
    try:
        ipaddress.ip_address(candidate.ip)
    except ValueError:
        return candidate.ip.endswith(".local")
    return True


def local_fingerprint(connection: RTCPeerConnection) -> bytes:
    """Return SHA-256 of this side's certificate (32 bytes)."""
    sctp = connection.sctp
    assert sctp is not None, "the data channel is made first"
    return _sha256(sctp.transport.getLocalParameters().fingerprints)


def _sha256(fingerprints: list[RTCDtlsFingerprint]) -> bytes:
    """Return the SHA-256 fingerprint; the engine checks every one listed against the certificate."""
    for fingerprint in fingerprints:
        if fingerprint.algorithm.lower() == "sha-256" and re.fullmatch(
            r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}", fingerprint.value
        ):
            return bytes.fromhex(fingerprint.value.replace(":", ""))
    raise _refused("has no SHA-256 certificate fingerprint")


def _refused(why: str, *, code: str = "bad_message") -> TransportError:
    return TransportError(
        f"The peer's session description {why}.",
        code=code,
        phase="signalling",
        retryable=False,
        remedy="Check that both sides run compatible versions of pgpeer.",
    )
