"""What a conversation with a hub tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from pgpeer.errors import HubError
from pgpeer.signaling.circuits import CircuitEvent
from pgpeer.signaling.messages import CircuitOpened, Discovered, Posted, Registered, TurnOffer


@dataclass(frozen=True, slots=True)
class HubReady:
    """The hub has let us in, and offers these features."""

    hub_id: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HubSlow:
    """The hub takes longer than 3 s to let us in or to answer; it is not given up yet."""

    phase: str = "hub_connect"


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
class MailReceived:
    """A sealed box came out of our mailbox; it comes again until it is said to be `taken`."""

    mail: int
    sender: str
    sent_at: int
    box: bytes


@dataclass(frozen=True, slots=True)
class NamespaceChanged:
    """Peers joined or renewed (their records, not checked yet) or left; `missed`: discover again."""

    namespace: str
    joined: tuple[bytes, ...]
    left: tuple[str, ...]
    missed: bool


@dataclass(frozen=True, slots=True)
class SignalAnswered:
    """The fate of a signal that we sent: delivered, recipient offline, or (error) refused."""

    request: int
    delivered: bool
    error: HubError | None = None


Reply = Registered | Discovered | Posted | TurnOffer | CircuitOpened


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The hub's reply to a request of another kind, or (error) its refusal.

    `elsewhere` is the URL of the hub process where a refused circuit could be opened.
    """

    request: int
    reply: Reply | None
    error: HubError | None = None
    elsewhere: str | None = None


@dataclass(frozen=True, slots=True)
class HubClosed:
    """The conversation is over; the last event."""

    error: HubError


ClientEvent = (
    HubReady
    | HubSlow
    | PeerOnline
    | PeerOffline
    | BoxReceived
    | MailReceived
    | NamespaceChanged
    | SignalAnswered
    | RequestAnswered
    | CircuitEvent
    | HubClosed
)
