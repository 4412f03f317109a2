"""Reaching peers: all ways to a peer at once, one link that keeps the best path and changes it while in use.

The caller gives the ways (a relay through a hub, WebRTC, direct TLS) and gets `PeerLink`s. The first path on
which both sides have proven who they are is used; a better one takes over when it has proven itself too; when
the one in use fails, another takes over and the rest are tried again. The last working path is never given
up for a better one that is only hoped for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from random import Random
from typing import Final

from pgpeer.errors import LinkClosed, LocalProtocolError, PgpeerError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import Link
from pgpeer.transport.contact import Contact
from pgpeer.transport.multipath_frames import abort
from pgpeer.transport.path_proof import TOKEN_BYTES
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.proving import Proven, prove_as_taker
from pgpeer.transport.ways import Way

SLOW_SECONDS: Final = 4.0
"""After this long without a path the caller is told that reaching is slow."""

FAIL_SECONDS: Final = 20.0
"""After this long without a path reaching has failed."""

PROVING_LIMIT: Final = 128
"""Links from outside on which the proof is under way; more are closed at once."""


class Reach:
    """All peers that one worker reaches or is reached by.

    Args:
        key: this side's key.
        ways_to: gives the ways to a peer as they are now; asked before every attempt.
        admit: tells why a peer that has proven who it is may not connect (a member of `CODES`); None: it may.
        on_link: called with every link that nobody waits for in `connect`.
        on_change: called when a link uses another path.
        chance: spreads attempts in time.
    """

    def __init__(
        self,
        key: PrivateKey,
        ways_to: Callable[[str], Sequence[Way]],
        admit: Callable[[str], str | None],
        on_link: Callable[[PeerLink], None],
        *,
        on_change: Callable[[PeerLink], None] = lambda _: None,
        chance: Random | None = None,
    ) -> None:
        self._key = key
        self._ways_to = ways_to
        self._admit = admit
        self._on_link = on_link
        self._on_change = on_change
        self._chance = chance or Random()
        self._secret = secrets.token_bytes(32)
        self._generations: dict[str, int] = {}
        self._contacts: dict[str, Contact] = {}
        self._wanted: set[str] = set()
        self._proving = 0
        self._ending: set[asyncio.Task[None]] = set()

    def links(self) -> list[PeerLink]:
        """Give the links that are open."""
        found = (contact.link for contact in self._contacts.values())
        return [link for link in found if link is not None and not link.closed]

    async def connect(
        self,
        peer_id: str,
        *,
        on_slow: Callable[[], None] | None = None,
        slow_seconds: float = SLOW_SECONDS,
        fail_seconds: float = FAIL_SECONDS,
    ) -> PeerLink:
        """Give the link to a peer: the one there is, or a new one as soon as one way has led there.

        When this is cancelled the attempts are given up, unless somebody else waits for the same peer.

        Raises:
            TransportError, HubError, RemoteProtocolError: every way has failed (the last reason is given), or
                none has led to the peer in time.
        """
        contact = self._current(peer_id)
        if contact is not None and contact.link is not None:
            return contact.link
        if contact is None:
            if not self._ways_to(peer_id):
                raise TransportError(
                    "No way to the peer is known.",
                    code="peer_offline",
                    phase="resolve",
                    remedy="Both sides need a hub in common, or the address where one of them listens.",
                )
            contact = self._begin(peer_id, leads=True)
            contact.run()
        self._wanted.add(peer_id)
        try:
            return await self._first_path(contact, on_slow, slow_seconds, fail_seconds)
        finally:
            self._wanted.discard(peer_id)

    async def take(self, link: Link, peer_id: str = "") -> None:
        """Take a link that a peer has opened, find out who it is, and give it to its stream as a path.

        Args:
            link: a fresh link; owned from now on, also when this fails.
            peer_id: whom it must be; empty for anybody.

        Raises:
            TransportError: the other side took too long, went away, or has begun anew meanwhile.
            RemoteProtocolError: the other side is not who it says.
        """
        if self._proving >= PROVING_LIMIT:
            await link.close()
            raise TransportError(
                "Too many peers connect at once.", code="target_overloaded", phase="identity"
            )
        self._proving += 1
        try:
            proven = await prove_as_taker(self._key, link, self._token, peer_id)
        finally:
            self._proving -= 1
        self._join(proven)

    def begin_answer(self, peer_id: str) -> bool:
        """Whether a WebRTC offer that came through a hub is to be answered (see `Contact.begin_answer`)."""
        contact = self._current(peer_id)
        return contact is None or contact.begin_answer()

    def hurry(self, peer_id: str | None = None, *, afresh: bool = False) -> None:
        """The network changed, the machine woke up, or a hub is back: ask on every path, try every way.

        Args:
            peer_id: only the peer to which there are new ways; None: all.
            afresh: whether attempts that are under way begin again, for they rest on what is no more.
        """
        one = self._contacts.get(peer_id) if peer_id is not None else None
        for contact in list(self._contacts.values()) if peer_id is None else [one]:
            if contact is not None:
                contact.hurry(afresh=afresh)

    def is_linked(self, peer_id: str) -> bool:
        """Whether there is a path to a peer now."""
        contact = self._contacts.get(peer_id)
        return contact is not None and contact.link is not None and contact.link.is_connected

    async def close(self) -> None:
        """End everything; takes about two seconds at most."""
        contacts = list(self._contacts.values())
        closing = [asyncio.create_task(one.link.close()) for one in contacts if one.link is not None]
        tasks = [task for contact in contacts for task in contact.tasks]
        for contact in contacts:
            contact.stop()
        waiting = [*closing, *tasks, *self._ending]
        if waiting:
            await asyncio.wait(waiting)

    async def _first_path(
        self, contact: Contact, on_slow: Callable[[], None] | None, slow: float, fail: float
    ) -> PeerLink:
        opened = contact.opened
        try:
            done, _ = await asyncio.wait([opened], timeout=min(slow, fail))
            if not done and fail > slow:
                if on_slow is not None:
                    on_slow()
                done, _ = await asyncio.wait([opened], timeout=fail - slow)
        except asyncio.CancelledError:
            if contact.link is None:
                contact.stop()
            raise
        if not done:
            contact.fail(_timeout(contact, fail))
        if opened.cancelled():
            raise LinkClosed("Connecting was given up here.", code="local_closed")
        return opened.result()

    def _begin(self, peer_id: str, *, leads: bool) -> Contact:
        contact = self._contacts[peer_id] = Contact(
            self._key,
            peer_id,
            self._token(peer_id),
            lambda: self._ways_to(peer_id),
            leads=leads,
            join=self._join,
            on_change=self._on_change,
            on_end=self._forget,
            chance=self._chance,
        )
        return contact

    def _join(self, proven: Proven) -> None:
        """Give a proven path to its stream.

        Raises:
            TransportError: the peer is not admitted, or the path belongs to a stream that is over.
        """
        peer_id = proven.remote.sender
        refusal = self._admit(peer_id)
        if refusal is not None:
            self._turn_away(proven.link, refusal)
            raise TransportError("The peer is not admitted.", code=refusal, phase="identity", retryable=False)
        contact = self._current(peer_id)
        if proven.local.token != self._token(peer_id):
            self._turn_away(proven.link, "replaced")
            raise TransportError("The peer began anew meanwhile.", code="replaced", phase="identity")
        if contact is not None and contact.link is not None and contact.remote_token != proven.remote.token:
            # the peer has lost its half of the stream, so nothing that was sent on it can be vouched for
            del self._contacts[peer_id]
            contact.link.abort(LinkClosed("The peer has begun anew.", code="replaced"))
            contact.stop()
            contact = None
        is_new = contact is None
        if contact is None:
            contact = self._begin(peer_id, leads=False)
        is_first = contact.link is None
        try:
            contact.add(proven)
        except LocalProtocolError as error:
            self._turn_away(proven.link, "target_overloaded")
            raise TransportError(str(error), code="target_overloaded", phase="identity") from error
        if contact.link is not None and (is_new or (is_first and peer_id not in self._wanted)):
            self._on_link(contact.link)

    def _turn_away(self, link: Link, code: str) -> None:
        async def tell() -> None:
            with suppress(LinkClosed):
                await link.send(abort(code))
            await link.close()

        task = asyncio.get_running_loop().create_task(tell())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _current(self, peer_id: str) -> Contact | None:
        """Give the contact with a peer, unless its link is over."""
        contact = self._contacts.get(peer_id)
        if contact is not None and contact.link is not None and contact.link.closed:
            self._forget(contact)
            contact.stop()
            return None
        return contact

    def _forget(self, contact: Contact) -> None:
        """A stream is over: the next one with this peer has another token."""
        if self._contacts.get(contact.peer_id) is contact:
            del self._contacts[contact.peer_id]
            self._generations[contact.peer_id] = self._generations.get(contact.peer_id, 0) + 1

    def _token(self, peer_id: str) -> bytes:
        """Give the token of this side's half of the stream with a peer.

        It is computed, so that strangers who only say hello leave nothing behind here.
        """
        self._current(peer_id)
        generation = self._generations.get(peer_id, 0).to_bytes(8, "big")
        return blake2b(generation + peer_id.encode(), key=self._secret, digest_size=TOKEN_BYTES).digest()


def _timeout(contact: Contact, seconds: float) -> PgpeerError:
    reasons = "; ".join(f"{kind}: {error}" for kind, error in contact.failures.items())
    return TransportError(
        f"No way to the peer was found within {seconds:g} s" + (f" ({reasons})" if reasons else "") + ".",
        code="timeout",
        remedy="Check that the peer is online and that UDP is not blocked; or enter a TURN server in "
        "peer.stun_server, use a hub that offers relays, or let a side listen (peer.config.listen_address).",
    )
