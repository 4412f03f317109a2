"""Frames: how messages of any size share a link.

A frame is a row of segments, each `flags, length (2 bytes), payload`. A message in one segment is marked
first and last; a longer one is split, and its first segment carries the total length (4 bytes) before the
payload. The two lanes, control and data, are split and put together independently, so that a grant or an
acknowledgement passes a large section on its way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits


class Lane(IntEnum):
    """Which messages wait for which."""

    CONTROL = 0
    DATA = 1


_DATA: Final = 1
_FIRST: Final = 2
_LAST: Final = 4
_KNOWN: Final = _DATA | _FIRST | _LAST
_HEAD: Final = Struct(">BH")
_HEAD_WITH_TOTAL: Final = Struct(">BHI")


_PROGRAMS: Final = 2
"""The queue of what programs say. On the wire it is in the control lane, whole messages at a time."""


class Outbox:
    """Messages that wait to be sent: control first, then programs and data, each half of a frame."""

    __slots__ = ("_lanes", "_offsets", "data_bytes")

    def __init__(self) -> None:
        self._lanes: tuple[deque[bytes], deque[bytes], deque[bytes]] = (deque(), deque(), deque())
        self._offsets = [0, 0, 0]
        self.data_bytes = 0
        """Bytes of data messages that wait."""

    def put(self, lane: Lane, message: bytes) -> None:
        """Add a message at the end of its lane."""
        self._lanes[lane].append(message)
        if lane is Lane.DATA:
            self.data_bytes += len(message)

    def put_program(self, message: bytes) -> None:
        """Add what a program says."""
        self._lanes[_PROGRAMS].append(message)

    @property
    def has_control(self) -> bool:
        """Whether control messages wait."""
        return bool(self._lanes[Lane.CONTROL])

    @property
    def has_program(self) -> bool:
        """Whether what a program says waits."""
        return bool(self._lanes[_PROGRAMS])

    def next_frame(self, credit: int) -> tuple[bytes, int] | None:
        """Give the next frame and how much credit it uses; None when nothing may be sent now.

        Args:
            credit: how many bytes of data segments may be sent.
        """
        parts: list[bytes] = []
        room = limits.MAX_FRAME_BYTES
        share = room // 2 if credit > 0 and self._lanes[Lane.DATA] else room
        if self._offsets[_PROGRAMS]:
            # control messages cannot pass one of their lane that has begun: let it end soon
            begun = self._fill(_PROGRAMS, parts, room if self.has_control else share, limit=1)
            room, share = room - begun, share - begun
        if not self._offsets[_PROGRAMS]:
            room -= self._fill(Lane.CONTROL, parts, room)
        if not self._offsets[Lane.CONTROL]:
            room -= self._fill(_PROGRAMS, parts, min(room, share))
        used = self._fill(Lane.DATA, parts, min(room, credit))
        return (b"".join(parts), used) if parts else None

    def drop_data(self) -> None:
        """Forget data and what programs say; used when a session closes. What has begun is ended."""
        self._lanes[Lane.DATA].clear()
        self._offsets[Lane.DATA] = 0
        self.data_bytes = 0
        while len(self._lanes[_PROGRAMS]) > bool(self._offsets[_PROGRAMS]):
            self._lanes[_PROGRAMS].pop()

    def _fill(self, number: int, parts: list[bytes], room: int, limit: int = 1 << 30) -> int:
        """Add segments of at most `limit` messages of a queue and give the bytes used, at most `room`."""
        queue = self._lanes[number]
        lane = Lane.DATA if number == Lane.DATA else Lane.CONTROL
        used = 0
        while queue and limit:
            message, offset = queue[0], self._offsets[number]
            left = len(message) - offset
            first = _FIRST if offset == 0 else 0
            if left + _HEAD.size <= room - used:
                parts += (_HEAD.pack(lane | first | _LAST, left), message[offset:] if offset else message)
                size, head = left, _HEAD.size
                queue.popleft()
                self._offsets[number] = 0
                limit -= 1
            else:
                head = _HEAD_WITH_TOTAL.size if first else _HEAD.size
                size = room - used - head
                if size < limits.MIN_SPLIT_BYTES:
                    break
                flags = lane | first
                parts.append(
                    _HEAD_WITH_TOTAL.pack(flags, size, len(message)) if first else _HEAD.pack(flags, size)
                )
                parts.append(message[offset : offset + size])
                self._offsets[number] += size
            used += head + size
            if lane is Lane.DATA:
                self.data_bytes -= size
        return used


@dataclass(slots=True)
class _Assembly:
    """A message that has arrived in part."""

    total: int
    data: bytearray


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment brought.

    Attributes:
        lane: its lane.
        size: its bytes in the frame, which count against the credit in the data lane.
        total: the length of its message.
        message: the message that it completed, if it did.
    """

    lane: Lane
    size: int
    total: int
    message: bytes | None


class Assembler:
    """Puts messages together again.

    Attributes:
        limits: the largest message of each lane accepted now, control first.
    """

    __slots__ = ("_under_way", "limits")

    def __init__(self, control_limit: int, data_limit: int) -> None:
        self.limits = [control_limit, data_limit]
        self._under_way: list[_Assembly | None] = [None, None]

    def read(self, frame: bytes) -> Iterator[Segment]:
        """Take a frame apart, segment by segment, so that one message can change the limits for the next.

        Memory is taken only for bytes that are there, whatever total a segment announces.

        Raises:
            RemoteProtocolError: the frame breaks the rules above or a message is above its limit.
        """
        if not frame or len(frame) > limits.MAX_FRAME_BYTES:
            raise RemoteProtocolError(
                f"A frame has {len(frame)} bytes, {limits.MAX_FRAME_BYTES} are allowed.", code="too_large"
            )
        position = 0
        while position < len(frame):
            segment = self._segment(frame, position)
            position += segment.size
            yield segment

    def _segment(self, frame: bytes, position: int) -> Segment:
        head = _HEAD
        if len(frame) - position < head.size:
            raise RemoteProtocolError("A frame ends within the head of a segment.")
        flags, length = head.unpack_from(frame, position)
        if flags & ~_KNOWN:
            raise RemoteProtocolError("A segment has unknown flags.")
        lane = Lane(flags & _DATA)
        split_first = flags & (_FIRST | _LAST) == _FIRST
        if split_first:
            head = _HEAD_WITH_TOTAL
            if len(frame) - position < head.size:
                raise RemoteProtocolError("A frame ends within the head of a segment.")
        start, end = position + head.size, position + head.size + length
        if length == 0 or end > len(frame):
            raise RemoteProtocolError("A segment is empty or longer than its frame.")
        payload = frame[start:end]
        if flags & _FIRST:
            total = _HEAD_WITH_TOTAL.unpack_from(frame, position)[2] if split_first else length
            message = self._begin(lane, total, payload, split_first)
        else:
            total, message = self._go_on(lane, payload, bool(flags & _LAST))
        return Segment(lane, head.size + length, total, message)

    def _begin(self, lane: Lane, total: int, payload: bytes, split: bool) -> bytes | None:
        if self._under_way[lane] is not None:
            raise RemoteProtocolError("A message begins before the one before it has ended.")
        if total > self.limits[lane]:
            raise RemoteProtocolError(
                f"A message has {total} bytes, {self.limits[lane]} are allowed now.", code="too_large"
            )
        if not split:
            return payload
        if total <= len(payload):
            raise RemoteProtocolError("The first part of a message is not shorter than the whole.")
        self._under_way[lane] = _Assembly(total, bytearray(payload))
        return None

    def _go_on(self, lane: Lane, payload: bytes, last: bool) -> tuple[int, bytes | None]:
        assembly = self._under_way[lane]
        if assembly is None:
            raise RemoteProtocolError("A part of a message has no beginning.")
        assembly.data += payload
        if last:
            if len(assembly.data) != assembly.total:
                raise RemoteProtocolError("A message ends before or after the length it announced.")
            self._under_way[lane] = None
            return assembly.total, bytes(assembly.data)
        if len(assembly.data) >= assembly.total:
            raise RemoteProtocolError("A message goes on after the length it announced.")
        return assembly.total, None
