"""The client's side of one conversation with a hub: frames and `now` go in; frames and events come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from pgpeer.errors import HubError, LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.authentication import authenticate
from pgpeer.signaling.circuits import ClientCircuits
from pgpeer.signaling.client_events import (
    BoxReceived,
    ClientEvent,
    HubClosed,
    HubReady,
    HubSlow,
    MailReceived,
    NamespaceChanged,
    PeerOffline,
    PeerOnline,
    Reply,
    RequestAnswered,
    SignalAnswered,
)
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    OFFERED_BY,
    Changes,
    CircuitOffered,
    CircuitOpened,
    ClientMessage,
    Credit,
    Delivery,
    Discovered,
    End,
    Follow,
    Hello,
    HubMessage,
    Mail,
    Ping,
    Pong,
    Posted,
    Presence,
    Refusal,
    Registered,
    SendSignal,
    Shut,
    Taken,
    TakeSignal,
    TurnOffer,
    Watch,
    Welcome,
)
from pgpeer.signaling.wire import decode_for_client, encode, read_circuit_frame

__all__ = [
    "BoxReceived",
    "ClientConversation",
    "ClientEvent",
    "ClientState",
    "HubClosed",
    "HubReady",
    "HubSlow",
    "PeerOffline",
    "PeerOnline",
    "SignalAnswered",
]

CONNECT_SLOW_SECONDS: Final = 3.0
CONNECT_FAIL_SECONDS: Final = 10.0
SIGNAL_FAIL_SECONDS: Final = 15.0
PENDING_SIGNALS_LIMIT: Final = 1024


class ClientState(Enum):
    """Where the conversation stands."""

    AWAITING_HELLO = "awaiting_hello"
    AWAITING_WELCOME = "awaiting_welcome"
    READY = "ready"
    CLOSED = "closed"


_READY_MESSAGES: Final = (
    Presence,
    Delivery,
    TakeSignal,
    Refusal,
    Pong,
    Registered,
    Discovered,
    Changes,
    Posted,
    Mail,
    TurnOffer,
    CircuitOpened,
    CircuitOffered,
    Credit,
    End,
    Shut,
)
TRANSITIONS: Final[dict[tuple[ClientState, type[HubMessage]], ClientState]] = {
    (ClientState.AWAITING_HELLO, Hello): ClientState.AWAITING_WELCOME,
    (ClientState.AWAITING_HELLO, Refusal): ClientState.AWAITING_HELLO,
    (ClientState.AWAITING_WELCOME, Welcome): ClientState.READY,
    (ClientState.AWAITING_WELCOME, Refusal): ClientState.AWAITING_WELCOME,
    **{(ClientState.READY, message): ClientState.READY for message in _READY_MESSAGES},
}
"""What a hub may say when; all else ends the conversation, and so does a refusal that names no request."""


class ClientConversation:
    """Our conversation with one hub. Times are seconds of one monotonic clock."""

    def __init__(
        self,
        key: PrivateKey,
        url: str,
        label: str,
        limits: HubLimits,
        now: float,
        *,
        features: tuple[str, ...] = (),
        visitor: bool = False,
    ) -> None:
        """Wait for the hub's hello.

        Args:
            key: proves our peer id.
            url: the URL that we dialled.
            label: what the hub tells those who watch us.
            limits: sizes and times; only those that concern a client count.
            now: the time.
            features: what we take of the hub: it pushes mail and circuits only to those who say so.
            visitor: only open circuits here, beside another connection of the same peer.
        """
        self._key = key
        self._url = url
        self._label = label
        self._limits = limits
        self._features = features
        self._visitor = visitor
        self._state = ClientState.AWAITING_HELLO
        self._started_at = now
        self._heard_at = now
        self._ping_seconds = limits.ping_seconds
        self._ping_at = now + limits.ping_seconds
        self._told_slow = False
        self._hello = Hello("", b"")
        self._outbox: deque[str] = deque()
        self._data: deque[str | bytes] = deque()
        self.circuits = ClientCircuits(self._data)
        self._pending: dict[int, tuple[float, bool]] = {}
        self._last_request = 0

    def start(self, now: float) -> None:
        """Start the time-outs anew: the connection stands, the hub speaks first."""
        self._started_at = self._heard_at = now

    @property
    def state(self) -> ClientState:
        """Where the conversation stands."""
        return self._state

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._state is ClientState.CLOSED

    def receive(self, frame: str | bytes, now: float) -> list[ClientEvent]:
        """Take one frame; one that breaks the rules closes the conversation."""
        if self.is_closed:
            return []
        try:
            if isinstance(frame, bytes):
                return self._receive_data(frame, now)
            message = decode_for_client(frame, self._limits.frame_bytes)
            following = TRANSITIONS.get((self._state, type(message)))
            if following is None:
                return self._broken(
                    f"The hub sent a message that is not taken in state {self._state.value}.", "bad_message"
                )
            self._state = following
            self._heard_at = now
            return self._take(message, now)
        except RemoteProtocolError as error:
            return self._broken(str(error), error.code)

    def tick(self, now: float) -> list[ClientEvent]:
        """Do what is due: ping, give up requests without an answer, give up a silent hub."""
        if self.is_closed:
            return []
        if self._state is not ClientState.READY:
            return self._tick_connecting(now)
        if now >= self._heard_at + self._limits.dead_seconds:
            return self.close(
                HubError(f"The hub {self._url} has fallen silent.", code="timeout", phase="signalling")
            )
        if now >= self._ping_at:
            self._put(Ping())
            self._ping_at = now + self._ping_seconds
        overdue = [request for request, (deadline, _) in self._pending.items() if now >= deadline]
        error = HubError(f"The hub {self._url} did not answer in time.", code="timeout", phase="signalling")
        return [event for request in overdue for event in self._failed(request, error)]

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None when never."""
        if self.is_closed:
            return None
        if self._state is not ClientState.READY:
            return self._started_at + (CONNECT_FAIL_SECONDS if self._told_slow else CONNECT_SLOW_SECONDS)
        dead_at = self._heard_at + self._limits.dead_seconds
        return min(dead_at, self._ping_at, *(deadline for deadline, _ in self._pending.values()))

    def next_frame(self) -> str | bytes | None:
        """Take the next frame to send, None when there is none now; signals go before data of circuits."""
        if self._outbox:
            return self._outbox.popleft()
        return self._data.popleft() if self._data else None

    def watch(self, peer_ids: Iterable[str]) -> None:
        """Ask to hear of these peers, and no others.

        Raises:
            LocalProtocolError: the conversation is not ready, or these are more peers than can be watched.
        """
        self._require_ready()
        wanted = tuple(dict.fromkeys(peer_ids))
        if len(wanted) > self._limits.watched_peers:
            raise LocalProtocolError(f"At most {self._limits.watched_peers} peers can be watched at one hub.")
        self._put(Watch(wanted))

    def say(self, message: Follow | Taken) -> None:
        """Say something that the hub does not answer.

        Raises:
            LocalProtocolError: the conversation is not ready.
            HubError: the hub does not offer that.
        """
        self._require_offered(message)
        self._put(message)

    def send_box(self, to: str, sid: str, box: bytes, now: float) -> int:
        """Send a sealed box; `SignalAnswered` with the number given here tells its fate within 15 s.

        Raises:
            LocalProtocolError: the conversation is not ready, the box is too large for a frame, or too many
                wait.
        """
        self._require_ready()
        return self._request(lambda number: SendSignal(number, to, sid, box), now, is_signal=True)

    def ask(self, message: Callable[[int], ClientMessage], now: float) -> int:
        """Send a request; `RequestAnswered` with the number given here tells its fate within 15 s.

        Args:
            message: makes the message for the number.
            now: the time.

        Raises:
            LocalProtocolError: the conversation is not ready, the message is too large for a frame, or too
                many wait.
            HubError: the hub does not offer that.
        """
        self._require_offered(message(0))
        return self._request(message, now, is_signal=False)

    def close(self, error: HubError) -> list[ClientEvent]:
        """End the conversation: what waits for an answer fails, then `HubClosed`; twice does nothing."""
        if self.is_closed:
            return []
        self._state = ClientState.CLOSED
        self._outbox.clear()
        self._data.clear()
        failed = [event for request in list(self._pending) for event in self._failed(request, error)]
        return [*failed, *self.circuits.close(error), HubClosed(error)]

    def _receive_data(self, frame: bytes, now: float) -> list[ClientEvent]:
        if self._state is not ClientState.READY:
            raise RemoteProtocolError("The hub sent a binary frame.")
        number, data = read_circuit_frame(frame, self._limits.frame_bytes)
        self._heard_at = now
        return [*self.circuits.receive(number, data)]

    def _take(self, message: HubMessage, now: float) -> list[ClientEvent]:
        match message:
            case Hello():
                self._hello = message
                self._put(
                    authenticate(self._key, message, self._label, self._url, self._features, self._visitor)
                )
                return []
            case Welcome(lease_seconds):
                self._ping_seconds = min(self._limits.ping_seconds, lease_seconds / 3)
                self._ping_at = now + self._ping_seconds
                return [HubReady(self._hello.hub_id, self._hello.features)]
            case Presence(online, offline):
                arrived = [PeerOnline(peer_id, label) for peer_id, label in online.items()]
                return [*arrived, *(PeerOffline(peer_id) for peer_id in offline)]
            case Delivery(request, delivered):
                expected = self._pending.pop(request, None)
                return [SignalAnswered(request, delivered)] if expected else []
            case TakeSignal(sender, sid, box):
                return [BoxReceived(sender, sid, box)]
            case Mail(mail, sender, sent_at, box):
                return [MailReceived(mail, sender, sent_at, box)]
            case Changes(namespace, joined, left, missed):
                return [NamespaceChanged(namespace, joined, left, missed)]
            case Refusal():
                return self._refused(message)
            case CircuitOffered() | Credit() | End() | Shut():
                return [*self.circuits.take(message)]
            case Registered() | Discovered() | Posted() | TurnOffer() | CircuitOpened():
                return self._replied(message)
            case Pong():
                return []

    def _replied(self, message: Reply) -> list[ClientEvent]:
        expected = self._pending.pop(message.request, None)
        if isinstance(message, CircuitOpened):
            self.circuits.begin(message.circuit)
            if expected is None:  # it took longer than we wait
                self.circuits.shut(message.circuit, "timeout", "The circuit was opened too late.")
        return [RequestAnswered(message.request, message)] if expected else []

    def _refused(self, message: Refusal) -> list[ClientEvent]:
        ready = self._state is ClientState.READY
        error = HubError(
            f"The hub {self._url} refused: {message.detail}",
            remedy=message.hint,
            code=message.code,
            phase="signalling" if ready else "hub_auth",
            retryable=message.retryable,
        )
        if message.request is None:
            return self.close(error)
        return self._failed(message.request, error, message.elsewhere)

    def _failed(self, request: int, error: HubError, elsewhere: str | None = None) -> list[ClientEvent]:
        expected = self._pending.pop(request, None)
        if expected is None:
            return []
        _, is_signal = expected
        if is_signal:
            return [SignalAnswered(request, False, error)]
        return [RequestAnswered(request, None, error, elsewhere)]

    def _tick_connecting(self, now: float) -> list[ClientEvent]:
        if now >= self._started_at + CONNECT_FAIL_SECONDS:
            return self.close(HubError(f"The hub {self._url} did not let us in in time.", code="timeout"))
        if now >= self._started_at + CONNECT_SLOW_SECONDS and not self._told_slow:
            self._told_slow = True
            return [HubSlow()]
        return []

    def _broken(self, sentence: str, code: str) -> list[ClientEvent]:
        return self.close(
            HubError(
                f"The hub {self._url} broke the conversation: {sentence}",
                remedy="Check that the URL is that of a pgpeer hub of this version.",
                code=code,
                phase="signalling",
            )
        )

    def _request(self, message: Callable[[int], ClientMessage], now: float, *, is_signal: bool) -> int:
        if len(self._pending) >= PENDING_SIGNALS_LIMIT:
            raise LocalProtocolError(f"{PENDING_SIGNALS_LIMIT} requests wait for the hub's answer.")
        frame = encode(message(self._last_request + 1))
        if len(frame) > self._limits.frame_bytes:
            raise LocalProtocolError(
                f"A message of {len(frame)} bytes does not fit a frame.", code="too_large"
            )
        self._last_request += 1
        self._pending[self._last_request] = (now + SIGNAL_FAIL_SECONDS, is_signal)
        self._outbox.append(frame)
        return self._last_request

    def _put(self, message: ClientMessage) -> None:
        self._outbox.append(encode(message))

    def _require_ready(self) -> None:
        if self._state is not ClientState.READY:
            raise LocalProtocolError(f"The conversation with the hub is {self._state.value}, not ready.")

    def _require_offered(self, message: ClientMessage) -> None:
        self._require_ready()
        feature = OFFERED_BY[type(message)]
        if feature not in self._hello.features:
            raise HubError(
                f"The hub {self._url} does not offer '{feature}'.",
                remedy="Use a newer hub, or one that is set up for it.",
                code="refused_policy",
                phase="signalling",
                retryable=False,
            )
