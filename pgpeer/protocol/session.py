"""The conversation between two peers over one link: a state machine that does no I/O.

The owner feeds `receive_frame` and `tick`, takes `events`, sends every `next_frame`, and calls `tick` again
at `next_deadline`. Both sides say hello, prove who they are, and only then talk about bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import CODES, PHASES, LocalProtocolError, PgpeerError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.announcements import Announcements
from pgpeer.protocol.credit import Credit
from pgpeer.protocol.encoding import decode, encode
from pgpeer.protocol.events import SectionReceived
from pgpeer.protocol.framing import Assembler, Lane, Outbox
from pgpeer.protocol.handshake import Handshake, Role
from pgpeer.protocol.liveness import Due, Liveness
from pgpeer.protocol.messages import DATA_TYPES, Message, MessageType, Payload
from pgpeer.protocol.packing import Packer, unpacked_size
from pgpeer.protocol.printable import printable
from pgpeer.protocol.replies import Replies
from pgpeer.protocol.states import ACCEPTED, PHASE, State
from pgpeer.protocol.tellings import TELLINGS
from pgpeer.protocol.turns import LargeIntake, Turns
from pgpeer.protocol.workload import Workload


class Session:
    """One side of a conversation.

    Args:
        key: this side's key.
        role: which side of the negotiation this one was.
        local_fingerprint: SHA-256 of this side's certificate (32 bytes).
        remote_fingerprint: SHA-256 of the certificate the other side proved possession of (32 bytes).
        nonce: 32 fresh random bytes, never used before.
        expected_peer_id: whom the other side must be; None for anybody.
        label: this side's name for people.
        now: the time in seconds of a monotonic clock, the same as for `receive_frame` and `tick`.
        turns: the places for large messages, shared with other sessions; None for places of its own.
        turn_begun: called when a large message has its turn, so that there may be frames to send.
    """

    def __init__(
        self,
        key: PrivateKey,
        role: Role,
        local_fingerprint: bytes,
        remote_fingerprint: bytes,
        nonce: bytes,
        expected_peer_id: str | None,
        label: str,
        now: float,
        turns: Turns | None = None,
        turn_begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = State.AWAITING_HELLO
        self._handshake = Handshake(
            key, role, local_fingerprint, remote_fingerprint, nonce, expected_peer_id, label
        )
        self._time = Liveness(now, now)
        self._outbox = Outbox()
        self._assembler = Assembler(limits.MAX_UNAUTHENTICATED_MESSAGE_BYTES, 0)
        self._packer = Packer()
        self._events: list[events.Event] = []
        self._credit = Credit()
        self.large = LargeIntake(turns or Turns(), self.grant, turn_begun)
        self._is_large = False
        self._work = Workload(now)
        self._peer_id: str | None = None
        self._announcements = Announcements()
        self._replies = Replies()
        self._handlers: Mapping[MessageType, Callable[[Any, float], None]] = {
            kind: getattr(self, f"_on_{kind.name.lower()}") for kind in MessageType if kind not in TELLINGS
        }
        self._put(self._handshake.hello())

    @property
    def peer_id(self) -> str | None:
        """The other side's proven peer id; None before `Authenticated`."""
        return self._peer_id

    @property
    def rtt(self) -> float | None:
        """Seconds of the last measured round trip; None before the first."""
        return self._time.rtt

    @property
    def send_credit(self) -> int:
        """Bytes of commits and sections that the other side takes now."""
        return self._credit.to_send

    # In.

    def receive_frame(self, frame: bytes, now: float) -> None:
        """Take a frame from the link.

        Raises:
            RemoteProtocolError: the other side broke the rules. The session is closed then; `next_frame`
                still gives a last word for the other side.
        """
        if self.state is State.CLOSED:
            return
        self._time.hear(now)
        try:
            for segment in self._assembler.read(frame):
                if segment.lane is Lane.DATA:
                    early = self._credit.arrived(segment.size, segment.total)
                    self._is_large = early > 0
                    if early:
                        self.large.arrived(early, now)
                if segment.message is not None:
                    self._receive(segment.lane, segment.message, now)
        except RemoteProtocolError as error:
            self._fail(error)
            raise

    def tick(self, now: float) -> None:
        """Let time pass; to be called at `next_deadline`, harmless at any other time."""
        if self.large.is_stalled(now):
            detail = "A large message came in so slowly that others had to wait for it."
            self._close("timeout", "transfer", detail, retryable=True)
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        is_established = self.state is State.ESTABLISHED
        phase = "transfer" if is_established else PHASE[self.state]
        match self._time.due(now, is_established=is_established):
            case Due.PING:
                self._put(messages.Ping(self._time.ping(now)))
            case Due.SLOW:
                self._events.append(events.SessionSlow(phase))
            case Due.FAILED:
                seconds = limits.DEAD_SECONDS if is_established else limits.HANDSHAKE_FAIL_SECONDS
                detail = f"The other side did not answer for {seconds:g} s."
                self._close("timeout", phase, detail, retryable=True)

    # Out.

    def next_frame(self) -> bytes | None:
        """Give the next frame for the link; None when there is nothing that may be sent now."""
        if not self._outbox.has_control:
            self._put_replies()
        found = self._outbox.next_frame(self._credit.to_send)
        if found is None:
            return None
        frame, used = found
        self._credit.sent(used)
        return frame

    def pause(self, now: float) -> float:
        """Give how many seconds nothing should be read: the other side asks for more work than it may."""
        return self._work.pause(now)

    def next_deadline(self) -> float | None:
        """Give when `tick` must be called next; None when the session is closed."""
        if self.state is State.CLOSED:
            return None
        return self._time.deadline(is_established=self.state is State.ESTABLISHED)

    def events(self) -> list[events.Event]:
        """Give what happened since the last call, in order."""
        happened, self._events = self._events, []
        return happened

    # Commands. All but `close` need an established session and raise LocalProtocolError otherwise.

    def send_join(self, invite_id: UUID, secret: bytes) -> None:
        """Ask to become a member, showing the invite's secret (32 bytes)."""
        self._command(messages.Join(invite_id, secret))

    def accept_join(self, invite_id: UUID, payload: Payload) -> None:
        """Take the other side in; `payload` is a JSON object with what it needs to begin."""
        self._command(messages.JoinAccepted(invite_id, payload))

    def refuse_join(self, invite_id: UUID, code: str, detail: str) -> None:
        """Do not take the other side in."""
        self._command(messages.JoinRefused(invite_id, code, detail))

    def send_vector(
        self,
        bundle_id: UUID,
        entries: Sequence[VectorEntry],
        partial: Mapping[bytes, Sequence[int]] | None = None,
    ) -> None:
        """Tell what this side has of a bundle, and which sections it holds of incomplete commits.

        A large vector goes as its digest; the whole follows only when the other side's last one differs.
        """
        self._require_established("Vector")
        self._put(self._announcements.announce(bundle_id, entries, partial or {}))

    def wants_section(self) -> bool:
        """Whether `send_commit` and `send_section` may be called now."""
        return (
            self.state is State.ESTABLISHED
            and self._credit.to_send > 0
            and self._outbox.data_bytes < limits.OUTBOX_BYTES
        )

    def send_commit(self, bundle_id: UUID, header: bytes, signature: bytes) -> None:
        """Send a signed commit header; only when `wants_section`."""
        self._send_data(messages.Commit(bundle_id, header, signature))

    def send_section(self, bundle_id: UUID, commit_digest: bytes, section_no: int, data: bytes) -> None:
        """Send one section, counting from 1, packed when that helps; only when `wants_section`."""
        packed, content = self._packer.pack(data)
        self._send_data(messages.Section(bundle_id, commit_digest, section_no, packed, content))

    def send_acknowledgement(
        self, bundle_id: UUID, entries: Sequence[VectorEntry], signature: bytes = b""
    ) -> None:
        """Tell what is durably merged here, in the place of what was not sent yet of this bundle."""
        self._require_established("Acknowledgement")
        self._reply(messages.Acknowledgement(bundle_id, tuple(entries), signature), bundle_id)

    def wants_channel(self) -> bool:
        """Whether `send_channel` should be called now: one message at a time, so that they take turns."""
        return self.state is State.ESTABLISHED and not self._outbox.has_program

    def send_channel(self, data: bytes) -> None:
        """Send what an application says to the other side's; it shares frames with commits and sections."""
        self._require_established("Channel")
        self._outbox.put_program(encode(messages.Channel(data)))

    def unpack(self, event: SectionReceived) -> SectionReceived:
        """Give a received section with its data unpacked.

        Raises:
            RemoteProtocolError: it cannot be unpacked. The session is closed then, as by `receive_frame`.
        """
        if not event.packed:
            return event
        try:
            return replace(event, data=self._packer.unpack(event.data), packed=False)
        except RemoteProtocolError as error:
            self.reject(error)
            raise

    def reject(self, error: RemoteProtocolError) -> None:
        """End the session because of what is wrong in an event, as `receive_frame` does. Idempotent."""
        if self.state is not State.CLOSED:
            self._fail(error)

    def grant(self, count: int) -> None:
        """Let the other side send so many more bytes: the `credit` of events that are taken care of."""
        if self.state is State.ESTABLISHED:
            self._grant(count)

    def send_error(self, code: str, phase: str, retryable: bool, detail: str, hint: str = "") -> None:
        """Tell the other side about an error that concerns it; the session goes on."""
        self._command(messages.Error(code, phase, retryable, detail, hint))

    def close(self, detail: str = "", code: str = "remote_closed") -> None:
        """End the session; `next_frame` still gives the last word for the other side. Idempotent."""
        if self.state is not State.CLOSED:
            self._put_replies()
            self._put(messages.Close(code, detail))
            self._close("local_closed", "", detail or "The session was closed here.", retryable=True)

    def link_lost(self, code: str, phase: str, detail: str) -> None:
        """End the session because its link ended; nothing more is sent. Idempotent."""
        if self.state is not State.CLOSED:
            self._close(code, phase, detail, retryable=True)

    # What the other side says.

    def _receive(self, lane: Lane, data: bytes, now: float) -> None:
        if self.state is State.CLOSED:
            return
        kind, message = decode(data)
        self._work.charge(kind, len(data), now)
        if (kind in DATA_TYPES) is not (lane is Lane.DATA):
            raise RemoteProtocolError(f"A {kind.name} message came in the wrong lane.")
        if kind not in ACCEPTED[self.state]:
            raise RemoteProtocolError(
                f"A {kind.name} message is not allowed in state {self.state.value}.",
                phase=PHASE.get(self.state, "sync"),
            )
        if kind in TELLINGS:
            self._events.append(TELLINGS[kind](message))
        else:
            self._handlers[kind](message, now)

    def _on_hello(self, message: messages.Hello, now: float) -> None:
        self._put(self._handshake.answer(message))
        self.state = State.AWAITING_AUTHENTICATION

    def _on_authentication(self, message: messages.Authentication, now: float) -> None:
        self._handshake.check(message)
        self.state = State.ESTABLISHED
        self._assembler.limits[:] = [limits.MAX_CONTROL_MESSAGE_BYTES, limits.MAX_DATA_MESSAGE_BYTES]
        self._peer_id = self._handshake.remote_peer_id
        self._events.append(events.Authenticated(self._peer_id, self._handshake.remote_label))
        self._put(messages.Ping(self._time.ping(now)))

    def _on_vector_digest(self, message: messages.VectorDigest, now: float) -> None:
        own = self._announcements.equal(message.bundle_id, message.digest)
        if own is not None:
            self._events.append(events.VectorReceived(message.bundle_id, own.entries, {}))
        else:
            self._reply(messages.VectorRequest(message.bundle_id), message.bundle_id)

    def _on_vector_request(self, message: messages.VectorRequest, now: float) -> None:
        self._put(self._announcements.answer(message.bundle_id))

    def _on_commit(self, message: messages.Commit, now: float) -> None:
        self.large.keep(self._is_large)
        credit, m = self._credit.of_message(), message
        self._events.append(events.CommitReceived(m.bundle_id, m.header, m.signature, credit, self._is_large))

    def _on_section(self, message: messages.Section, now: float) -> None:
        size = unpacked_size(message.data) if message.packed else 0
        is_large = self._is_large or size > limits.LARGE_MESSAGE_BYTES
        self.large.keep(is_large)
        credit, m = self._credit.of_message(), message
        self._events.append(
            SectionReceived(m.bundle_id, m.commit_digest, m.section_no, m.data, credit, m.packed, is_large)
        )

    def _on_grant(self, message: messages.Grant, now: float) -> None:
        self._credit.granted(message.count)

    def _on_ping(self, message: messages.Ping, now: float) -> None:
        self._reply(messages.Pong(message.number), None)

    def _on_pong(self, message: messages.Pong, now: float) -> None:
        if not self._time.pong(message.number, now):
            raise RemoteProtocolError("The other side answered a ping that was not sent.")

    def _on_error(self, message: messages.Error, now: float) -> None:
        code = message.code if message.code in CODES else "internal"
        phase = message.phase if message.phase in PHASES else ""
        detail, hint = printable(message.detail), printable(message.hint)
        self._events.append(events.RemoteError(code, phase, message.retryable, detail, hint))

    def _on_close(self, message: messages.Close, now: float) -> None:
        code = message.code if message.code in CODES else "remote_closed"
        detail = printable(message.detail) or "The other side closed the session."
        is_retryable = code in ("remote_closed", "target_overloaded")
        self._close(code, PHASE.get(self.state, ""), detail, retryable=is_retryable)

    # Sending and ending.

    def _grant(self, count: int) -> None:
        granted = self._credit.collect(count)
        if granted:
            self._put(messages.Grant(granted))

    def _put(self, message: Message) -> None:
        self._outbox.put(Lane.CONTROL, encode(message))

    def _reply(
        self, message: messages.Pong | messages.VectorRequest | messages.Acknowledgement, about: UUID | None
    ) -> None:
        self._replies.put(type(message), about, encode(message))

    def _put_replies(self) -> None:
        for reply in self._replies.take():
            self._outbox.put(Lane.CONTROL, reply)

    def _command(self, message: Message) -> None:
        self._require_established(type(message).__name__)
        self._put(message)

    def _require_established(self, name: str) -> None:
        if self.state is not State.ESTABLISHED:
            raise LocalProtocolError(f"A {name} message cannot be sent in state {self.state.value}.")

    def _send_data(self, message: messages.Commit | messages.Section) -> None:
        if not self.wants_section():
            raise LocalProtocolError("Commits and sections may be sent only when the session wants them.")
        self._outbox.put(Lane.DATA, encode(message))

    def _fail(self, error: RemoteProtocolError) -> None:
        """Close because of what the other side did, and tell it."""
        self._put(messages.Error(error.code, error.phase, error.retryable, str(error), error.remedy))
        self._put(messages.Close(error.code, str(error)))
        self._close(error.code, error.phase, str(error), retryable=error.retryable, violation=error)

    def _close(
        self, code: str, phase: str, detail: str, *, retryable: bool, violation: PgpeerError | None = None
    ) -> None:
        self.state = State.CLOSED
        self.large.close()
        self._outbox.drop_data()
        self._replies.take()
        remedy = violation.remedy if violation else ""
        self._events.append(events.SessionClosed(code, phase, detail, retryable, remedy, bool(violation)))
