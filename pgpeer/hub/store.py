"""What a hub keeps beyond one connection, and how the processes of one hub speak to each other.

Two stores fit this interface: `pgpeer.hub.memory` for one process whose state ends with it, and
`pgpeer.hub.postgres`, where registrations and mail are durable and several processes serve one community.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pgpeer.signaling.limits import HubLimits


@dataclass(frozen=True, slots=True)
class Listed:
    """One registration.

    Attributes:
        position: grows with every change of the namespace's list; a reader goes on after the last it has.
        peer_id: whose it is.
        record: the signed record as it came.
    """

    position: int
    peer_id: str
    record: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """One box in a mailbox; `sent_at` is unix time in seconds."""

    mail: int
    sender: str
    sent_at: int
    box: bytes


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A peer that is online at another process of the hub.

    Attributes:
        process: the number of that process.
        session: orders the connections of a peer: the highest counts.
        label: the peer's label.
    """

    process: int
    session: int
    label: str


@dataclass(frozen=True, slots=True)
class NamespaceNotice:
    """A peer has this record in a namespace now, or (None) has left it."""

    namespace: str
    peer_id: str
    record: bytes | None


@dataclass(frozen=True, slots=True)
class MailNotice:
    """There is new mail for this peer."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class PresenceNotice:
    """Peers are online at another process, or are gone from it."""

    process: int
    online: Mapping[str, Elsewhere]
    offline: Sequence[str]


@dataclass(frozen=True, slots=True)
class SignalNotice:
    """Another process passes a signal on and wants to know its fate under `number`."""

    process: int
    number: int
    sender: str
    to: str
    sid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class FateNotice:
    """What became of a signal that was passed on: 'delivered', 'offline' or 'target_overloaded'."""

    number: int
    fate: str


Notice = NamespaceNotice | MailNotice | PresenceNotice | SignalNotice | FateNotice


class HubStore(Protocol):
    """The state behind one or more hub processes.

    Every method but `close` raises HubError: code `quota` or `replay` when the request is refused, `internal`
    (retryable) when the state cannot be reached. A cancelled call may or may not have had its effect.
    """

    limits: HubLimits

    @property
    def hub_id(self) -> str:
        """The hub's id, the same for all processes and after restarts when the store is durable."""
        ...

    @property
    def process(self) -> int:
        """The number of this process."""
        ...

    @property
    def durable(self) -> bool:
        """Whether registrations and mail outlive the process."""
        ...

    @property
    def reachable(self) -> bool:
        """Whether the state can be reached now."""
        ...

    async def open(self, url: str, hear: Callable[[Notice], None], lost: Callable[[], None]) -> None:
        """Begin; from now on notices of this and other processes are given to `hear`.

        Args:
            url: where clients reach this process.
            hear: takes notices, in the order of their making.
            lost: called when notices may have been missed, or presence at other processes is unknown.
        """
        ...

    async def close(self) -> None:
        """End: this process' peers are offline for the others. Twice does nothing."""
        ...

    async def register(self, namespace: str, peer_id: str, seq: int, record: bytes, seconds: int) -> None:
        """List a peer in a namespace, in place of an older record.

        The very record that is listed only stays for longer: it keeps its position, and nobody is told.
        """
        ...

    async def unregister(self, namespace: str, peer_id: str) -> None:
        """List a peer there no longer."""
        ...

    async def discover(self, namespace: str, after: int, limit: int) -> list[Listed]:
        """Give at most `limit` registrations in the order of their change, beginning after a position."""
        ...

    async def post(self, sender: str, to: str, box: bytes, seconds: int) -> int:
        """Keep a box and give its number."""
        ...

    async def mail_for(self, peer_id: str, after: int, limit: int) -> list[Kept]:
        """Give at most `limit` boxes of a peer with numbers above `after`, oldest first."""
        ...

    async def take(self, peer_id: str, mails: Sequence[int]) -> None:
        """Forget these boxes of a peer."""
        ...

    async def announce(self, online: Mapping[str, str], offline: Sequence[str]) -> Mapping[str, int]:
        """Tell the other processes who came (with labels) and who left; gives the sessions of who came."""
        ...

    async def presence(self) -> Mapping[str, Elsewhere]:
        """Give who is online at the other processes."""
        ...

    async def url_of(self, process: int) -> str:
        """Give the URL at which clients reach another process; empty when there is none."""
        ...

    async def send(self, process: int, notice: SignalNotice | FateNotice) -> None:
        """Give a notice to another process."""
        ...

    async def sweep(self) -> None:
        """Forget what has expired, and processes that died; called every few seconds."""
        ...
