"""One stream of messages over paths that come and go: numbered, acknowledged, kept until they have arrived.

A path is a link that is already authenticated. Each side sends its messages on the best path it has and takes
messages from every path, so the two sides need no agreement about a change of path: what was sent on a path
that is lost goes out again on another one, and what comes twice is dropped by its number. Nothing is
acknowledged before it is here, and no more is sent than the receiver granted, so memory is bounded on both
sides. (QUIC's multipath extension works alike; here the paths are reliable, so nothing is sent twice on one.)

No I/O here: the owner feeds `receive`, `lose` and `tick`, sends every `next_frame` of every path, takes
`messages` and `events`, and calls `tick` again at `next_deadline`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from pgpeer.errors import LinkClosed, LocalProtocolError, RemoteProtocolError
from pgpeer.transport import multipath_frames as frames
from pgpeer.transport.multipath_events import (
    PathDropped,
    PathInUse,
    PathSuspect,
    PathTrusted,
    StreamEnded,
    SwitchEvent,
)
from pgpeer.transport.multipath_frames import Flag, Part
from pgpeer.transport.multipath_intake import Intake
from pgpeer.transport.pulse import Pulse

WARM_SECONDS: Final = 30.0
"""So long a path is kept open beside a better one."""

PATHLESS_SECONDS: Final = 15.0
"""So long a stream waits for a path when it has none, before it is over."""

PATHS_LIMIT: Final = 8
"""The most paths at a time."""


@dataclass(slots=True)
class _Path:
    rank: int
    is_preferred: bool
    pulse: Pulse
    control: deque[bytes] = field(default_factory=deque)
    surpassed_at: float | None = None
    was_suspect: bool = False


class PathSwitch:
    """One side of the stream.

    Args:
        now: seconds of a monotonic clock, the same one for every other call.
    """

    def __init__(self, now: float) -> None:
        self._paths: dict[int, _Path] = {}
        self._current: int | None = None
        self._pathless_since: float | None = now
        self._events: list[SwitchEvent] = []
        self._queue: deque[Part] = deque()
        self._again: deque[int] = deque()
        self._kept: dict[int, tuple[Part, int]] = {}
        self._next_number = 0
        self._sent_cost = 0
        self._limit = frames.WINDOW_BYTES
        self._intake = Intake()
        self._is_closing = False
        self._ended: LinkClosed | None = None
        self.queued_bytes = 0
        """Bytes of messages that wait for a path or for room at the receiver."""

    # What the owner asks.

    @property
    def current(self) -> int | None:
        """The path in use for sending; None when there is none."""
        return self._current

    @property
    def ended(self) -> LinkClosed | None:
        """Why the stream is over; None while it goes on."""
        return self._ended

    @property
    def is_flushed(self) -> bool:
        """Whether everything that was sent has arrived."""
        return not self._queue and not self._kept

    @property
    def kept_count(self) -> int:
        """How many parts are kept because they may have to be sent again."""
        return len(self._kept)

    @property
    def repeats(self) -> int:
        """How many parts came more than once and were dropped."""
        return self._intake.repeats

    def rtt(self, path: int) -> float | None:
        """Give the last measured round trip of a path in seconds; None when there is none."""
        return self._paths[path].pulse.rtt if path in self._paths else None

    def next_deadline(self, now: float) -> float | None:
        """Give when `tick` must be called next; None when nothing will become due."""
        if self._ended is not None:
            return None
        due = [
            now if path.pulse.is_suspect(now) and not path.was_suspect else path.pulse.deadline(now)
            for path in self._paths.values()
        ]
        due += [
            path.surpassed_at + WARM_SECONDS
            for path in self._paths.values()
            if path.surpassed_at is not None and now < path.surpassed_at + WARM_SECONDS
        ]
        if self._pathless_since is not None:
            due.append(self._pathless_since + PATHLESS_SECONDS)
        acknowledge_at = self._intake.acknowledge_at
        if acknowledge_at is not None and self._current is not None and now < acknowledge_at:
            due.append(acknowledge_at)  # what is due already waits for the path, not for the clock
        return min(due, default=None)

    def events(self) -> list[SwitchEvent]:
        """Give what happened since the last call, in order."""
        happened, self._events = self._events, []
        return happened

    # Messages.

    def send(self, message: bytes, *, is_signal: bool = False) -> None:
        """Take a message; a signal is for the other side's owner, not for who uses the stream.

        Raises:
            LinkClosed: the stream is over or closing.
            LocalProtocolError: the message is empty.
        """
        if self._ended is not None or self._is_closing:
            raise LinkClosed("The link is closed.", code="local_closed")
        if not message:
            raise LocalProtocolError("An empty message cannot be sent.", phase="transfer")
        for part in frames.split(message, is_signal=is_signal):
            self._queue.append(part)
        self.queued_bytes += len(message)

    def close(self) -> None:
        """Send nothing more: the end follows the last message. `is_flushed` tells when it has arrived."""
        if not self._is_closing and self._ended is None:
            self._is_closing = True
            self._queue.append(Part(Flag.FIN, b""))

    def messages(self) -> list[tuple[bytes, bool]]:
        """Give the messages that have become complete, in order, each with whether it is a signal."""
        return self._intake.messages()

    def consumed(self, size: int, now: float) -> None:
        """Tell that a message of this size was read, which makes room for more."""
        self._intake.consumed(size, now)

    def abort(self, reason: LinkClosed) -> None:
        """End the stream at once and tell the other side the reason's code, when a path can carry that."""
        if self._ended is None:
            code = "remote_closed" if reason.code == "local_closed" else reason.code
            for path in self._paths.values():
                path.control.append(frames.abort(code))
            self._end(reason)

    # Paths.

    def add_path(self, path: int, rank: int, now: float, *, is_preferred: bool) -> None:
        """Take an authenticated path; the first is used at once, a better one when a ping came back on it.

        Args:
            path: a number never used before.
            rank: the higher, the better.
            now: the time.
            is_preferred: decides between two of one rank; the same on both sides.

        Raises:
            LocalProtocolError: the stream is over, or has too many paths.
        """
        if self._ended is not None or len(self._paths) >= PATHS_LIMIT or path in self._paths:
            raise LocalProtocolError("The stream takes no more paths.", phase="transfer")
        added = _Path(rank, is_preferred, Pulse(now))
        added.control.append(frames.ping(added.pulse.ping(now)))
        self._paths[path] = added
        self._choose(now)

    def lose(self, path: int, now: float) -> None:
        """Take note that a path is closed; what it may not have delivered is sent again on another."""
        if self._paths.pop(path, None) is not None:
            self._send_again(path)
            self._choose(now)

    def probe(self, now: float) -> None:
        """Ask for a sign of life on every path at once: the network may have changed under them."""
        for path in self._paths.values():
            path.control.append(frames.ping(path.pulse.ping(now)))

    def receive(self, path: int, frame: bytes, now: float) -> None:
        """Take a frame from a path; frames of paths that were lost or dropped are ignored.

        Raises:
            RemoteProtocolError: the other side broke the rules; the stream is over.
        """
        source = self._paths.get(path)
        if source is None or self._ended is not None:
            return
        source.pulse.hear(now)
        try:
            self._take(source, frame, now)
        except RemoteProtocolError as error:
            self.abort(LinkClosed(str(error), code=error.code, retryable=False))
            raise
        if source.was_suspect:
            source.was_suspect = False
            self._events.append(PathTrusted(path))
            self._choose(now)

    def has_frame(self, path: int, now: float) -> bool:
        """Whether `next_frame` may have something for a path now."""
        way = self._paths.get(path)
        if way is None or path != self._current:
            return way is not None and bool(way.control)
        due = self._intake.acknowledge_at
        return bool(way.control or self._again or self._queue) or (due is not None and now >= due)

    def next_frame(self, path: int, now: float) -> bytes | None:
        """Give the next frame to send on a path; None when there is nothing for it now."""
        way = self._paths.get(path)
        if way is None:
            return None
        if way.control:
            return way.control.popleft()
        if path != self._current or self._ended is not None:
            return None
        return self._acknowledgement(now) or self._next_part(path)

    def tick(self, now: float) -> None:
        """Let time pass; to be called at `next_deadline`, harmless at any other time."""
        if self._ended is not None:
            return
        for number, path in list(self._paths.items()):
            if path.pulse.is_dead(now):
                self._drop(number, is_dead=True)
            elif path.pulse.wants_ping(now):
                path.control.append(frames.ping(path.pulse.ping(now)))
            elif path.pulse.is_suspect(now) and not path.was_suspect:
                path.was_suspect = True
                self._events.append(PathSuspect(number))
        self._choose(now)
        self._let_go(now)
        if self._pathless_since is not None and now >= self._pathless_since + PATHLESS_SECONDS:
            self._end(
                LinkClosed(
                    f"No path to the peer was left for {PATHLESS_SECONDS:g} s.",
                    code="timeout",
                    remedy="The worker tries again by itself; check the network and the hub.",
                )
            )

    # Sending.

    def _next_part(self, path: int) -> bytes | None:
        while self._again:
            number = self._again.popleft()
            if number in self._kept:
                part = self._kept[number][0]
                self._kept[number] = (part, path)
                return frames.data(part, number, self._intake.acknowledge())
        if not self._queue or self._sent_cost + self._queue[0].cost > self._limit:
            return None
        part = self._queue.popleft()
        number, self._next_number = self._next_number, self._next_number + 1
        self._sent_cost += part.cost
        self.queued_bytes -= len(part.data)
        self._kept[number] = (part, path)
        return frames.data(part, number, self._intake.acknowledge())

    def _acknowledgement(self, now: float) -> bytes | None:
        due = self._intake.acknowledge_at
        if due is None or now < due:
            return None
        limit = self._intake.grant()
        return frames.acknowledgement(self._intake.acknowledge(is_whole=True), limit)

    def _send_again(self, path: int) -> None:
        """What was sent on this path and has not been acknowledged goes out again, in order."""
        again = {number for number, (_, way) in self._kept.items() if way == path}
        self._again = deque(sorted(again | set(self._again)))

    # Receiving.

    def _take(self, source: _Path, frame: bytes, now: float) -> None:
        match frames.read(frame):
            case frames.Data(number, arrived, part):
                self._arrived(arrived)
                if self._intake.take(number, part, now) and self._intake.is_finished:
                    self._finish()
            case frames.Acknowledgement(arrived, limit):
                self._arrived(arrived)
                self._limit = max(self._limit, limit)
            case frames.Ping(number):
                if len(source.control) < frames.CONTROL_LIMIT:
                    source.control.append(frames.pong(number))
            case frames.Pong(number):
                if not source.pulse.pong(number, now):
                    raise RemoteProtocolError("The other side answered a ping that was not sent.")
                self._choose(now)
            case frames.Abort(code):
                self._end(LinkClosed("The other side gave the link up.", code=code))

    def _arrived(self, arrived: int) -> None:
        """Forget what has arrived: everything below this number."""
        if arrived > self._next_number:
            raise RemoteProtocolError("The other side acknowledged what was not sent.", phase="transfer")
        # numbers are kept in the order of sending, so the oldest come first
        while self._kept and (oldest := next(iter(self._kept))) < arrived:
            del self._kept[oldest]

    def _finish(self) -> None:
        """Everything up to the other side's end is here; say so at once, then it is over."""
        for path in self._paths.values():
            path.control.append(frames.acknowledgement(self._intake.acknowledge(), self._intake.grant()))
        self._end(LinkClosed("The other side closed the link."))

    # Choosing.

    def _choose(self, now: float) -> None:
        """Send on the best path: one that is not in doubt, proven unless there is no other."""
        if self._ended is not None:
            return
        best = max(self._paths, key=lambda number: self._worth(number, now), default=None)
        if best != self._current:
            former = self._current
            self._current = best
            if former in self._paths and self._paths[former].pulse.is_suspect(now):
                self._send_again(former)
            self._events.append(PathInUse(best))
            if best is not None:
                self._intake.repeat_acknowledgement(now)
        if best is None:
            self._pathless_since = now if self._pathless_since is None else self._pathless_since
        else:
            self._pathless_since = None
        self._rank(now)

    def _worth(self, number: int, now: float) -> tuple[bool, bool, int, bool, int]:
        path = self._paths[number]
        is_sure = not path.pulse.is_suspect(now)
        return is_sure, path.pulse.is_proven, path.rank, path.is_preferred, -number

    def _rank(self, now: float) -> None:
        """Note since when each path has been surpassed by a sound one in use."""
        current = self._paths[self._current] if self._current is not None else None
        is_sound = current is not None and current.pulse.is_proven and not current.pulse.is_suspect(now)
        for path in self._paths.values():
            surpassed = (
                current is not None
                and path is not current
                and is_sound
                and (path.rank, path.is_preferred) < (current.rank, current.is_preferred)
            )
            if not surpassed:
                path.surpassed_at = None
            elif path.surpassed_at is None:
                path.surpassed_at = now

    def _let_go(self, now: float) -> None:
        """Close what was surpassed for long, and only when all that was sent on it has arrived."""
        for number, path in list(self._paths.items()):
            if path.surpassed_at is None or now < path.surpassed_at + WARM_SECONDS:
                continue
            if not any(way == number for _, way in self._kept.values()):
                self._drop(number, is_dead=False)

    def _drop(self, number: int, *, is_dead: bool) -> None:
        del self._paths[number]
        self._send_again(number)
        self._events.append(PathDropped(number, is_dead))

    def _end(self, reason: LinkClosed) -> None:
        if self._ended is None:
            self._ended = reason
            self._queue.clear()
            self._kept.clear()
            self._again.clear()
            self.queued_bytes = 0
            self._events.append(StreamEnded(reason))
