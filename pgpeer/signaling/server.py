"""The hub's side of one conversation: frames and `now` go in; frames and events come out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgpeer.errors import LocalProtocolError, PgpeerError, RemoteProtocolError
from pgpeer.signaling.authentication import check_authentication
from pgpeer.signaling.limits import HubLimits, TokenBucket
from pgpeer.signaling.messages import (
    CIRCUITS,
    OFFERED_BY,
    Accept,
    AskTurn,
    Authenticate,
    CircuitControl,
    ClientMessage,
    Credit,
    Delivery,
    Discover,
    End,
    Follow,
    Hello,
    HubMessage,
    Mail,
    OpenCircuit,
    Ping,
    Pong,
    Post,
    Refusal,
    Register,
    SendSignal,
    Shut,
    Taken,
    TakeSignal,
    Unregister,
    Watch,
    Welcome,
)
from pgpeer.signaling.outbox import Outbox
from pgpeer.signaling.wire import decode_for_hub, read_circuit_frame

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


@dataclass(frozen=True, slots=True)
class CircuitData:
    """The client sends bytes on a circuit."""

    circuit: int
    payload: bytes


Request = Register | Unregister | Discover | Post | AskTurn | OpenCircuit
"""What the hub answers with `reply` or `refuse`."""

ServerEvent = (
    PeerAuthenticated
    | WatchRequested
    | SignalRequested
    | CircuitData
    | Follow
    | Taken
    | Request
    | CircuitControl
)

_READY_MESSAGES: Final = (
    Watch,
    SendSignal,
    Ping,
    Register,
    Unregister,
    Discover,
    Follow,
    Post,
    Taken,
    AskTurn,
    OpenCircuit,
    Accept,
    Credit,
    End,
    Shut,
)
TRANSITIONS: Final[dict[tuple[ServerState, type[ClientMessage]], ServerState]] = {
    (ServerState.AWAITING_AUTHENTICATION, Authenticate): ServerState.AWAITING_WELCOME,
    **{(ServerState.READY, message): ServerState.READY for message in _READY_MESSAGES},
}
"""What a client may say when; anything else ends the conversation."""


class ServerConversation:
    """One client's conversation with the hub. Times are seconds of one monotonic clock."""

    def __init__(self, hello: Hello, authorities: frozenset[str], limits: HubLimits, now: float) -> None:
        """Start with the hello in the outbox.

        Args:
            hello: the hub's id, 32 fresh random bytes, and what the hub offers.
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
        self._controls = TokenBucket(limits.controls_per_second, limits.controls_burst, now)
        self._outbox = Outbox(limits)
        self.peer_id: str = ""
        self.label: str = ""
        self.features: frozenset[str] = frozenset()
        self.visitor = False
        self.closed_because: PgpeerError | None = None
        self._outbox.put(hello)

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
            return self._receive_data(frame, now) if isinstance(frame, bytes) else self._receive(frame, now)
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
        return self._outbox.next_frame()

    def welcome(self) -> None:
        """Tell the client that it is in."""
        self._require(ServerState.AWAITING_WELCOME)
        self._state = ServerState.READY
        self._outbox.put(Welcome(self._limits.lease_seconds))

    def push_presence(self, peer_id: str, label: str | None) -> None:
        """Tell the client that a watched peer is online under a label, or (None) offline.

        States of one peer that were not sent yet are replaced by newer ones, so the queue cannot grow.
        """
        if not self.is_closed:
            self._outbox.put_presence(peer_id, label)

    def forget_presence(self) -> None:
        """Drop what is queued about peers; called when the client watches others."""
        self._outbox.forget_presence()

    def push_change(self, namespace: str, peer_id: str, record: bytes | None) -> None:
        """Tell the client that a peer has this record in a followed namespace now, or (None) has left it.

        When more waits than the limit, it is dropped and the client is told to discover again.
        """
        if not self.is_closed:
            self._outbox.put_change(namespace, peer_id, record)

    def push_missed(self, namespace: str) -> None:
        """Tell the client that it may have missed changes of a namespace."""
        if not self.is_closed:
            self._outbox.put_missed(namespace)

    def forget_changes(self) -> None:
        """Drop what is queued about namespaces; called when the client follows others."""
        self._outbox.forget_changes()

    def push_signal(self, sender: str, sid: str, box: bytes) -> bool:
        """Queue a box for the client; False when too much waits for it already, and nothing was queued."""
        self._require(ServerState.READY)
        return self._outbox.put_if_room(TakeSignal(sender, sid, box))

    def push_mail(self, mail: Mail) -> bool:
        """Queue a box from the mailbox; False when too much waits already, and nothing was queued."""
        return not self.is_closed and self._outbox.put_if_room(mail)

    def push(self, message: HubMessage) -> None:
        """Queue a message that the client has to get; one that lets too many pile up is closed."""
        self._reply(message)

    def report_delivery(self, request: int, delivered: bool) -> None:
        """Answer a signal request."""
        self._reply(Delivery(request, delivered))

    def refuse(self, request: int, error: PgpeerError, elsewhere: str | None = None) -> None:
        """Answer a request with an error, and where it would succeed; the conversation goes on."""
        self._reply(_refusal(error, request, elsewhere))

    def close(self, error: PgpeerError) -> None:
        """End the conversation, telling the client why; closing twice does nothing."""
        if self.is_closed:
            return
        self._state = ServerState.CLOSED
        self.closed_because = error
        self._outbox.forget_presence()
        self._outbox.forget_changes()
        self._outbox.put(_refusal(error, None))

    def _receive_data(self, frame: bytes, now: float) -> list[ServerEvent]:
        if self._state is not ServerState.READY or CIRCUITS not in self._hello.features:
            raise _broken("Binary frames are not taken.", "bad_message")
        circuit, payload = read_circuit_frame(frame, self._limits.frame_bytes)
        self._heard_at = now
        return [CircuitData(circuit, payload)]

    def _receive(self, frame: str, now: float) -> list[ServerEvent]:
        ready = self._state is ServerState.READY
        message = decode_for_hub(
            frame, self._limits.frame_bytes if ready else self._limits.unauthenticated_frame_bytes
        )
        bucket = self._controls if ready and isinstance(message, CircuitControl) else self._bucket
        if not bucket.take(now):
            raise _broken("Too many messages came at once.", "rate_limited", retryable=True)
        following = TRANSITIONS.get((self._state, type(message)))
        if following is None:
            raise _broken(f"A message came that is not taken in state {self._state.value}.", "bad_message")
        if OFFERED_BY.get(type(message), "") not in ("", *self._hello.features):
            raise _broken("This hub does not offer that.", "refused_policy")
        self._state = following
        self._heard_at = now
        return self._take(message)

    def _take(self, message: ClientMessage) -> list[ServerEvent]:
        match message:
            case Authenticate():
                check_authentication(self._hello, message, self._authorities)
                self.peer_id, self.label = message.peer_id, message.label
                self.features, self.visitor = frozenset(message.features), message.visitor
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
            case Follow(namespaces):
                if len(namespaces) > self._limits.namespaces:
                    raise _broken(
                        f"At most {self._limits.namespaces} namespaces can be followed at once.", "quota"
                    )
                return [Follow(tuple(dict.fromkeys(namespaces)))]
            case _:
                return [message]

    def _deadline(self) -> float:
        if self._state is ServerState.READY:
            return self._heard_at + self._limits.lease_seconds
        return self._started_at + self._limits.unauthenticated_seconds

    def _reply(self, message: HubMessage) -> None:
        if self.is_closed:
            return
        if len(self._outbox) >= REPLIES_FACTOR * self._limits.queued_messages:
            self.close(
                _broken("The client does not read what it is sent.", "target_overloaded", retryable=True)
            )
            return
        self._outbox.put(message)

    def _require(self, state: ServerState) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"The conversation is {self._state.value}, not {state.value}.")


def _refusal(error: PgpeerError, request: int | None, elsewhere: str | None = None) -> Refusal:
    detail, hint = str(error)[:1024], error.remedy[:1024]
    return Refusal(error.code, detail, hint, error.retryable, request, elsewhere)


def _broken(sentence: str, code: str, *, retryable: bool = False) -> RemoteProtocolError:
    return RemoteProtocolError(sentence, code=code, phase="signalling", retryable=retryable)
