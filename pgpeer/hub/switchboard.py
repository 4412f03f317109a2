"""Who is online here and at the other processes of the hub, and who wants to know.

No clocks, sockets or tasks here: the desk calls in, and then the server sends what the conversations hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pgpeer.errors import HubError
from pgpeer.hub.store import Elsewhere, PresenceNotice
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.server import PeerAuthenticated, ServerConversation, WatchRequested


class Switchboard:
    """The connections of one hub process, and what it heard of the others."""

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._online: dict[str, ServerConversation] = {}
        self._visitors: set[ServerConversation] = set()
        self._sessions: dict[str, int] = {}
        self._elsewhere: dict[str, Elsewhere] = {}
        self._watched: dict[ServerConversation, frozenset[str]] = {}
        self._watchers: defaultdict[str, set[ServerConversation]] = defaultdict(set)
        self._touched: set[ServerConversation] = set()
        self._unannounced: dict[str, str | None] = {}

    @property
    def online_count(self) -> int:
        """How many peers are online at this process."""
        return len(self._online)

    @property
    def elsewhere_count(self) -> int:
        """How many peers are online at other processes."""
        return len(self._elsewhere)

    @property
    def online(self) -> Iterable[ServerConversation]:
        """The connections of the peers that are online here."""
        return self._online.values()

    def take_touched(self) -> set[ServerConversation]:
        """Give the conversations that may have something to send since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def take_unannounced(self) -> dict[str, str | None]:
        """Give what the other processes do not know yet: labels of who came, None for who left."""
        unannounced, self._unannounced = self._unannounced, {}
        return unannounced

    def announce_again(self, unannounced: Mapping[str, str | None]) -> None:
        """Take back what could not be announced; what changed meanwhile counts."""
        self._unannounced = {**unannounced, **self._unannounced}

    def announce_all(self) -> None:
        """The other processes may have forgotten who is online here."""
        self._sessions.clear()
        self.announce_again({peer_id: one.label for peer_id, one in self._online.items()})

    def find(self, peer_id: str) -> ServerConversation | Elsewhere | None:
        """Give where a peer is: its connection here, another process, or nowhere."""
        here = self._online.get(peer_id)
        return here if here is not None and not here.is_closed else self._elsewhere.get(peer_id)

    def admit(self, conversation: ServerConversation, event: PeerAuthenticated) -> None:
        """Take a peer in that has proven its id, in place of an older connection of the same peer."""
        self._touched.add(conversation)
        older = None if conversation.visitor else self._online.get(event.peer_id)
        if older is None and len(self._online) + len(self._visitors) >= self._limits.connections_total:
            conversation.close(
                HubError(
                    "The hub is full.",
                    remedy="Try again later or use another hub.",
                    code="quota",
                    phase="hub_auth",
                )
            )
            return
        if conversation.visitor:
            self._visitors.add(conversation)
            conversation.welcome()
            return
        if older is not None:
            self._replace(older)
        self._online[event.peer_id] = conversation
        self._sessions.pop(event.peer_id, None)
        self._unannounced[event.peer_id] = event.label
        conversation.welcome()
        self._tell(event.peer_id, event.label)

    def watch(self, conversation: ServerConversation, event: WatchRequested) -> None:
        """Tell a client of these peers from now on, their present state first."""
        self._stop_watching(conversation)
        conversation.forget_presence()
        self._watched[conversation] = frozenset(event.peer_ids)
        for peer_id in event.peer_ids:
            self._watchers[peer_id].add(conversation)
            found = self.find(peer_id)
            conversation.push_presence(peer_id, None if found is None else found.label)
        self._touched.add(conversation)

    def leave(self, conversation: ServerConversation) -> None:
        """Forget a connection that has ended; its watchers hear of it unless a newer one took its place."""
        self._stop_watching(conversation)
        self._visitors.discard(conversation)
        peer_id = conversation.peer_id
        if peer_id and self._online.get(peer_id) is conversation:
            del self._online[peer_id]
            self._sessions.pop(peer_id, None)
            self._unannounced[peer_id] = None
            away = self._elsewhere.get(peer_id)
            self._tell(peer_id, None if away is None else away.label)
        self._touched.discard(conversation)

    def confirm(self, sessions: Mapping[str, int]) -> None:
        """The store has entered peers that came here; one that went elsewhere since then is not ours."""
        for peer_id, session in sessions.items():
            if peer_id not in self._online or self._unannounced.get(peer_id) is not None:
                continue
            self._sessions[peer_id] = session
            self._settle(peer_id)

    def hear(self, notice: PresenceNotice) -> None:
        """Take what another process says of its peers."""
        for peer_id, away in notice.online.items():
            known = self._elsewhere.get(peer_id)
            if known is None or known.session < away.session:
                self._elsewhere[peer_id] = away
                self._settle(peer_id)
                if peer_id not in self._online:
                    self._tell(peer_id, away.label)
        for peer_id in notice.offline:
            known = self._elsewhere.get(peer_id)
            if known is not None and known.process == notice.process:
                del self._elsewhere[peer_id]
                if peer_id not in self._online:
                    self._tell(peer_id, None)

    def learn(self, elsewhere: Mapping[str, Elsewhere]) -> None:
        """Take who is online at all other processes."""
        gone = [peer_id for peer_id in self._elsewhere if peer_id not in elsewhere]
        for peer_id in gone:
            process = self._elsewhere[peer_id].process
            self.hear(PresenceNotice(process, {}, [peer_id]))
        for peer_id, away in elsewhere.items():
            self.hear(PresenceNotice(away.process, {peer_id: away}, ()))

    def _settle(self, peer_id: str) -> None:
        """Of a connection here and one elsewhere the newer counts, once it is known which that is."""
        away, session = self._elsewhere.get(peer_id), self._sessions.get(peer_id)
        if away is None or session is None:
            return
        if session > away.session:
            del self._elsewhere[peer_id]
            return
        older = self._online.pop(peer_id)
        del self._sessions[peer_id]
        self._replace(older)
        self._tell(peer_id, away.label)

    def _replace(self, older: ServerConversation) -> None:
        self._stop_watching(older)
        older.close(
            HubError(
                "The same peer has connected again.",
                remedy="If this repeats, two workers use one identity: give one of the databases its own.",
                code="replaced",
                phase="signalling",
            )
        )
        self._touched.add(older)

    def _tell(self, peer_id: str, label: str | None) -> None:
        for watcher in self._watchers.get(peer_id, ()):
            watcher.push_presence(peer_id, label)
            self._touched.add(watcher)

    def _stop_watching(self, conversation: ServerConversation) -> None:
        for peer_id in self._watched.pop(conversation, frozenset()):
            watchers = self._watchers[peer_id]
            watchers.discard(conversation)
            if not watchers:
                del self._watchers[peer_id]
