"""What waits to be sent to one client of a hub: bounded, the newest state of each peer only."""

from __future__ import annotations

from collections import deque

from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import PRESENCE_ENTRIES_LIMIT, Changes, HubMessage, Presence
from pgpeer.signaling.wire import RECORDS_PER_FRAME, encode


class Outbox:
    """Messages in order, and after them presence and changes of namespaces, in their newest state."""

    __slots__ = ("_bytes", "_changes", "_frames", "_limits", "_missed", "_presence")

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._frames: deque[str] = deque()
        self._bytes = 0
        self._presence: dict[str, str | None] = {}
        self._changes: dict[str, dict[str, bytes | None]] = {}
        self._missed: set[str] = set()

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._frames)

    def put(self, message: HubMessage) -> None:
        """Add a message, whatever waits."""
        self._put(encode(message))

    def put_if_room(self, message: HubMessage) -> bool:
        """Add a message; False when too much waits already, and it was not added."""
        frame = encode(message)
        if (
            len(self._frames) >= self._limits.queued_messages
            or self._bytes + len(frame) > self._limits.queued_bytes
        ):
            return False
        self._put(frame)
        return True

    def put_presence(self, peer_id: str, label: str | None) -> None:
        """Add the state of a peer, in place of an older one."""
        self._presence[peer_id] = label

    def put_change(self, namespace: str, peer_id: str, record: bytes | None) -> None:
        """Add the state of a peer in a namespace, in place of an older one.

        When more waits than the limit, all of it is dropped for a word that the client missed something.
        """
        if namespace in self._missed:
            return
        self._changes.setdefault(namespace, {})[peer_id] = record
        if sum(map(len, self._changes.values())) > self._limits.queued_changes:
            self._missed.update(self._changes)
            self._changes.clear()

    def put_missed(self, namespace: str) -> None:
        """Add the word that changes of a namespace may have been missed, in place of what waits about it."""
        self._changes.pop(namespace, None)
        self._missed.add(namespace)

    def forget_presence(self) -> None:
        """Drop what waits about peers."""
        self._presence.clear()

    def forget_changes(self) -> None:
        """Drop what waits about namespaces."""
        self._changes.clear()
        self._missed.clear()

    def next_frame(self) -> str | None:
        """Take the next frame to send, None when there is none now."""
        if not self._frames and self._presence:
            self._flush_presence()
        if not self._frames and (self._changes or self._missed):
            self._flush_changes()
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    def _flush_presence(self) -> None:
        online: dict[str, str] = {}
        offline: list[str] = []
        for peer_id in list(self._presence)[:PRESENCE_ENTRIES_LIMIT]:
            label = self._presence.pop(peer_id)
            if label is None:
                offline.append(peer_id)
            else:
                online[peer_id] = label
        self.put(Presence(online, tuple(offline)))

    def _flush_changes(self) -> None:
        if self._missed:
            self.put(Changes(self._missed.pop(), (), (), True))
            return
        namespace, changes = next(iter(self._changes.items()))
        states = {peer_id: changes.pop(peer_id) for peer_id in list(changes)[:RECORDS_PER_FRAME]}
        if not changes:
            del self._changes[namespace]
        joined = tuple(record for record in states.values() if record is not None)
        left = tuple(peer_id for peer_id, record in states.items() if record is None)
        self.put(Changes(namespace, joined, left, False))

    def _put(self, frame: str) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
