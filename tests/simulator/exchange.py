"""One side of one connection: the real session, and around it what its owner does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import events, limits
from pgpeer.protocol.handshake import Role
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State

from .feed import BUNDLE, Feed
from .intake import Intake
from .link import Link
from .timeline import Alarm
from .violation import require

if TYPE_CHECKING:
    from .peer import Peer

ACKNOWLEDGE_SECONDS = 0.03
HONEST_ENDS = frozenset({"remote_closed", "local_closed", "timeout"})


class Exchange:
    """Drives a session as a worker does, and checks every promise that can be checked on one link."""

    def __init__(self, peer: Peer, other: Peer, link: Link, end: int, role: Role) -> None:
        self.peer, self.other, self.link, self.end = peer, other, link, end
        self.is_outgoing = role == "offerer"
        self._timeline = peer.world.timeline
        self.began = self._timeline.now
        prints = (link.fingerprints[end], link.fingerprints[1 - end])
        self.session: Session = peer.world.make_session(
            peer.key,
            role,
            *prints,
            peer.random.randbytes(32),
            other.key.peer_id,
            f"peer {peer.number}",
            self._timeline.now,
            peer.turns,
            self._turn_has_begun,
        )
        self.feed = Feed(self.session, peer.store)
        self.intake = Intake(self.session, peer.store, peer.disk, peer.world.tally, self._settled)
        self.is_over = self.is_crashed = False
        self._timer: Alarm | None = None
        self._owes_acknowledgement = False
        link.attach(end, self)

    def start(self) -> None:
        self.peer.world.tally.sessions += 1
        self._progress()
        self._set_timer()

    # What the link says.

    def receive(self, frame: bytes) -> None:
        self.peer.world.tally.frames += 1
        try:
            self.session.receive_frame(frame, self._timeline.now)
        except RemoteProtocolError:
            pass  # the events tell, and an honest peer is never refused
        self._progress()

    def lost(self) -> None:
        self.session.link_lost("remote_closed", "transfer", "The connection ended.")
        self._progress()

    def writable(self) -> None:
        self._flow()

    # What the owner does.

    def close(self, detail: str) -> None:
        self.session.close(detail)
        self._progress()

    def crash(self) -> None:
        """Everything here is forgotten; nothing is said."""
        self.is_over = self.is_crashed = True
        if self._timer is not None:
            self._timer.cancel()

    def _turn_has_begun(self) -> None:
        self._timeline.after(0.0, self._go_on)

    def _go_on(self) -> None:
        if not self.is_crashed:
            self.intake.work()
            self._flow()

    def look_again(self) -> None:
        """Commits were merged at this peer."""
        if self.session.state is State.ESTABLISHED and not self._owes_acknowledgement:
            self._owes_acknowledgement = True
            self._timeline.after(ACKNOWLEDGE_SECONDS, self._acknowledge)
        self._flow()

    def _acknowledge(self) -> None:
        self._owes_acknowledgement = False
        if self.session.state is State.ESTABLISHED and not self.is_over:
            self.session.send_acknowledgement(BUNDLE, self.peer.store.merged_vector())
            self._flow()

    def _settled(self) -> None:
        self.peer.settled()
        if not self.is_over:
            self._progress()

    def _progress(self) -> None:
        if self.is_over:
            return
        for event in self.session.events():
            require(not self.is_over, "order", "something happened after the end of a session")
            self._handle(event)
        if not self.is_over:
            self.intake.work()
            self._flow()

    def _flow(self) -> None:
        """Send what may be sent now."""
        if self.is_over:
            return
        while True:
            self.feed.fill()
            frame = self.session.next_frame() if self.link.has_room(self.end) else None
            if frame is None:
                break
            self.link.send(self.end, frame)
        self._check_bounds()

    def _handle(self, event: events.Event) -> None:
        note: Callable[..., None] = self._timeline.note
        note(self.peer.number, self.other.number, type(event).__name__)
        match event:
            case events.Authenticated(peer_id):
                require(peer_id == self.other.key.peer_id, "honest", "a peer is taken for another one")
                self._begin()
            case events.VectorReceived(_, entries, partial):
                self._check_durable(entries)
                self.feed.begin(entries, partial)
            case events.AcknowledgementReceived(_, entries):
                self._check_durable(entries)
                self.feed.acknowledged(entries)
            case events.CommitReceived(_, header):
                self.intake.put(event)
                note("header", len(header))
            case events.SectionReceived(_, _, number, data):
                self.intake.put(event)
                note("section", number, len(data))
            case events.SessionSlow():
                pass
            case events.SessionClosed():
                self._end(event)
            case _:
                require(False, "honest", f"an honest peer was told {event}")

    def _begin(self) -> None:
        self.peer.admit(self)
        if self.session.state is not State.ESTABLISHED:
            return
        store = self.peer.store
        partial = store.incomplete()
        self.intake.told_partial = set(partial)
        self.peer.world.tally.resumed += any(partial.values())
        entries = store.stored_vector()
        self.peer.world.tally.digests += not partial and len(entries) > limits.WHOLE_VECTOR_ENTRIES
        self.session.send_vector(BUNDLE, entries, partial)
        self.session.send_acknowledgement(BUNDLE, store.merged_vector())

    def _end(self, event: events.SessionClosed) -> None:
        require(event.code in HONEST_ENDS, "honest", f"a session of honest peers ended with {event}")
        if event.code == "timeout":
            self.peer.world.tally.silent += 1
            was_silent = self._timeline.now - self.link.last_fault < limits.DEAD_SECONDS + limits.PING_SECONDS
            require(was_silent or not self.other.is_up, "alive", "a healthy link was given up")
        self._flow()
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self.link.close(self.end)
        self.peer.ended(self, event)

    # Time.

    def _set_timer(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None and not self.is_over:
            self._timer = self._timeline.at(deadline, self._tick)

    def _tick(self) -> None:
        self.session.tick(self._timeline.now)
        self._progress()
        self._set_timer()

    # Promises.

    def _check_durable(self, entries: tuple) -> None:
        for entry in entries:
            require(self.other.store.has_whole(entry.head), "durable", "something was acknowledged too early")

    def _check_bounds(self) -> None:
        session, window = self.session, limits.CREDIT_WINDOW_BYTES
        require(0 <= session.send_credit <= window, "credit", f"{session.send_credit} bytes may be sent")
        require(self.intake.waiting_bytes <= window, "bounded", "more waits to be stored than was granted")
        self.peer.world.tally.starved += session.send_credit < limits.MIN_SPLIT_BYTES
