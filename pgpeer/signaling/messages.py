"""The messages between a hub and its clients, as values; `pgpeer.signaling.wire` writes and reads them.

Everything after `Pong` and `Ping` was added to version 1 later: a hub says in its hello what it offers, a
client in its proof what it takes, and neither sends the other what it did not announce.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pgpeer.signaling.signal import is_encodable

PROTOCOL_VERSION: Final = 1
NONCE_BYTES: Final = 32
LABEL_CHARACTERS_LIMIT: Final = 128
URL_CHARACTERS_LIMIT: Final = 512
PRESENCE_ENTRIES_LIMIT: Final = 100
"""So many peers go into one presence message, which then fits a frame whatever their labels."""

NAMESPACES: Final = "namespaces"
MAILBOX: Final = "mailbox"
CIRCUITS: Final = "circuits"
TURN: Final = "turn"
FEATURES: Final = (NAMESPACES, MAILBOX, CIRCUITS, TURN)
"""What hub and client may announce."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Hub → client, first: who the hub is, what to sign, and what it offers."""

    hub_id: str
    nonce: bytes
    features: tuple[str, ...] = ()
    versions: tuple[int, ...] = (PROTOCOL_VERSION,)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Client → hub: who the client is, which URL it dialled, and its signature (domain "hub-auth").

    A `visitor` opens circuits only: it takes the place of no other connection and nobody sees it online.
    """

    peer_id: str
    label: str
    url: str
    signature: bytes
    features: tuple[str, ...] = ()
    visitor: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """Hub → client: authenticated; a client that says nothing for `lease_seconds` counts as offline."""

    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Client → hub: tell me of these peers, and no others; their present state comes at once."""

    peer_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Hub → client: these watched peers are online now (with their labels), those are not."""

    online: Mapping[str, str]
    offline: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Client → hub: give this sealed box to that peer; `request` is echoed in the reply."""

    request: int
    to: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hub → client: the box was handed to the peer's connection, or the peer is offline."""

    request: int
    delivered: bool


@dataclass(frozen=True, slots=True)
class TakeSignal:
    """Hub → client: a sealed box from that peer."""

    sender: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hub → client: an error; of one request, or (request None) of the conversation, which then ends.

    `elsewhere` is the URL of the hub process where the request would succeed, when there is one.
    """

    code: str
    detail: str
    hint: str
    retryable: bool
    request: int | None = None
    elsewhere: str | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Client → hub: I am here."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Hub → client: so am I."""


@dataclass(frozen=True, slots=True)
class Register:
    """Client → hub: list me in a namespace for `ttl_seconds`, with this signed record."""

    request: int
    namespace: str
    ttl_seconds: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Unregister:
    """Client → hub: list me there no longer."""

    request: int
    namespace: str


@dataclass(frozen=True, slots=True)
class Registered:
    """Hub → client: it is so, for so long (0: no longer)."""

    request: int
    ttl_seconds: int


@dataclass(frozen=True, slots=True)
class Discover:
    """Client → hub: who is listed in this namespace; only what changed after `cookie` (0: all)."""

    request: int
    namespace: str
    cookie: int
    limit: int


@dataclass(frozen=True, slots=True)
class Discovered:
    """Hub → client: the next records, a cookie to go on from, and whether there are more now."""

    request: int
    records: tuple[bytes, ...]
    cookie: int
    more: bool


@dataclass(frozen=True, slots=True)
class Follow:
    """Client → hub: push the changes of these namespaces, and no others, from now on."""

    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Hub → client: who joined or renewed (records) and who left a namespace.

    `missed` says that more changed than the hub could keep for this client: it has to discover again.
    """

    namespace: str
    joined: tuple[bytes, ...]
    left: tuple[str, ...]
    missed: bool


@dataclass(frozen=True, slots=True)
class Post:
    """Client → hub: keep this sealed box for that peer, online or not, at most `ttl_seconds`."""

    request: int
    to: str
    ttl_seconds: int
    box: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """Hub → client: the box is kept, under this number."""

    request: int
    mail: int


@dataclass(frozen=True, slots=True)
class Mail:
    """Hub → client: a box that was kept; it comes again on every connection until it is `Taken`."""

    mail: int
    sender: str
    sent_at: int
    box: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """Client → hub: these boxes are safe with me, forget them."""

    mails: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskTurn:
    """Client → hub: give me credentials for the TURN servers."""

    request: int


@dataclass(frozen=True, slots=True)
class TurnOffer:
    """Hub → client: the TURN servers, with a name and password that hold for `ttl_seconds`."""

    request: int
    urls: tuple[str, ...]
    username: str
    credential: str
    ttl_seconds: int


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """Client → hub: connect me with that peer through yourself."""

    request: int
    to: str


@dataclass(frozen=True, slots=True)
class CircuitOpened:
    """Hub → client: the peer has accepted; binary frames that begin with this number are the circuit's."""

    request: int
    circuit: int


@dataclass(frozen=True, slots=True)
class CircuitOffered:
    """Hub → client: that peer (by its proof to the hub) wants a circuit; answer `Accept` or `Shut`."""

    circuit: int
    sender: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Client → hub: I take the circuit."""

    circuit: int


@dataclass(frozen=True, slots=True)
class Credit:
    """Either way: you may send so many bytes more on the circuit. Nobody sends without credit."""

    circuit: int
    size: int


@dataclass(frozen=True, slots=True)
class End:
    """Either way: no more bytes come from this side; the other direction goes on."""

    circuit: int


@dataclass(frozen=True, slots=True)
class Shut:
    """Either way: the circuit is over at once, for this reason; what was under way is lost."""

    circuit: int
    code: str
    detail: str


CircuitControl = Accept | Credit | End | Shut
ClientMessage = (
    Authenticate
    | Watch
    | SendSignal
    | Ping
    | Register
    | Unregister
    | Discover
    | Follow
    | Post
    | Taken
    | AskTurn
    | OpenCircuit
    | Accept
    | Credit
    | End
    | Shut
)
HubMessage = (
    Hello
    | Welcome
    | Presence
    | Delivery
    | TakeSignal
    | Refusal
    | Pong
    | Registered
    | Discovered
    | Changes
    | Posted
    | Mail
    | TurnOffer
    | CircuitOpened
    | CircuitOffered
    | Credit
    | End
    | Shut
)


OFFERED_BY: Final[dict[type[ClientMessage], str]] = {
    Register: NAMESPACES,
    Unregister: NAMESPACES,
    Discover: NAMESPACES,
    Follow: NAMESPACES,
    Post: MAILBOX,
    Taken: MAILBOX,
    AskTurn: TURN,
    **dict.fromkeys((OpenCircuit, Accept, Credit, End, Shut), CIRCUITS),
}
"""The feature that the hub must have announced before a client says this."""


def is_label(value: str) -> bool:
    """Whether a text can be a peer's label: at most 128 characters, none a control character."""
    return (
        len(value) <= LABEL_CHARACTERS_LIMIT
        and is_encodable(value)
        and not any(ord(character) < 32 or ord(character) == 127 for character in value)
    )


def presentable_label(value: str) -> str:
    """Make a label of any text: what cannot stand in one becomes a blank, what is too long is cut."""
    return "".join(character if is_label(character) else " " for character in value[:LABEL_CHARACTERS_LIMIT])
