"""One connection between two peers: opened, resumed on every new link, ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

from pgpeer.channel import events, messages
from pgpeer.channel.limits import Timing
from pgpeer.channel.messages import Message, MessageType
from pgpeer.channel.receiving import Receiving
from pgpeer.channel.sending import Sending
from pgpeer.channel.states import ACCEPTED, Phase, State, patience
from pgpeer.errors import CODES, RemoteProtocolError

RETRYABLE: Final = frozenset(
    {"timeout", "target_overloaded", "rate_limited", "id_unknown", "replay", "internal", "remote_closed"}
)
"""Codes after which a new connection may work."""


class Channel:
    """One side of one connection. `Channels` feeds it and takes what it wants to say.

    Args:
        connection_id: known to both sides.
        state: where it stands.
        sending: messages from here.
        receiving: messages to here.
        confirm: whether the side that asked wants confirmations.
        timing: when patience ends.
        tell: takes events.
        now: seconds of a monotonic clock.
        is_new: whether the other side does not know of it, so that it can be forgotten without a word.

    Attributes:
        ended_by: who wanted the end, once it is over by a wish: `here` or `there`.
    """

    def __init__(
        self,
        connection_id: UUID,
        state: State,
        sending: Sending,
        receiving: Receiving,
        confirm: bool,
        timing: Timing,
        tell: Callable[[events.Event], None],
        now: float,
        *,
        is_new: bool = False,
    ) -> None:
        self.connection_id = connection_id
        self.state = state
        self.sending = sending
        self.receiving = receiving
        self.confirm = confirm
        self.timing = timing
        self._tell = tell
        self._out: deque[Message] = deque()
        self._has_link = False
        self._is_new = is_new
        self._is_restored = not is_new and state is not State.ASKED
        self.ended_by: Literal["here", "there"] | None = None
        self._is_asked = False
        self._is_resumed = False
        """Whether it is known on this link what the other side has."""
        self._has_said = False
        """Whether the other side knows on this link what this one has."""
        self._resume_due = False
        self._ack_due = False
        self._last: int | None = None
        self._close_sent = False
        self._phase: Phase | None = None
        self._since = now
        self._is_slow = False
        self._told_slow: str | None = None
        self._handlers: Mapping[type[Message], Callable[[Any], bool]] = {
            messages.Open: self._on_open,
            messages.Opened: self._on_opened,
            messages.Data: self._on_data,
            messages.Ack: self._on_ack,
            messages.Resume: self._on_resume,
            messages.Close: self._on_close,
            messages.Closed: self._on_closed,
        }
        self._watch(now)

    # What the owner wants.

    def accept(self, room: int, now: float) -> None:
        """The owner takes a connection that the other side asked for; its inbox takes `room` bytes."""
        self.state = State.OPEN
        self.receiving.store(0, room)
        if self._is_asked:
            self._is_resumed = self._has_said = True
            self._say(messages.Opened(self.connection_id, self.receiving.window()))
        elif self._has_link:
            self._resume_due = True  # it was asked for on a link before this one
        if self._last is not None:
            self._begin_closing()
        self._watch(now)

    def disconnect(self, last: int, now: float) -> None:
        """End the connection after message `last`. Idempotent."""
        if self.state in (State.CLOSING, State.CLOSED) or self._last is not None:
            return
        self._last = last
        if self.state is State.CONNECTING:
            if self._is_new and last == 0:
                self._end("peer-requested-closed", "local_closed", "", True, "It was disconnected here.")
        elif self.state is State.OPEN:
            self._begin_closing()  # else when it is accepted
        self._watch(now)

    def kept(self, now: float) -> None:
        """The owner gave a message to `sending`."""
        if self.sending.is_resuming:
            self._confirm()
        self._watch(now)

    def stored(self, number: int, room: int, now: float) -> None:
        """The owner has made messages durable."""
        self.receiving.store(number, room)
        self._ack_due = True
        self._watch(now)

    def give_room(self, room: int) -> None:
        """The inbox takes `room` more bytes."""
        if self.receiving.widen(room) and self._is_resumed:
            self._ack_due = True

    # What the link does.

    def link_up(self, now: float) -> None:
        """There is a new link."""
        if self._has_link:
            self.link_down(now)
        self._has_link = True
        if self.state is State.CONNECTING:
            self._is_new = False
            self._say(messages.Open(self.connection_id, self.confirm, self.receiving.window()))
        elif self.state is State.OPEN or (self.state is State.CLOSING and not self._finish()):
            self._resume_due = True
        self._watch(now)

    def link_down(self, now: float) -> None:
        """The link is gone, and with it what was on its way."""
        self._has_link = self._is_asked = self._is_resumed = self._has_said = False
        self._resume_due = self._ack_due = self._close_sent = False
        self._out.clear()
        self.sending.link_lost()
        self._watch(now)

    def next_message(self, now: float) -> Message | None:
        """Give what to say next; None when there is nothing now."""
        if not self._has_link:
            return None
        if self._ack_due and self._is_resumed and self._has_said:
            self._ack_due = False
            return messages.Ack(self.connection_id, self.receiving.stored, self.receiving.window())
        if self._out:
            return self._out.popleft()
        if self._resume_due and self.receiving.is_settled:
            # not before: what arrived on the old link would be acknowledged before it is sent again
            self._resume_due = self._ack_due = False
            self._has_said = True
            half = self.receiving
            return messages.Resume(self.connection_id, half.stored, half.chain, half.window())
        if self._is_resumed and self.state in (State.OPEN, State.CLOSING):
            found = self.sending.next_message()
            if found is not None:
                self._watch(now)
                return messages.Data(self.connection_id, *found)
        return None

    # What the other side says.

    def hear(self, message: Message, now: float) -> None:
        """Take a message; one that breaks the rules ends the connection."""
        kind = MessageType[type(message).__name__.upper()]
        try:
            if kind not in ACCEPTED[self.state]:
                raise RemoteProtocolError(
                    f"A {kind.name} message is not allowed in state {self.state.value}."
                )
            progress = self._handlers[type(message)](message)
        except RemoteProtocolError as error:
            self.fail(error.code, "transfer", False, str(error))
            return
        self._watch(now, progress=progress)

    def _on_open(self, message: messages.Open) -> bool:
        if self.state is State.ASKED:
            self.sending.opened(message.window)
            self._is_asked = True
        return False  # else asked again on a new link: the resumption is on its way

    def _on_opened(self, message: messages.Opened) -> bool:
        self.sending.opened(message.window)
        self._is_resumed = self._has_said = True
        self._opened()
        return True

    def _on_data(self, message: messages.Data) -> bool:
        if not self._has_said:
            raise RemoteProtocolError("A message came before the resumption.")
        if self.state is State.OPEN:
            chain = self.receiving.take(message.number, message.data)
            if chain is not None:
                self._tell(events.MessageReceived(self.connection_id, message.number, message.data, chain))
        return False

    def _on_ack(self, message: messages.Ack) -> bool:
        if not (self._is_resumed or self.sending.is_resuming):
            raise RemoteProtocolError("An acknowledgement came before the resumption.")
        progress = self.sending.acknowledge(message.number, message.window)
        if progress:
            self._tell_acknowledged()
        self._finish()
        return progress

    def _on_resume(self, message: messages.Resume) -> bool:
        if self._is_resumed or self.sending.is_resuming:
            raise RemoteProtocolError("A connection was resumed twice on one link.")
        self.sending.resume(message.number, message.chain, message.window)
        if self.state is State.CONNECTING:
            # its acceptance was lost with the link before
            self._resume_due = True
            self._opened()
        self._confirm()
        return True

    def _on_close(self, message: messages.Close) -> bool:
        if message.requested:
            self._say(messages.Closed(self.connection_id))
            detail = message.detail or "The other side disconnected."
            self._end("peer-requested-closed", "remote_closed", "", True, detail)
            return True
        code = message.code if message.code in CODES else "internal"
        phase = "hello" if self.state is State.CONNECTING else "transfer"
        detail = message.detail or "The other side ended the connection because of an error."
        self._end("connection-error", code, phase, code in RETRYABLE, detail)
        return True

    def _on_closed(self, message: messages.Closed) -> bool:
        if self.state is State.CONNECTING:
            was_sent = self._last is not None  # before a restart, and the acceptance is forgotten too
        else:
            was_sent = self._close_sent or self._is_restored  # maybe before a restart
        if not was_sent:
            raise RemoteProtocolError("The other side answers a close that was not sent.")
        self._end("peer-requested-closed", "local_closed", "", True, "It was disconnected here.")
        return True

    # Steps.

    def _opened(self) -> None:
        self.state = State.OPEN
        self._tell(events.ConnectionOpened(self.connection_id))
        if self._last is not None:
            self._begin_closing()

    def _begin_closing(self) -> None:
        self.state = State.CLOSING
        self._tell(events.ConnectionClosing(self.connection_id))
        self._finish()

    def _confirm(self) -> None:
        """Check what the other side says to have; at the end the connection is resumed."""
        try:
            if self.sending.confirm():
                self._tell_acknowledged()
        except RemoteProtocolError as error:
            self.fail(error.code, "hello", True, str(error))
            return
        if not self.sending.is_resuming:
            self._is_resumed = True
            self._finish()

    def _tell_acknowledged(self) -> None:
        half = self.sending
        self._tell(events.MessagesAcknowledged(self.connection_id, half.acknowledged, half.chain))

    def _finish(self) -> bool:
        """Say the last word when everything is delivered; tells whether it is said."""
        delivered = self._last is not None and self.sending.acknowledged >= self._last
        if self.state is State.CLOSING and delivered and self._has_link and not self._close_sent:
            self._close_sent = True
            self._resume_due = False
            self._say(messages.Close(self.connection_id, True, "remote_closed", ""))
        return self._close_sent

    def fail(self, code: str, phase: str, retryable: bool, detail: str) -> None:
        """End the connection because of an error."""
        if self.state is not State.CLOSED:
            if self._has_link:
                self._say(messages.Close(self.connection_id, False, code, detail))
            self._end("connection-error", code, phase, retryable, detail)

    def _end(self, reason: events.Reason, code: str, phase: str, retryable: bool, detail: str) -> None:
        asked_only = self.state is State.ASKED
        self.state = State.CLOSED
        if reason == "peer-requested-closed":
            self.ended_by = "here" if code == "local_closed" else "there"
        self._ack_due = self._resume_due = False
        self._phase = None
        if not asked_only:
            self._tell(events.ConnectionClosed(self.connection_id, reason, code, phase, retryable, detail))

    def _say(self, message: Message) -> None:
        self._out.append(message)

    # Time.

    def deadline(self) -> float | None:
        """Give when `tick` must be called; None for never."""
        if self._phase is None:
            return None
        wait = patience(self._phase, self.timing, has_link=self._has_link)
        return self._since + (wait.fail if self._is_slow else wait.slow)

    def tick(self, now: float) -> None:
        """Let time pass."""
        deadline = self.deadline()
        if self._phase is None or deadline is None or now < deadline:
            return
        wait = patience(self._phase, self.timing, has_link=self._has_link)
        if not self._is_slow and now < self._since + wait.fail:
            self._is_slow = True
            self._told_slow = wait.phase
            self._tell(
                events.ConnectionSlow(
                    self.connection_id, wait.phase, f"Waiting for {wait.waiting} since {wait.slow:g} s."
                )
            )
        else:
            self.fail(wait.code, wait.phase, True, f"Waited for {wait.waiting} for {wait.fail:g} s.")

    def _watch(self, now: float, *, progress: bool = False) -> None:
        """Notice what the connection waits for now."""
        phase = self._waiting_for()
        if phase is self._phase and not progress:
            return
        if self._told_slow is not None and (progress or phase is None):
            if self.state is not State.CLOSED:
                self._tell(events.ConnectionRecovered(self.connection_id, self._told_slow))
            self._told_slow = None
        self._is_slow = False
        self._phase = phase
        self._since = now

    def _waiting_for(self) -> Phase | None:
        match self.state:
            case State.CLOSED | State.ASKED:
                return None
            case State.CONNECTING:
                return Phase.CONNECTING
        if not self._has_link:
            return Phase.LINK
        if self._close_sent:
            return Phase.ANSWER
        if not self._is_resumed:
            return Phase.RESUMING
        if self.sending.is_waiting:
            return Phase.ANSWER
        if self.sending.is_blocked:
            return Phase.STALLED
        return Phase.ANSWER if self.state is State.CLOSING else None
