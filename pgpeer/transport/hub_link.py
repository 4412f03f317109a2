"""The worker's connection to one hub: what the hub can be asked for."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from pgpeer.errors import HubError, LocalProtocolError
from pgpeer.identity.key import PrivateKey, seal_to
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    AskTurn,
    Discover,
    Discovered,
    Follow,
    OpenCircuit,
    Post,
    Posted,
    Register,
    Registered,
    Taken,
    TurnOffer,
    Unregister,
)
from pgpeer.signaling.record import Registration, sign_registration
from pgpeer.signaling.wire import DISCOVER_LIMIT, MAILS_TAKEN_LIMIT
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_connection import HubConnection, OpenElsewhere

__all__ = ["HubCircuit", "HubClient", "Members", "TurnCredentials"]

PAGES_LIMIT: Final = 1024
"""The list of a namespace may have so many pages; a hub that goes on is given up."""

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Members:
    """Who is listed in a namespace.

    Attributes:
        registrations: signatures checked, newest record of each peer.
        cookie: give it to the next `discover` to get only what changed since.
    """

    registrations: tuple[Registration, ...]
    cookie: int


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """What an ICE agent needs to use the hub's TURN servers.

    Attributes:
        urls: of STUN and TURN servers.
        username: for TURN.
        credential: for TURN.
        ttl_seconds: for how long a new allocation can be made with them; one that stands goes on.
    """

    urls: tuple[str, ...]
    username: str
    credential: str
    ttl_seconds: int


class HubClient(HubConnection):
    """One connection to one hub, for one life: after `HubClosed` make a new one.

    `async for event in client` gives `PeerOnline`, `PeerOffline`, `SignalReceived`, `HubSlow` and, last,
    `HubClosed` with the error; `MembersChanged` for followed namespaces; `LetterReceived` and
    `CircuitReceived` when it was made with `takes=(MAILBOX, CIRCUITS)`. Nothing connects again by itself;
    `pgpeer.signaling.backoff` says when to. Registrations and letters outlive the connection; what is watched
    and followed does not: say it again on the next one.

    A relay path is built on circuits: `open_circuit` on one side, `CircuitReceived` on the other, TLS inside.
    A peer may use several hubs, each with a client of its own.

    Every request raises HubError: `rate_limited`, `quota` and `timeout` (no answer within 15 s) can be tried
    again later; `refused_policy` says that this hub does not offer it; on a connection that is over, what
    ended it. LocalProtocolError says that the request does not fit a frame, or that too many wait. When a
    request is cancelled, it may or may not have had its effect.
    """

    def __init__(
        self,
        url: str,
        key: PrivateKey,
        label: str,
        *,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        takes: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        visitor: bool = False,
    ) -> None:
        """Prepare a connection; nothing is opened yet. See `HubConnection` for what the arguments mean.

        Raises:
            ConfigError: the URL cannot be a hub's.
        """
        super().__init__(url, key, label, limits=limits, clock=clock, takes=takes, tls=tls, visitor=visitor)
        self._visits: dict[str, HubClient] = {}
        self._visiting = asyncio.Lock()

    async def watch(self, peer_ids: Iterable[str]) -> None:
        """Ask to hear of these peers and no others; their present state comes as events at once.

        Raises:
            HubError: the connection is over.
            LocalProtocolError: these are more peers than can be watched.
        """
        self._require_open()
        self._conversation.watch(peer_ids)
        self._written.set()

    async def send_signal(self, to: str, sid: str, plaintext: bytes) -> bool:
        """Seal a signal to a peer and send it.

        When this is cancelled the signal may or may not be delivered.

        Args:
            to: the recipient's peer id.
            sid: session id, 1 to 64 of A-Z a-z 0-9 _ -.
            plaintext: what `pgpeer.signaling.signal.sign_signal` gave.

        Returns:
            True when the hub handed it to the recipient's connection, False when the recipient is offline.

        Raises:
            HubError: the hub refused (`rate_limited`, `target_overloaded`), did not answer within 15 s, or
                the connection is over.
            LocalProtocolError: the signal is too large.
            IdentityError: `to` is not a peer id.
        """
        self._require_open()
        box = seal_to(public_key_from_peer_id(to), plaintext)
        request = self._conversation.send_box(to, sid, box, self._clock())
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._signals[request] = answer
        self._asked()
        try:
            return await answer
        finally:
            self._signals.pop(request, None)

    async def register(self, registration: Registration, ttl_seconds: int) -> int:
        """Be listed in a namespace; call it again before the time is over.

        Args:
            registration: signed here with our key; its `seq` must be higher than any before.
            ttl_seconds: for how long, at most 72 hours.

        Returns:
            For how many seconds the hub lists us.

        Raises:
            HubError: also `replay` (a record with this number or a higher one is listed) and `quota` (listed
                in too many namespaces).
            LocalProtocolError: the registration is not ours or outside its limits.
        """
        record = sign_registration(self._key, registration)
        namespace = registration.namespace
        reply = await self._ask(lambda number: Register(number, namespace, ttl_seconds, record))
        assert isinstance(reply, Registered)
        return reply.ttl_seconds

    async def unregister(self, namespace: str) -> None:
        """Be listed there no longer; twice does nothing."""
        await self._ask(lambda number: Unregister(number, namespace))

    async def discover(self, namespace: str, cookie: int = 0) -> Members:
        """Ask who is listed in a namespace.

        Args:
            namespace: which.
            cookie: 0 for all, or what the last `discover` gave: then only who came or has another record
                since. Who has left is told by `follow` only, and by the expiry of the registration.

        Raises:
            HubError: also `too_large`: the list has more than `PAGES_LIMIT` pages.
        """
        found: dict[str, Registration] = {}
        more = True
        pages = 0
        while more:
            pages += 1
            if pages > PAGES_LIMIT:
                raise HubError(
                    "The hub tells without end who is listed.", code="too_large", phase="signalling"
                )
            reply = await self._ask(partial(_discover, namespace, cookie))
            assert isinstance(reply, Discovered)
            for registration in self._checked(namespace, reply.records):
                found[registration.peer_id] = registration
            more, cookie = reply.more and reply.cookie > cookie, reply.cookie
        return Members(tuple(found.values()), cookie)

    async def follow(self, namespaces: Iterable[str]) -> None:
        """Get `MembersChanged` for these namespaces and no others; `discover` them after that.

        Raises:
            LocalProtocolError: these are more than 64.
        """
        self._require_open()
        wanted = tuple(dict.fromkeys(namespaces))
        if len(wanted) > self._limits.namespaces:
            raise LocalProtocolError(f"At most {self._limits.namespaces} namespaces can be followed.")
        self._conversation.say(Follow(wanted))
        self._written.set()

    async def post_letter(self, to: str, plaintext: bytes, ttl_seconds: int = 72 * 3600) -> int:
        """Seal a letter to a peer and leave it at the hub until the peer has taken it.

        Args:
            to: the recipient's peer id; it may be offline, and need not be known to the hub.
            plaintext: what `pgpeer.signaling.letter.sign_letter` gave.
            ttl_seconds: for how long the hub shall keep it, at most 7 days.

        Returns:
            The hub's number for it.

        Raises:
            HubError: also `quota` (the peer's mailbox, or our share of it, is full) and `too_large`.
            IdentityError: `to` is not a peer id.
        """
        box = seal_to(public_key_from_peer_id(to), plaintext)
        reply = await self._ask(lambda number: Post(number, to, ttl_seconds, box))
        assert isinstance(reply, Posted)
        return reply.mail

    async def take_letters(self, numbers: Iterable[int]) -> None:
        """Tell the hub that these letters are safe with us, so that it forgets them; there is no answer."""
        self._require_open()
        wanted = list(numbers)
        for start in range(0, len(wanted), MAILS_TAKEN_LIMIT):
            self._conversation.say(Taken(tuple(wanted[start : start + MAILS_TAKEN_LIMIT])))
        self._written.set()

    async def turn_credentials(self) -> TurnCredentials:
        """Get credentials for the hub's TURN servers; `refused_policy` when it has none."""
        reply = await self._ask(AskTurn)
        assert isinstance(reply, TurnOffer)
        return TurnCredentials(reply.urls, reply.username, reply.credential, reply.ttl_seconds)

    async def open_circuit(self, peer_id: str) -> HubCircuit:
        """Open a stream of bytes to a peer through the hub; the peer gets `CircuitReceived`.

        When the peer is connected to another process of the hub, the circuit is opened there, over a second
        connection that lives as long as this one.

        Raises:
            HubError: also `peer_offline`, `relay_refused` (that peer takes no circuits, or its process of the
                hub cannot be reached from here), `target_overloaded`, `timeout` (the peer did not accept
                within 10 s), or the code with which the peer refused, such as `refused_policy`.
            IdentityError: `peer_id` is not a peer id.
        """
        public_key_from_peer_id(peer_id)
        try:
            reply = await self._ask(lambda number: OpenCircuit(number, peer_id), peer_id)
        except OpenElsewhere as error:
            if self._is_visitor:
                raise
            return await (await self._visit(error)).open_circuit(peer_id)
        assert isinstance(reply, HubCircuit)
        return reply

    async def close(self) -> None:
        """Close the connection; events end with `HubClosed` (code `local_closed`); twice does nothing."""
        visits = list(self._visits.values())
        self._visits.clear()
        for visit in visits:
            await visit.close()
        await super().close()

    async def _visit(self, error: OpenElsewhere) -> HubClient:
        """Give a connection to another process of the hub."""
        url = self._neighbour(error)
        async with self._visiting:
            self._require_open()
            visit = self._visits.get(url)
            if visit is None or visit.is_closed:
                visit = HubClient(
                    url,
                    self._key,
                    self._label,
                    limits=self._limits,
                    clock=self._clock,
                    tls=self._tls,
                    visitor=True,
                )
                await visit.connect()
                self._visits[url] = visit
            return visit

    def _neighbour(self, error: OpenElsewhere) -> str:
        """Check the URL of another process: same host and scheme, or a hub could send us anywhere."""
        ours, theirs = urlsplit(self.url), urlsplit(error.url)
        host = ours.hostname if theirs.hostname in _ANY_HOST else theirs.hostname
        if theirs.scheme != ours.scheme or host != ours.hostname or host is None:
            raise HubError(
                f"That peer is at {error.url}, another host of this hub.",
                remedy=f"Add {error.url} to the hubs of this database.",
                code="relay_refused",
                phase="signalling",
            ) from error
        port = f":{theirs.port}" if theirs.port else ""
        return f"{ours.scheme}://{f'[{host}]' if ':' in host else host}{port}{theirs.path}"


def _discover(namespace: str, cookie: int, request: int) -> Discover:
    return Discover(request, namespace, cookie, DISCOVER_LIMIT)
