"""The state of a hub of one process, in memory: it ends with the process."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pgpeer.hub.refusals import full_mailbox, older_record, same_number, too_many_namespaces
from pgpeer.hub.store import (
    Elsewhere,
    FateNotice,
    Kept,
    Listed,
    MailNotice,
    NamespaceNotice,
    Notice,
    SignalNotice,
)
from pgpeer.signaling.limits import HubLimits


@dataclass(frozen=True, slots=True)
class _Entry:
    listed: Listed
    seq: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Box:
    kept: Kept
    expires_at: float


class MemoryStore:
    """Keeps registrations and mail as long as the process lives. See `HubStore`."""

    durable = False
    reachable = True
    process = 1

    def __init__(self, limits: HubLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty.

        Args:
            limits: how much is kept.
            clock: gives monotonic seconds.
        """
        self.limits = limits
        self.hub_id = secrets.token_hex(16)
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lists: defaultdict[str, dict[str, _Entry]] = defaultdict(dict)
        self._boxes: defaultdict[str, dict[int, _Box]] = defaultdict(dict)
        self._mail_bytes = 0
        self._sent: Counter[str] = Counter()
        self._listed: Counter[str] = Counter()
        self._hear: Callable[[Notice], None] = lambda _: None

    async def open(self, url: str, hear: Callable[[Notice], None], lost: Callable[[], None]) -> None:
        """Begin; there is no other process to hear of."""
        self._hear = hear

    async def close(self) -> None:
        """End; nothing is kept."""

    async def register(self, namespace: str, peer_id: str, seq: int, record: bytes, seconds: int) -> None:
        """List a peer in a namespace, in place of an older record."""
        entries = self._lists.get(namespace, {})
        known = entries.get(peer_id)
        if known is not None and seq < known.seq:
            raise older_record()
        if known is not None and seq == known.seq and record != known.listed.record:
            raise same_number()
        if known is not None and record == known.listed.record and known.expires_at > self._clock():
            entries[peer_id] = _Entry(known.listed, seq, self._clock() + seconds)
            return  # nothing that others do not know
        if known is None and self._listed[peer_id] >= self.limits.namespaces:
            raise too_many_namespaces(self.limits.namespaces)
        self._listed[peer_id] += entries.pop(peer_id, None) is None
        self._lists[namespace][peer_id] = _Entry(
            Listed(next(self._numbers), peer_id, record), seq, self._clock() + seconds
        )
        self._hear(NamespaceNotice(namespace, peer_id, record))

    async def unregister(self, namespace: str, peer_id: str) -> None:
        """List a peer there no longer."""
        if self._lists[namespace].pop(peer_id, None) is not None:
            self._listed[peer_id] -= 1
            if not self._listed[peer_id]:
                del self._listed[peer_id]
            self._hear(NamespaceNotice(namespace, peer_id, None))
        if not self._lists[namespace]:
            del self._lists[namespace]

    async def discover(self, namespace: str, after: int, limit: int) -> list[Listed]:
        """Give registrations in the order of their change."""
        now = self._clock()
        entries = self._lists.get(namespace, {}).values()
        fresh = [one.listed for one in entries if one.listed.position > after and one.expires_at > now]
        return fresh[:limit]

    async def post(self, sender: str, to: str, box: bytes, seconds: int) -> int:
        """Keep a box and give its number."""
        boxes = self._boxes.get(to, {})
        of_sender = sum(one.kept.sender == sender for one in boxes.values())
        size = sum(len(one.kept.box) for one in boxes.values()) + len(box)
        if (
            len(boxes) >= self.limits.mailbox_messages
            or of_sender >= self.limits.mailbox_messages_per_sender
            or size > self.limits.mailbox_bytes
            or self._sent[sender] >= self.limits.mail_sent_per_peer
            or self._mail_bytes + len(box) > self.limits.mail_total_bytes
        ):
            raise full_mailbox()
        mail = next(self._numbers)
        self._mail_bytes += len(box)
        self._sent[sender] += 1
        sent_at = int(time.time())  # noqa: TID251 - the one clock that means something to the recipient
        self._boxes[to][mail] = _Box(Kept(mail, sender, sent_at, box), self._clock() + seconds)
        self._hear(MailNotice(to))
        return mail

    async def mail_for(self, peer_id: str, after: int, limit: int) -> list[Kept]:
        """Give boxes of a peer, oldest first."""
        now = self._clock()
        boxes = self._boxes.get(peer_id, {}).values()
        return [one.kept for one in boxes if one.kept.mail > after and one.expires_at > now][:limit]

    async def take(self, peer_id: str, mails: Sequence[int]) -> None:
        """Forget these boxes of a peer."""
        boxes = self._boxes.get(peer_id, {})
        for mail in mails:
            taken = boxes.pop(mail, None)
            if taken is not None:
                self._mail_bytes -= len(taken.kept.box)
                self._sent[taken.kept.sender] -= 1
                if not self._sent[taken.kept.sender]:
                    del self._sent[taken.kept.sender]
        if not boxes:
            self._boxes.pop(peer_id, None)

    async def announce(self, online: Mapping[str, str], offline: Sequence[str]) -> Mapping[str, int]:
        """Nobody else is there to be told."""
        return {}

    async def presence(self) -> Mapping[str, Elsewhere]:
        """Nobody is online elsewhere."""
        return {}

    async def url_of(self, process: int) -> str:
        """There is no other process."""
        return ""

    async def send(self, process: int, notice: SignalNotice | FateNotice) -> None:
        """There is no other process, so nothing is ever sent."""

    async def sweep(self) -> None:
        """Forget what has expired."""
        now = self._clock()
        for namespace, entries in list(self._lists.items()):
            for peer_id in [one for one, entry in entries.items() if entry.expires_at <= now]:
                await self.unregister(namespace, peer_id)
        for peer_id, boxes in list(self._boxes.items()):
            await self.take(peer_id, [mail for mail, box in boxes.items() if box.expires_at <= now])
