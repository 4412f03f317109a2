"""What a session tells its owner, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.protocol.messages import Payload


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The other side has proven who it is; everything else comes after this."""

    peer_id: str
    label: str


@dataclass(frozen=True, slots=True)
class JoinRequested:
    """The other side wants to join by an invite; answer with `accept_join` or `refuse_join`."""

    invite_id: UUID
    secret: bytes


@dataclass(frozen=True, slots=True)
class JoinAccepted:
    """The other side took this side in."""

    invite_id: UUID
    payload: Payload


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """The other side did not take this side in."""

    invite_id: UUID
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class VectorReceived:
    """What the other side has of a bundle, and the sections it holds of incomplete commits."""

    bundle_id: UUID
    entries: tuple[VectorEntry, ...]
    partial: dict[bytes, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class CommitReceived:
    """A commit header, not verified yet. Its sections follow it.

    Attributes:
        credit: bytes to `grant` when the header is taken care of.
        is_large: whether it has, or waits for, a turn (`Session.large`).
    """

    bundle_id: UUID
    header: bytes
    signature: bytes
    credit: int
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class SectionReceived:
    """One section, not verified; packed until `Session.unpack`, so that what waits takes little memory.

    Attributes:
        section_no: its place in the commit, counting from 1.
        data: its bytes.
        credit: bytes to `grant` when the data is taken care of.
        packed: whether `data` must be unpacked; the size it will have is within the limits.
        is_large: whether it has, or waits for, a turn (`Session.large`).
    """

    bundle_id: UUID
    commit_digest: bytes
    section_no: int
    data: bytes
    credit: int
    packed: bool = False
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class AcknowledgementReceived:
    """What the other side has durably merged; `signature` is empty or 64 bytes, not verified."""

    bundle_id: UUID
    entries: tuple[VectorEntry, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class ChannelReceived:
    """The other side says something about the connections of applications; the bytes are not read yet."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RemoteError:
    """The other side met an error that concerns this conversation; the session goes on."""

    code: str
    phase: str
    retryable: bool
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class SessionSlow:
    """The handshake takes long but has not failed; `phase` is `hello` or `identity`."""

    phase: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The last event.

    Attributes:
        code: `remote_closed`, `local_closed`, `timeout`, or the code of the error that ended it.
        phase: where it ended, when that says something.
        detail: one sentence.
        retryable: whether the same may work later with nothing changed here.
        remedy: what people can do, when that is known.
        is_violation: whether the other side broke the rules.
    """

    code: str
    phase: str
    detail: str
    retryable: bool
    remedy: str = ""
    is_violation: bool = False


Event = (
    Authenticated
    | JoinRequested
    | JoinAccepted
    | JoinRefused
    | VectorReceived
    | CommitReceived
    | SectionReceived
    | AcknowledgementReceived
    | ChannelReceived
    | RemoteError
    | SessionSlow
    | SessionClosed
)
