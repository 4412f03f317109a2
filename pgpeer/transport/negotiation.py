"""Offers and answers that travel over the stream itself, so that a better path needs no hub. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pgpeer.errors import RemoteProtocolError

Kind = Literal["offer", "answer", "refuse"]


@dataclass(frozen=True, slots=True)
class Negotiation:
    """One step: an offer, or the answer to or refusal of the offer of the same number.

    Attributes:
        kind: which step.
        number: names the offer; chosen by who offers.
        sdp: the complete session description; empty in a refusal.
    """

    kind: Kind
    number: int
    sdp: str = ""

    def encode(self) -> bytes:
        """Give it as a signal."""
        return json.dumps({"kind": self.kind, "number": self.number, "sdp": self.sdp}).encode("ascii")


def read_negotiation(signal: bytes) -> Negotiation:
    """Read a signal.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    try:
        document = json.loads(signal)
        kind, number, sdp = document["kind"], document["number"], document["sdp"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RemoteProtocolError("A negotiation of a path is malformed.", phase="signalling") from error
    if kind not in ("offer", "answer", "refuse") or type(number) is not int or not isinstance(sdp, str):
        raise RemoteProtocolError("A negotiation of a path is malformed.", phase="signalling")
    return Negotiation(kind, number, sdp)
