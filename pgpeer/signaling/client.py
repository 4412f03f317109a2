"""The client's side of one conversation with a hub: frames and `now` go in; frames and events come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from pgpeer.errors import CODES, HubError, LocalProtocolError, RemoteProtocolError
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
from pgpeer.signaling.client_requests import PendingRequest
from pgpeer.signaling.client_states import TRANSITIONS, ClientState
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    CIRCUITS,
    MAILBOX,
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
    "TRANSITIONS",
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
PENDING_SIGNALS_LIMIT: Final = 1024


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
        self._watched: frozenset[str] = frozenset()
        self._followed: frozenset[str] = frozenset()
        self._pending: dict[int, PendingRequest] = {}
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
        slow = [one for one in self._pending.values() if not one.told_slow and now >= one.slow_at]
        for one in slow:
            one.told_slow = True
        told: list[ClientEvent] = [HubSlow("signalling")] if slow else []
        overdue = [request for request, one in self._pending.items() if now >= one.fail_at]
        error = HubError(f"The hub {self._url} did not answer in time.", code="timeout", phase="signalling")
        return [*told, *(event for request in overdue for event in self._failed(request, error))]

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None when never."""
        if self.is_closed:
            return None
        if self._state is not ClientState.READY:
            return self._started_at + (CONNECT_FAIL_SECONDS if self._told_slow else CONNECT_SLOW_SECONDS)
        dead_at = self._heard_at + self._limits.dead_seconds
        return min(dead_at, self._ping_at, *(one.next_deadline for one in self._pending.values()))

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
        self._watched = frozenset(wanted)
        self._put(Watch(wanted))

    def say(self, message: Follow | Taken) -> None:
        """Say something that the hub does not answer.

        Raises:
            LocalProtocolError: the conversation is not ready.
            HubError: the hub does not offer that.
        """
        self._require_offered(message)
        if isinstance(message, Follow):
            self._followed = frozenset(message.namespaces)
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
                # of others than we watch now a hub speaks late, or to fill our memory
                arrived = [PeerOnline(one, label) for one, label in online.items() if one in self._watched]
                return [*arrived, *(PeerOffline(one) for one in offline if one in self._watched)]
            case Delivery(request, delivered):
                expected = self._pending.pop(request, None)
                return [SignalAnswered(request, delivered)] if expected else []
            case TakeSignal(sender, sid, box):
                return [BoxReceived(sender, sid, box)]
            case Mail(mail, sender, sent_at, box):
                self._require_taken(MAILBOX)
                return [MailReceived(mail, sender, sent_at, box)]
            case Changes(namespace, joined, left, missed):
                is_followed = namespace in self._followed
                return [NamespaceChanged(namespace, joined, left, missed)] if is_followed else []
            case Refusal():
                return self._refused(message)
            case CircuitOffered():
                self._require_taken(CIRCUITS)
                return [*self.circuits.take(message)]
            case Credit() | End() | Shut():
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
            code=message.code if message.code in CODES else "internal",
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
        if expected.is_signal:
            return [SignalAnswered(request, False, error)]
        return [RequestAnswered(request, None, error, elsewhere)]

    def _tick_connecting(self, now: float) -> list[ClientEvent]:
        phase = "hub_connect" if self._state is ClientState.AWAITING_HELLO else "hub_auth"
        if now >= self._started_at + CONNECT_FAIL_SECONDS:
            return self.close(
                HubError(
                    f"The hub {self._url} did not let us in in time.",
                    remedy="The worker tries again by itself; check that the hub runs and is not overloaded.",
                    code="timeout",
                    phase=phase,
                )
            )
        if now >= self._started_at + CONNECT_SLOW_SECONDS and not self._told_slow:
            self._told_slow = True
            return [HubSlow(phase)]
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
        self._pending[self._last_request] = PendingRequest(now, is_signal)
        self._outbox.append(frame)
        return self._last_request

    def _put(self, message: ClientMessage) -> None:
        self._outbox.append(encode(message))

    def _require_ready(self) -> None:
        if self._state is not ClientState.READY:
            raise LocalProtocolError(f"The conversation with the hub is {self._state.value}, not ready.")

    def _require_taken(self, feature: str) -> None:
        if feature not in self._features:
            raise RemoteProtocolError(f"The hub pushes '{feature}', which was not asked for.")

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
