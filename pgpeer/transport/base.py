"""What every engine offers: a `Link` that carries whole frames in order between two peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from pgpeer.errors import FrameTooLarge

MAX_FRAME_BYTES: Final = 64 * 1024
"""The largest frame a link takes; every data channel implementation measured carries it in one message."""

HIGH_WATER_BYTES: Final = 1024 * 1024
"""`send` waits while more than this is buffered and not yet handed to the network."""

LOW_WATER_BYTES: Final = 256 * 1024
"""A waiting `send` goes on when no more than this is left."""

MAX_INBOX_BYTES: Final = 32 * 1024 * 1024
"""A link closes itself when this much waits to be received: the other side ignored its credit."""


PathKind = Literal["webrtc", "tls", "relay", "memory"]
"""The kinds of path there are."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One end of the path that the engine chose.

    Attributes:
        type: `host`, `srflx` (seen through a NAT), `relay`, or `memory`.
        address: the IP address, or a name for links inside one process.
        port: the port; 0 for links inside one process.
        protocol: `udp`, `tcp` or `memory`.
    """

    type: str
    address: str
    port: int
    protocol: str

    def __str__(self) -> str:
        is_ipv6 = ":" in self.address and "/" not in self.address  # a relay's is the URL of its hub
        host = f"[{self.address}]" if is_ipv6 else self.address
        at = f"{host}:{self.port}" if self.port else host
        return f"{self.type} {at}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class LinkPath:
    """How the bytes of a link travel.

    Attributes:
        kind: the path as `peer.connection` names it, or `memory` for links inside one process. A relay is one
            of the hub's circuits; a WebRTC path over a TURN server is still `webrtc`, its candidate `relay`.
        engine: the library that carries it.
        local_candidate: the selected end on this side.
        remote_candidate: the selected end on the other side.
    """

    kind: PathKind
    engine: str
    local_candidate: Candidate
    remote_candidate: Candidate

    def __str__(self) -> str:
        return f"{self.kind} ({self.engine}) {self.local_candidate} <-> {self.remote_candidate}"


class Link(Protocol):
    """A reliable, ordered carrier of frames between two peers; frames arrive whole or not at all.

    One task may send and another receive at the same time, but each of them only one at a time.
    """

    @property
    def path(self) -> LinkPath:
        """The path in use."""
        ...

    @property
    def local_fingerprint(self) -> bytes:
        """SHA-256 of the certificate this side proved possession of (32 bytes)."""
        ...

    @property
    def remote_fingerprint(self) -> bytes:
        """SHA-256 of the certificate the other side proved possession of (32 bytes)."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes taken by `send` and not yet handed to the network."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Payload bytes of all frames taken by `send` so far."""
        ...

    @property
    def bytes_received(self) -> int:
        """Payload bytes of all frames that arrived so far."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the link can carry nothing more."""
        ...

    async def send(self, frame: bytes) -> None:
        """Take a frame of 1 to `MAX_FRAME_BYTES` bytes; wait while more than `HIGH_WATER_BYTES` are buffered.

        A cancelled `send` has taken the frame already: only the wait for room is given up.

        Raises:
            FrameTooLarge: the frame is empty or too large; nothing was sent and the link still works.
            LinkClosed: the link is closed, or closed while waiting.
        """
        ...

    async def receive(self) -> bytes:
        """Return the next frame, waiting for it. Cancellation loses no frame.

        Raises:
            LinkClosed: the link is closed and every frame that arrived before was returned.
        """
        ...

    async def close(self) -> None:
        """Close the link; frames taken before are delivered when the other side still answers. Idempotent."""
        ...


def check_frame(frame: bytes) -> None:
    """Refuse a frame that no engine may take.

    Raises:
        FrameTooLarge: the frame is empty or larger than `MAX_FRAME_BYTES`.
    """
    if not 0 < len(frame) <= MAX_FRAME_BYTES:
        raise FrameTooLarge(f"A frame has {len(frame)} bytes, but a link takes 1 to {MAX_FRAME_BYTES}.")
