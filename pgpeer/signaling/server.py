"""The hub's side of one conversation: frames and `now` go in; frames and events come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgpeer.errors import LocalProtocolError, PgpeerError, RemoteProtocolError
from pgpeer.signaling.authentication import check_authentication
from pgpeer.signaling.limits import HubLimits, TokenBucket
from pgpeer.signaling.messages import (
    PRESENCE_ENTRIES_LIMIT,
    Authenticate,
    ClientMessage,
    Delivery,
    Hello,
    HubMessage,
    Ping,
    Pong,
    Presence,
    Refusal,
    SendSignal,
    TakeSignal,
    Watch,
    Welcome,
    decode_for_hub,
    encode,
)

REPLIES_FACTOR: Final = 4
"""A client that reads nothing while this many times the signal queue waits for it is closed."""


class ServerState(Enum):
    """Where the conversation stands."""

    AWAITING_AUTHENTICATION = "awaiting_authentication"
    AWAITING_WELCOME = "awaiting_welcome"
    READY = "ready"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class PeerAuthenticated:
    """The client has proven its peer id; the hub answers with `welcome` or `close`."""

    peer_id: str
    label: str


@dataclass(frozen=True, slots=True)
class WatchRequested:
    """The client wants to hear of these peers, and no others."""

    peer_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignalRequested:
    """The client sends a box; the hub answers with `report_delivery` or `refuse`."""

    request: int
    to: str
    sid: str
    box: bytes


ServerEvent = PeerAuthenticated | WatchRequested | SignalRequested

TRANSITIONS: Final[dict[tuple[ServerState, type[ClientMessage]], ServerState]] = {
    (ServerState.AWAITING_AUTHENTICATION, Authenticate): ServerState.AWAITING_WELCOME,
    (ServerState.READY, Watch): ServerState.READY,
    (ServerState.READY, SendSignal): ServerState.READY,
    (ServerState.READY, Ping): ServerState.READY,
}
"""What a client may say when; anything else ends the conversation."""


class ServerConversation:
    """One client's conversation with the hub. Times are seconds of one monotonic clock."""

    def __init__(self, hello: Hello, authorities: frozenset[str], limits: HubLimits, now: float) -> None:
        """Start with the hello in the outbox.

        Args:
            hello: the hub's id and 32 fresh random bytes.
            authorities: host names under which clients reach this hub.
            limits: the hub's limits.
            now: the time.
        """
        self._hello = hello
        self._authorities = authorities
        self._limits = limits
        self._state = ServerState.AWAITING_AUTHENTICATION
        self._started_at = now
        self._heard_at = now
        self._bucket = TokenBucket(limits.messages_per_second, limits.messages_burst, now)
        self._outbox: deque[str] = deque()
        self._outbox_bytes = 0
        self._presence: dict[str, str | None] = {}
        self.peer_id: str = ""
        self.label: str = ""
        self.closed_because: PgpeerError | None = None
        self._put(hello)

    @property
    def state(self) -> ServerState:
        """Where the conversation stands."""
        return self._state

    @property
    def is_closed(self) -> bool:
        """Whether it is over: what is in the outbox may still be sent, nothing else happens."""
        return self._state is ServerState.CLOSED

    def receive(self, frame: str | bytes, now: float) -> list[ServerEvent]:
        """Take one frame; one that breaks the rules closes the conversation with an error for the client."""
        if self.is_closed:
            return []
        try:
            return self._receive(frame, now)
        except RemoteProtocolError as error:
            self.close(error)
            return []

    def tick(self, now: float) -> None:
        """Close the conversation when its deadline has passed."""
        if self.is_closed or now < self._deadline():
            return
        if self._state is ServerState.READY:
            self.close(_broken("Nothing was heard for the time of a lease.", "timeout", retryable=True))
        else:
            self.close(_broken("The client did not authenticate in time.", "timeout", retryable=True))

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None when never."""
        return None if self.is_closed else self._deadline()

    def next_frame(self) -> str | None:
        """Take the next frame to send, None when there is none now."""
        if not self._outbox and self._presence:
            self._flush_presence()
        if not self._outbox:
            return None
        frame = self._outbox.popleft()
        self._outbox_bytes -= len(frame)
        return frame

    def welcome(self) -> None:
        """Tell the client that it is in."""
        self._require(ServerState.AWAITING_WELCOME)
        self._state = ServerState.READY
        self._put(Welcome(self._limits.lease_seconds))

    def push_presence(self, peer_id: str, label: str | None) -> None:
        """Tell the client that a watched peer is online under a label, or (None) offline.

        States of one peer that were not sent yet are replaced by newer ones, so the queue cannot grow.
        """
        if not self.is_closed:
            self._presence[peer_id] = label

    def forget_presence(self) -> None:
        """Drop what is queued about peers; called when the client watches others."""
        self._presence.clear()

    def push_signal(self, sender: str, sid: str, box: bytes) -> bool:
        """Queue a box for the client; False when too much waits for it already, and nothing was queued."""
        self._require(ServerState.READY)
        frame = encode(TakeSignal(sender, sid, box))
        if (
            len(self._outbox) >= self._limits.queued_messages
            or self._outbox_bytes + len(frame) > self._limits.queued_bytes
        ):
            return False
        self._put_frame(frame)
        return True

    def report_delivery(self, request: int, delivered: bool) -> None:
        """Answer a signal request."""
        self._reply(Delivery(request, delivered))

    def refuse(self, request: int, error: PgpeerError) -> None:
        """Answer a signal request with an error; the conversation goes on."""
        self._reply(_refusal(error, request))

    def close(self, error: PgpeerError) -> None:
        """End the conversation, telling the client why; closing twice does nothing."""
        if self.is_closed:
            return
        self._state = ServerState.CLOSED
        self.closed_because = error
        self._presence.clear()
        self._put(_refusal(error, None))

    def _receive(self, frame: str | bytes, now: float) -> list[ServerEvent]:
        if isinstance(frame, bytes):
            raise _broken("Binary frames are not taken.", "bad_message")
        if not self._bucket.take(now):
            raise _broken("Too many messages came at once.", "rate_limited", retryable=True)
        ready = self._state is ServerState.READY
        message = decode_for_hub(
            frame, self._limits.frame_bytes if ready else self._limits.unauthenticated_frame_bytes
        )
        following = TRANSITIONS.get((self._state, type(message)))
        if following is None:
            raise _broken(f"A message came that is not taken in state {self._state.value}.", "bad_message")
        self._state = following
        self._heard_at = now
        return self._take(message)

    def _take(self, message: ClientMessage) -> list[ServerEvent]:
        match message:
            case Authenticate():
                check_authentication(self._hello, message, self._authorities)
                self.peer_id, self.label = message.peer_id, message.label
                return [PeerAuthenticated(message.peer_id, message.label)]
            case Watch(peer_ids):
                if len(peer_ids) > self._limits.watched_peers:
                    raise _broken(
                        f"At most {self._limits.watched_peers} peers can be watched at once.", "quota"
                    )
                return [WatchRequested(tuple(dict.fromkeys(peer_ids)))]
            case SendSignal(request, to, sid, box):
                return [SignalRequested(request, to, sid, box)]
            case Ping():
                self._reply(Pong())
                return []

    def _deadline(self) -> float:
        if self._state is ServerState.READY:
            return self._heard_at + self._limits.lease_seconds
        return self._started_at + self._limits.unauthenticated_seconds

    def _flush_presence(self) -> None:
        online: dict[str, str] = {}
        offline: list[str] = []
        for peer_id in list(self._presence)[:PRESENCE_ENTRIES_LIMIT]:
            label = self._presence.pop(peer_id)
            if label is None:
                offline.append(peer_id)
            else:
                online[peer_id] = label
        self._put(Presence(online, tuple(offline)))

    def _reply(self, message: HubMessage) -> None:
        if self.is_closed:
            return
        if len(self._outbox) >= REPLIES_FACTOR * self._limits.queued_messages:
            self.close(
                _broken("The client does not read what it is sent.", "target_overloaded", retryable=True)
            )
            return
        self._put(message)

    def _put(self, message: HubMessage) -> None:
        self._put_frame(encode(message))

    def _put_frame(self, frame: str) -> None:
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)

    def _require(self, state: ServerState) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"The conversation is {self._state.value}, not {state.value}.")


def _refusal(error: PgpeerError, request: int | None) -> Refusal:
    return Refusal(error.code, str(error)[:1024], error.remedy[:1024], error.retryable, request)


def _broken(sentence: str, code: str, *, retryable: bool = False) -> RemoteProtocolError:
    return RemoteProtocolError(sentence, code=code, phase="signalling", retryable=retryable)
