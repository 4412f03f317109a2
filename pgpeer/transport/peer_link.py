"""A link to a peer whose path can change while it is in use: `PathSwitch` with tasks, timers and links."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

from pgpeer.errors import LinkClosed, RemoteProtocolError
from pgpeer.transport.base import HIGH_WATER_BYTES, Link, LinkPath, PathKind, check_frame
from pgpeer.transport.inbox import Inbox
from pgpeer.transport.multipath import PathSwitch
from pgpeer.transport.multipath_events import (
    PathDropped,
    PathInUse,
    PathSuspect,
    PathTrusted,
    StreamEnded,
    SwitchEvent,
)
from pgpeer.transport.multipath_frames import WINDOW_BYTES
from pgpeer.transport.race import RANKS

DRAIN_SECONDS: Final = 1.0
"""How long `close` waits for the other side to take what was sent."""


class PathObserver(Protocol):
    """Who wants to know what happens to the paths of a link; called from the event loop, must not wait."""

    def path_in_use(self, kind: PathKind | None) -> None:
        """Messages are sent on another path from now on, or on none."""

    def path_suspect(self, path: int, kind: PathKind) -> None:
        """Nothing comes on a path any more."""

    def path_trusted(self, path: int, kind: PathKind) -> None:
        """Something came again on a path that was suspect."""

    def path_gone(self, path: int, kind: PathKind, *, is_surpassed: bool) -> None:
        """A path is closed: because a better one took its place, or because it broke."""

    def signal(self, message: bytes) -> None:
        """The other side's observer sent something (`PeerLink.send_signal`)."""

    def ended(self) -> None:
        """The link is over."""


@dataclass(slots=True)
class _Path:
    link: Link
    has_work: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class PeerLink:
    """A `Link` over paths that come and go; `Reach` makes it and gives it paths.

    Every path was authenticated before it is added, and each message arrives once and in order whatever
    happens to the paths. While there is none, `send` takes frames until 1 MiB waits; after fifteen seconds
    without a path the link is closed (code `timeout`).

    Args:
        peer_id: who is at the other end, proven on every path.
        fingerprints: what a session is bound to instead of certificates (`path_proof.stream_fingerprints`).
        observer: see `PathObserver`.
    """

    def __init__(self, peer_id: str, fingerprints: tuple[bytes, bytes], observer: PathObserver) -> None:
        self.peer_id = peer_id
        self.local_fingerprint, self.remote_fingerprint = fingerprints
        self.bytes_sent = 0
        self.bytes_received = 0
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._switch = PathSwitch(self._loop.time())
        self._inbox = Inbox(2 * WINDOW_BYTES)
        self._paths: dict[int, _Path] = {}
        self._numbers = count(1)
        self._last_path: LinkPath | None = None
        self._room = asyncio.Event()
        self._changed = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._closed = False
        self._has_ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing: asyncio.Task[None] | None = None

    @property
    def path(self) -> LinkPath:
        """The path in use for sending; the last one while there is none."""
        current = self._switch.current
        if current is not None and current in self._paths:
            return self._paths[current].link.path
        assert self._last_path is not None, "a link is handed out with its first path"
        return self._last_path

    @property
    def is_connected(self) -> bool:
        """Whether there is a path now."""
        return self._switch.current is not None

    @property
    def rtt(self) -> float | None:
        """Seconds of the last measured round trip of the path in use; None before the first."""
        return None if self._switch.current is None else self._switch.rtt(self._switch.current)

    @property
    def paths(self) -> list[LinkPath]:
        """All open paths."""
        return [path.link.path for path in self._paths.values()]

    @property
    def buffered(self) -> int:
        """Bytes taken by `send` and not yet handed to the network."""
        current = self._paths.get(self._switch.current or 0)
        return self._switch.queued_bytes + (current.link.buffered if current is not None else 0)

    @property
    def closed(self) -> bool:
        """Whether the link can carry nothing more."""
        return self._closed

    async def send(self, frame: bytes) -> None:
        """Take a frame; see `Link.send`."""
        check_frame(frame)
        self._require_open()
        self._switch.send(bytes(frame))
        self.bytes_sent += len(frame)
        self._progress()
        while self.buffered > HIGH_WATER_BYTES:
            self._room.clear()
            await self._room.wait()
            if self._closed:
                raise LinkClosed("The link closed while frames waited to be sent.")

    async def receive(self) -> bytes:
        """Return the next frame; see `Link.receive`."""
        frame = await self._inbox.get()
        self._switch.consumed(len(frame), self._loop.time())
        self._progress()
        return frame

    def send_signal(self, message: bytes) -> None:
        """Send something to the other side's observer, in order with the frames.

        Raises:
            FrameTooLarge: the message is empty or too large.
            LinkClosed: the link is closed.
        """
        check_frame(message)
        self._require_open()
        self._switch.send(message, is_signal=True)
        self._progress()

    async def close(self) -> None:
        """Close the link; see `Link.close`. Takes at most a little more than twice `DRAIN_SECONDS`."""
        if not self._closed:
            self._shut(LinkClosed("The link was closed here.", code="local_closed"), discard=True)
            self._switch.close()
            self._progress()
            self._finishing = self._loop.create_task(self._finish())
        if self._finishing is not None:
            await asyncio.shield(self._finishing)

    def abort(self, reason: LinkClosed) -> None:
        """End the link at once for this reason, whose code the other side is told."""
        self._switch.abort(reason)
        self._progress()

    def probe(self) -> None:
        """Ask for a sign of life on every path: those that carry nothing are doubted three seconds later."""
        self._switch.probe(self._loop.time())
        self._progress()

    def add_path(self, link: Link, *, is_preferred: bool) -> int:
        """Take an authenticated link as one more path and give its number; the link is owned from now on.

        Args:
            link: nothing but the proof has passed on it.
            is_preferred: whether the peer with the smaller id opened it.

        Raises:
            LocalProtocolError: this link is over, or has too many paths.
        """
        number = next(self._numbers)
        now = self._loop.time()
        self._switch.add_path(number, RANKS[link.path.kind], now, is_preferred=is_preferred)
        path = self._paths[number] = _Path(link)
        self._last_path = self._last_path or link.path
        path.tasks = [
            self._loop.create_task(self._read(number, link)),
            self._loop.create_task(self._write(number, path)),
        ]
        self._progress()
        return number

    # Tasks of one path.

    async def _read(self, number: int, link: Link) -> None:
        try:
            while True:
                frame = await link.receive()
                with suppress(RemoteProtocolError):  # the switch is over then, and tells both sides why
                    self._switch.receive(number, frame, self._loop.time())
                self._progress()
        except LinkClosed:
            self._lose(number)
        except Exception:
            self._lose(number)  # a path that nobody reads would look alive to the other side
            raise

    async def _write(self, number: int, path: _Path) -> None:
        try:
            while True:
                frame = self._switch.next_frame(number, self._loop.time())
                if frame is not None:
                    await path.link.send(frame)
                    self._make_room()
                elif self._switch.ended is not None:
                    return
                else:
                    path.has_work.clear()
                    await path.has_work.wait()
        except LinkClosed:
            self._lose(number)
        except Exception:
            self._lose(number)
            raise

    def _lose(self, number: int) -> None:
        path = self._drop(number)
        if path is not None:
            self._switch.lose(number, self._loop.time())
            if not self._has_ended:
                self._observer.path_gone(number, path.link.path.kind, is_surpassed=False)
            self._progress()

    def _drop(self, number: int) -> _Path | None:
        """Take a path out of use and close its link in the background."""
        path = self._paths.pop(number, None)
        if path is not None:
            self._last_path = path.link.path
            self._spawn(self._discard(path))
        return path

    async def _discard(self, path: _Path) -> None:
        await path.link.close()
        for task in path.tasks:
            task.cancel()
        await asyncio.wait(path.tasks)

    # The switch.

    def _progress(self) -> None:
        """Hand out messages and events, wake who may have something to send, and set the clock."""
        for message, is_signal in self._switch.messages():
            if is_signal or self._closed:
                self._switch.consumed(len(message), self._loop.time())
                if not self._closed:
                    self._observer.signal(message)
            else:
                self.bytes_received += len(message)
                self._inbox.put(message)
        for event in self._switch.events():
            self._on_event(event)
        now = self._loop.time()
        for number, path in self._paths.items():
            if self._switch.ended is not None or self._switch.has_frame(number, now):
                path.has_work.set()
        self._changed.set()
        self._make_room()
        self._set_timer()

    def _make_room(self) -> None:
        if self.buffered <= HIGH_WATER_BYTES:
            self._room.set()

    def _on_event(self, event: SwitchEvent) -> None:
        match event:
            case PathInUse(number):
                kind = None if number is None else self._paths[number].link.path.kind
                self._observer.path_in_use(kind)
            case PathSuspect(number):
                self._observer.path_suspect(number, self._paths[number].link.path.kind)
            case PathTrusted(number):
                self._observer.path_trusted(number, self._paths[number].link.path.kind)
            case PathDropped(number, is_dead):
                path = self._drop(number)
                if path is not None:
                    self._observer.path_gone(number, path.link.path.kind, is_surpassed=not is_dead)
            case StreamEnded(reason):
                self._shut(reason)
                if self._finishing is None:
                    self._finishing = self._loop.create_task(self._finish())

    def _set_timer(self) -> None:
        """Ring no later than the next deadline; ringing too early costs less than setting the clock often."""
        deadline = None if self._has_ended else self._switch.next_deadline(self._loop.time())
        if self._timer is not None:
            if deadline is not None and self._rings_at <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            # kept apart: what uvloop gives for a deadline of now is a plain Handle and does not tell when
            self._rings_at = deadline
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._switch.tick(self._loop.time())
        self._progress()

    # Ending.

    def _shut(self, reason: LinkClosed, *, discard: bool = False) -> None:
        self._inbox.close(reason, discard=discard)
        self._closed = True
        self._room.set()

    async def _finish(self) -> None:
        """Let what was sent arrive, then close all paths."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._switch.ended is None and not self._switch.is_flushed:
                    self._changed.clear()
                    await self._changed.wait()
                writers = [path.tasks[1] for path in self._paths.values()]
                if writers and self._switch.ended is not None:
                    await asyncio.wait(writers)  # the last acknowledgement, or why the stream was given up
        self._has_ended = True
        self._switch.abort(LinkClosed("The link was closed here.", code="local_closed"))
        self._set_timer()
        for number in list(self._paths):
            self._drop(number)
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        self._observer.ended()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _require_open(self) -> None:
        if self._closed:
            raise LinkClosed("The link is closed.", code="local_closed")
