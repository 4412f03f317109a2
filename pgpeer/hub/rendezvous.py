"""Namespaces: who is listed where, and who follows which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from pgpeer.errors import HubError, RemoteProtocolError
from pgpeer.hub.store import HubStore, NamespaceNotice
from pgpeer.signaling.messages import Discover, Discovered, Follow, Register, Registered, Unregister
from pgpeer.signaling.record import read_registration
from pgpeer.signaling.server import ServerConversation
from pgpeer.signaling.wire import RECORDS_PER_FRAME


class Rendezvous:
    """The namespaces of a hub, as one of its processes serves them."""

    def __init__(self, store: HubStore, touch: Callable[[ServerConversation], None]) -> None:
        """Begin without followers.

        Args:
            store: keeps the registrations.
            touch: called with every connection that has something to send.
        """
        self._store = store
        self._touch = touch
        self._followed: dict[ServerConversation, tuple[str, ...]] = {}
        self._followers: defaultdict[str, set[ServerConversation]] = defaultdict(set)

    async def register(
        self, conversation: ServerConversation, message: Register, unix_now: float
    ) -> Registered:
        """List a peer by its signed record.

        Raises:
            HubError: the record is not the peer's or not for this namespace, is older than what is listed, or
                the peer is listed in too many.
        """
        try:
            registration = read_registration(message.record, namespace=message.namespace, now=unix_now)
        except RemoteProtocolError as error:
            raise _refused(str(error), error.code) from error
        if registration.peer_id != conversation.peer_id:
            raise _refused("The registration is another peer's.", "identity_mismatch")
        longest = min(self._store.limits.registration_seconds, int(registration.expires - unix_now))
        seconds = min(message.ttl_seconds, longest)
        if seconds <= 0:
            raise _refused("The registration has expired.", "replay")
        await self._store.register(
            message.namespace, conversation.peer_id, registration.seq, message.record, seconds
        )
        return Registered(message.request, seconds)

    async def unregister(self, conversation: ServerConversation, message: Unregister) -> Registered:
        """List a peer no longer."""
        await self._store.unregister(message.namespace, conversation.peer_id)
        return Registered(message.request, 0)

    async def discover(self, message: Discover) -> Discovered:
        """Give the next registrations after a cookie."""
        limit = min(message.limit, RECORDS_PER_FRAME)
        found = await self._store.discover(message.namespace, message.cookie, limit + 1)
        page = found[:limit]
        cookie = page[-1].position if page else message.cookie
        return Discovered(message.request, tuple(one.record for one in page), cookie, len(found) > limit)

    def follow(self, conversation: ServerConversation, message: Follow) -> None:
        """Push the changes of these namespaces, and no others, from now on."""
        self.leave(conversation)
        conversation.forget_changes()
        self._followed[conversation] = message.namespaces
        for namespace in message.namespaces:
            self._followers[namespace].add(conversation)

    def hear(self, notice: NamespaceNotice) -> None:
        """A registration has changed: tell who follows."""
        for follower in self._followers.get(notice.namespace, ()):
            follower.push_change(notice.namespace, notice.peer_id, notice.record)
            self._touch(follower)

    def missed(self) -> None:
        """Changes may have been missed: tell all who follow anything."""
        for follower, namespaces in self._followed.items():
            for namespace in namespaces:
                follower.push_missed(namespace)
            self._touch(follower)

    def leave(self, conversation: ServerConversation) -> None:
        """Forget what a connection follows."""
        for namespace in self._followed.pop(conversation, ()):
            followers = self._followers[namespace]
            followers.discard(conversation)
            if not followers:
                del self._followers[namespace]


def _refused(sentence: str, code: str) -> HubError:
    return HubError(
        sentence,
        remedy="Sign the registration with the key of this connection, for this namespace.",
        code=code,
        phase="signalling",
        retryable=False,
    )
