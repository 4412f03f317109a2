"""The messages of the conversation, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry

Payload = dict[str, Any]
"""A JSON object."""


class MessageType(IntEnum):
    """The first item of every message; numbers are never used again."""

    HELLO = 1
    AUTHENTICATION = 2
    JOIN = 3
    JOIN_ACCEPTED = 4
    JOIN_REFUSED = 5
    VECTOR = 6
    VECTOR_DIGEST = 7
    VECTOR_REQUEST = 8
    COMMIT = 9
    SECTION = 10
    ACKNOWLEDGEMENT = 11
    GRANT = 12
    PING = 13
    PONG = 14
    ERROR = 15
    CLOSE = 16
    CHANNEL = 17


DATA_TYPES: Final = frozenset({MessageType.COMMIT, MessageType.SECTION})
"""What travels within the receiver's credit."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of both sides: who it claims to be, and 32 fresh random bytes."""

    version: int
    peer_id: str
    nonce: bytes
    label: str


@dataclass(frozen=True, slots=True)
class Authentication:
    """The proof of the claim: the signature of the transcript (64 bytes)."""

    signature: bytes


@dataclass(frozen=True, slots=True)
class Join:
    """Asks to become a member by an invite, showing its secret (32 bytes)."""

    invite_id: UUID
    secret: bytes


@dataclass(frozen=True, slots=True)
class JoinAccepted:
    """Tells a newcomer what it needs to begin."""

    invite_id: UUID
    payload: Payload


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """Tells a newcomer why not."""

    invite_id: UUID
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Vector:
    """What the sender has of a bundle; `partial` names sections held of incomplete commits, by digest."""

    bundle_id: UUID
    entries: tuple[VectorEntry, ...]
    partial: dict[bytes, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class VectorDigest:
    """Stands for a vector that the other side may have as well."""

    bundle_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class VectorRequest:
    """Asks for the vector behind a digest."""

    bundle_id: UUID


@dataclass(frozen=True, slots=True)
class Commit:
    """A signed commit header."""

    bundle_id: UUID
    header: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a commit, packed or not; `section_no` counts from 1."""

    bundle_id: UUID
    commit_digest: bytes
    section_no: int
    packed: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What is durably merged; `signature` is empty or 64 bytes."""

    bundle_id: UUID
    entries: tuple[VectorEntry, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """Lets the other side send so many more bytes of commits and sections."""

    count: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a sign of life."""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping."""

    number: int


@dataclass(frozen=True, slots=True)
class Error:
    """Tells what went wrong, for people and programs; the session goes on unless it is closed too."""

    code: str
    phase: str
    retryable: bool
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class Close:
    """The last message of a side."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Channel:
    """Carries what applications say to each other; its bytes are those of `pgpeer.channel`.

    It is outside of the credit of commits: each application connection has a window of its own.
    """

    data: bytes


Message = (
    Hello
    | Authentication
    | Join
    | JoinAccepted
    | JoinRefused
    | Vector
    | VectorDigest
    | VectorRequest
    | Commit
    | Section
    | Acknowledgement
    | Grant
    | Ping
    | Pong
    | Error
    | Close
    | Channel
)
