"""The frames of a stream over several paths: their bytes, and nothing else.

All integers are big-endian. Data: type 1, flags, number (8), everything below this number has arrived (8),
part of a message. Acknowledgement: type 2, arrived (8), limit (8). Ping and pong: type 3 and 4, number (8).
Abort: type 5, a code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from struct import error as StructError
from typing import Final

from pgpeer.errors import CODES, RemoteProtocolError
from pgpeer.transport.base import MAX_FRAME_BYTES

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What may be under way or wait to be read in one direction; the sender keeps no more for sending again."""

MESSAGE_COST_BYTES: Final = 64
"""Added to the size of every part when it is charged to the window, so that tiny ones are bounded too."""

CONTROL_LIMIT: Final = 64
"""More pongs than this do not wait for a path; a peer that pings faster than it reads gets fewer answers."""

_DATA, _ACKNOWLEDGEMENT, _PING, _PONG, _ABORT = 1, 2, 3, 4, 5
_DATA_HEAD: Final = Struct(">BBQQ")
_ACKNOWLEDGEMENT_FRAME: Final = Struct(">BQQ")
_PULSE_FRAME: Final = Struct(">BQ")

PART_BYTES: Final = MAX_FRAME_BYTES - _DATA_HEAD.size
"""The largest part of a message that fits into one frame."""


class Flag(IntFlag):
    """What a part is: one with more to follow, the end of the stream, or part of a signal."""

    NONE = 0
    MORE = 1
    FIN = 2
    SIGNAL = 4


_KNOWN: Final = int(Flag.MORE | Flag.FIN | Flag.SIGNAL)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message, or the end of the stream, which is empty."""

    flags: Flag
    data: bytes

    @property
    def cost(self) -> int:
        """What it takes of the window."""
        return len(self.data) + MESSAGE_COST_BYTES


@dataclass(frozen=True, slots=True)
class Data:
    """A part with its number; `arrived` acknowledges everything below it the other way."""

    number: int
    arrived: int
    part: Part


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Everything below `arrived` is here; parts may be sent until they have cost `limit` together."""

    arrived: int
    limit: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for the pong of this number on the same path."""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping."""

    number: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The other side gives the stream up."""

    code: str


Frame = Data | Acknowledgement | Ping | Pong | Abort


def split(message: bytes, *, is_signal: bool) -> Iterator[Part]:
    """Cut a message into parts that fit into frames."""
    kind = Flag.SIGNAL if is_signal else Flag.NONE
    for start in range(0, len(message), PART_BYTES):
        more = Flag.MORE if start + PART_BYTES < len(message) else Flag.NONE
        yield Part(kind | more, message[start : start + PART_BYTES])


def data(part: Part, number: int, arrived: int) -> bytes:
    """Write a part."""
    return _DATA_HEAD.pack(_DATA, part.flags, number, arrived) + part.data


def acknowledgement(arrived: int, limit: int) -> bytes:
    """Write an acknowledgement."""
    return _ACKNOWLEDGEMENT_FRAME.pack(_ACKNOWLEDGEMENT, arrived, limit)


def ping(number: int) -> bytes:
    """Write a ping."""
    return _PULSE_FRAME.pack(_PING, number)


def pong(number: int) -> bytes:
    """Write a pong."""
    return _PULSE_FRAME.pack(_PONG, number)


def abort(code: str) -> bytes:
    """Write an abort."""
    return bytes((_ABORT,)) + code.encode("ascii")


def read(frame: bytes) -> Frame:
    """Read a frame.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    try:
        match frame[0]:
            case 1:
                _, flags, number, arrived = _DATA_HEAD.unpack_from(frame)
                return Data(number, arrived, _part(flags, frame[_DATA_HEAD.size :]))
            case 2:
                _, arrived, limit = _ACKNOWLEDGEMENT_FRAME.unpack(frame)
                return Acknowledgement(arrived, limit)
            case 3:
                return Ping(_PULSE_FRAME.unpack(frame)[1])
            case 4:
                return Pong(_PULSE_FRAME.unpack(frame)[1])
            case 5:
                code = frame[1:].decode("ascii", "replace")
                return Abort(code if code in CODES else "remote_closed")
    except (StructError, IndexError) as error:
        raise RemoteProtocolError("A frame of a path has a wrong length.", phase="transfer") from error
    raise RemoteProtocolError("A frame of a path is of an unknown type.", phase="transfer")


def _part(flags: int, payload: bytes) -> Part:
    if flags & ~_KNOWN or (flags & Flag.FIN and flags != Flag.FIN):
        raise RemoteProtocolError("A part of a message has unknown flags.", phase="transfer")
    if payload if flags & Flag.FIN else not payload:
        raise RemoteProtocolError("A part of a message is empty, or the end is not.", phase="transfer")
    return Part(Flag(flags), payload)
