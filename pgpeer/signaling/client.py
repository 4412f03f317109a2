"""The client's side of one conversation with a hub: frames and `now` go in; frames and events come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgpeer.errors import HubError, LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.authentication import authenticate
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
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
    decode_for_client,
    encode,
)

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


@dataclass(frozen=True, slots=True)
class HubReady:
    """The hub has let us in."""

    hub_id: str


@dataclass(frozen=True, slots=True)
class HubSlow:
    """The hub takes longer than 3 s to let us in; it is not given up yet."""


@dataclass(frozen=True, slots=True)
class PeerOnline:
    """A watched peer is reachable through the hub; said again when its label or connection changes."""

    peer_id: str
    label: str


@dataclass(frozen=True, slots=True)
class PeerOffline:
    """A watched peer is not reachable through the hub."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class BoxReceived:
    """A sealed box came; who sent it is the hub's word until the signature inside is checked."""

    sender: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class SignalAnswered:
    """The fate of a signal that we sent: delivered, recipient offline, or (error) refused."""

    request: int
    delivered: bool
    error: HubError | None = None


@dataclass(frozen=True, slots=True)
class HubClosed:
    """The conversation is over; the last event."""

    error: HubError


ClientEvent = HubReady | HubSlow | PeerOnline | PeerOffline | BoxReceived | SignalAnswered | HubClosed

TRANSITIONS: Final[dict[tuple[ClientState, type[HubMessage]], ClientState]] = {
    (ClientState.AWAITING_HELLO, Hello): ClientState.AWAITING_WELCOME,
    (ClientState.AWAITING_HELLO, Refusal): ClientState.AWAITING_HELLO,
    (ClientState.AWAITING_WELCOME, Welcome): ClientState.READY,
    (ClientState.AWAITING_WELCOME, Refusal): ClientState.AWAITING_WELCOME,
    (ClientState.READY, Presence): ClientState.READY,
    (ClientState.READY, Delivery): ClientState.READY,
    (ClientState.READY, TakeSignal): ClientState.READY,
    (ClientState.READY, Refusal): ClientState.READY,
    (ClientState.READY, Pong): ClientState.READY,
}
"""What a hub may say when; all else ends the conversation, and so does a refusal that names no request."""


class ClientConversation:
    """Our conversation with one hub. Times are seconds of one monotonic clock."""

    def __init__(self, key: PrivateKey, url: str, label: str, limits: HubLimits, now: float) -> None:
        self._key = key
        self._url = url
        self._label = label
        self._limits = limits
        self._state = ClientState.AWAITING_HELLO
        self._started_at = now
        self._heard_at = now
        self._ping_seconds = limits.ping_seconds
        self._ping_at = now + limits.ping_seconds
        self._told_slow = False
        self._hub_id = ""
        self._outbox: deque[str] = deque()
        self._pending: dict[int, float] = {}
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
                raise RemoteProtocolError("The hub sent a binary frame.")
            message = decode_for_client(frame, self._limits.frame_bytes)
        except RemoteProtocolError as error:
            return self._broken(str(error), error.code)
        following = TRANSITIONS.get((self._state, type(message)))
        if following is None:
            return self._broken(
                f"The hub sent a message that is not taken in state {self._state.value}.", "bad_message"
            )
        self._state = following
        self._heard_at = now
        return self._take(message, now)

    def tick(self, now: float) -> list[ClientEvent]:
        """Do what is due: ping, give up signals without an answer, give up a silent hub."""
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
        overdue = [request for request, deadline in self._pending.items() if now >= deadline]
        return [self._unanswered(request) for request in overdue]

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None when never."""
        if self.is_closed:
            return None
        if self._state is not ClientState.READY:
            return self._started_at + (CONNECT_FAIL_SECONDS if self._told_slow else CONNECT_SLOW_SECONDS)
        dead_at = self._heard_at + self._limits.dead_seconds
        return min(dead_at, self._ping_at, *self._pending.values())

    def next_frame(self) -> str | None:
        """Take the next frame to send, None when there is none now."""
        return self._outbox.popleft() if self._outbox else None

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

    def send_box(self, to: str, sid: str, box: bytes, now: float) -> int:
        """Send a sealed box; `SignalAnswered` with the number given here tells its fate within 15 s.

        Raises:
            LocalProtocolError: the conversation is not ready, the box is too large for a frame, or too many
                wait.
        """
        self._require_ready()
        if len(self._pending) >= PENDING_SIGNALS_LIMIT:
            raise LocalProtocolError(f"{PENDING_SIGNALS_LIMIT} signals wait for the hub's answer.")
        frame = encode(SendSignal(self._last_request + 1, to, sid, box))
        if len(frame) > self._limits.frame_bytes:
            raise LocalProtocolError(f"A signal of {len(box)} bytes does not fit a frame.", code="too_large")
        self._last_request += 1
        self._pending[self._last_request] = now + SIGNAL_FAIL_SECONDS
        self._outbox.append(frame)
        return self._last_request

    def close(self, error: HubError) -> list[ClientEvent]:
        """End the conversation: what waits for an answer fails, then `HubClosed`; twice does nothing."""
        if self.is_closed:
            return []
        self._state = ClientState.CLOSED
        self._outbox.clear()
        failed: list[ClientEvent] = [SignalAnswered(request, False, error) for request in self._pending]
        self._pending.clear()
        return [*failed, HubClosed(error)]

    def _take(self, message: HubMessage, now: float) -> list[ClientEvent]:
        match message:
            case Hello():
                self._hub_id = message.hub_id
                self._put(authenticate(self._key, message, self._label, self._url))
                return []
            case Welcome(lease_seconds):
                self._ping_seconds = min(self._limits.ping_seconds, lease_seconds / 3)
                self._ping_at = now + self._ping_seconds
                return [HubReady(self._hub_id)]
            case Presence(online, offline):
                arrived = [PeerOnline(peer_id, label) for peer_id, label in online.items()]
                return [*arrived, *(PeerOffline(peer_id) for peer_id in offline)]
            case Delivery(request, delivered):
                return self._answered(request, delivered, None)
            case TakeSignal(sender, sid, box):
                return [BoxReceived(sender, sid, box)]
            case Refusal():
                return self._refused(message)
            case Pong():
                return []

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
        return self._answered(message.request, False, error)

    def _answered(self, request: int, delivered: bool, error: HubError | None) -> list[ClientEvent]:
        if self._pending.pop(request, None) is None:
            return []
        return [SignalAnswered(request, delivered, error)]

    def _unanswered(self, request: int) -> SignalAnswered:
        del self._pending[request]
        error = HubError(f"The hub {self._url} did not answer in time.", code="timeout", phase="signalling")
        return SignalAnswered(request, False, error)

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

    def _put(self, message: ClientMessage) -> None:
        self._outbox.append(encode(message))

    def _require_ready(self) -> None:
        if self._state is not ClientState.READY:
            raise LocalProtocolError(f"The conversation with the hub is {self._state.value}, not ready.")
