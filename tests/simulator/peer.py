"""One peer: what it has durably, the links it has now, and when it tries to make another one."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from pgpeer.commit.cid import digest_of_bytes
from pgpeer.commit.clock import next_hlc
from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.signature import sign_commit
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events
from pgpeer.protocol.turns import Turns
from pgpeer.signaling.backoff import next_delay

from .disk import Disk
from .exchange import Exchange
from .feed import BUNDLE
from .scenario import Write
from .store import Store, Stored
from .timeline import Alarm

if TYPE_CHECKING:
    from .world import World

GRACE_SECONDS = 1.5
FRESH_SECONDS = 5.0
STEADY_SECONDS = 10.0
FAIL_SECONDS = 3.0


@dataclass
class Contact:
    """What is known about reaching one neighbour."""

    failures: int = 0
    timer: Alarm | None = None
    attempt: Alarm | Exchange | None = None


class Peer:
    """A database with its worker."""

    def __init__(self, world: World, number: int, key: PrivateKey, neighbours: list[int]) -> None:
        self.world = world
        self.number = number
        self.key = key
        self.random = Random(f"peer {number} of {world.scenario.seed}")
        self.store = Store()
        self.disk = Disk(world.timeline, self.random, world.scenario.disk_seconds)
        self.is_up = False
        self.turns = Turns()
        self.contacts = {other: Contact() for other in neighbours}
        self.exchanges: dict[int, Exchange] = {}
        self.links: set[Exchange] = set()
        self._previous: bytes | None = None

    # Life.

    def start(self) -> None:
        self.is_up = True
        self.turns = Turns()
        for other in self.contacts:
            self.consider(other)

    def crash(self) -> None:
        """Forget everything that is not durable."""
        self.is_up = False
        self.disk.crash()
        for contact in self.contacts.values():
            for alarm in (contact.timer, contact.attempt):
                if isinstance(alarm, Alarm):
                    alarm.cancel()
        self.contacts = {other: Contact() for other in self.contacts}
        for exchange in sorted(self.links, key=lambda one: (one.began, one.other.number)):
            exchange.crash()
            notices: list[float | None] = [None, None]
            if self.random.random() < 0.5:
                notices[1 - exchange.end] = self.random.uniform(0.0, 0.5)
            exchange.link.cut((notices[0], notices[1]))
        self.links.clear()
        self.exchanges.clear()

    # Writing.

    def write(self, write: Write) -> None:
        """Commit something, if the peer is up; it becomes durable later."""
        if not self.is_up:
            return
        sections = [_content(self.random, size, write.is_random) for size in write.section_sizes]
        self.disk.transact(lambda: self._commit(sections), self.settled)

    def _commit(self, sections: list[bytes]) -> None:
        store, timeline = self.store, self.world.timeline
        now_ms = 1_700_000_000_000 + self.world.scenario.skews[self.number] + int(timeline.now * 1000)
        own = [entry for entry in store.merged_vector() if entry.author == self.key.public_key]
        header = Header(
            bundle_id=BUNDLE,
            author=self.key.public_key,
            epoch=1,
            seq=own[0].seq + 1 if own else 1,
            previous=own[0].head if own else None,
            parents=tuple(sorted(store.heads)),
            hlc=next_hlc(store.hlc, now_ms),
            schema=bytes(32),
            message=None,
            sections=tuple(
                SectionHeader(BUNDLE, "UPDATE", (), data.count(b"\n"), len(data), digest_of_bytes(data))
                for data in sections
            ),
        )
        encoded = header.encode()
        digest = digest_of_bytes(encoded)
        timeline.note(self.number, "commits", digest.hex())
        store.add(Stored(digest, header, encoded, sign_commit(self.key, digest), list(sections)))
        store.merge_ready()
        self.world.written.append(digest)

    def settled(self) -> None:
        """Something was merged here, durably."""
        for exchange in list(self.exchanges.values()):
            exchange.look_again()

    # Links.

    def consider(self, other: int) -> None:
        """Plan an attempt when a link is wanted and there is none."""
        contact = self.contacts[other]
        if not self.is_up or other in self.exchanges or contact.timer or contact.attempt:
            return
        delay = self.random.uniform(0.0, 0.05)
        if contact.failures:
            delay = next_delay(contact.failures - 1, self.random.random())
        if self.number > other:
            delay += GRACE_SECONDS
        contact.timer = self.world.timeline.after(delay, lambda: self._offer(other))

    def _offer(self, other: int) -> None:
        contact = self.contacts[other]
        contact.timer = None
        if other in self.exchanges or contact.attempt:
            return
        self.world.attempts += 1
        if self.world.can_reach(self.number, other):
            seconds = self.random.uniform(0.01, 0.5)
            contact.attempt = self.world.timeline.after(seconds, lambda: self._connect(other))
        else:
            contact.attempt = self.world.timeline.after(FAIL_SECONDS, lambda: self._failed(other))

    def _failed(self, other: int) -> None:
        contact = self.contacts[other]
        contact.attempt = None
        contact.failures += 1
        self.consider(other)

    def _connect(self, other: int) -> None:
        there = self.world.peers[other]
        opposite = there.contacts[self.number]
        crossed = opposite.attempt is not None and there.number < self.number
        if crossed or not self.world.can_reach(self.number, other):
            self._failed(other)
            return
        if isinstance(opposite.attempt, Alarm):
            opposite.attempt.cancel()
            opposite.attempt = None
        link = self.world.make_link()
        here = Exchange(self, there, link, 0, "offerer")
        answer = Exchange(there, self, link, 1, "answerer")
        self.contacts[other].attempt = here
        if opposite.attempt is None:
            opposite.attempt = answer
        self.links.add(here)
        there.links.add(answer)
        here.start()
        answer.start()

    def admit(self, exchange: Exchange) -> None:
        """Take an authenticated exchange among the links; of two the newer stays, if they did not cross."""
        other = exchange.other.number
        self._attempt_ended(exchange)
        present = self.exchanges.get(other)
        prefers_outgoing = self.number < other
        if (
            present is not None
            and exchange.began - present.began < FRESH_SECONDS
            and present.is_outgoing is prefers_outgoing is not exchange.is_outgoing
        ):
            exchange.close("Another link was made at the same time.")
            return
        self.exchanges[other] = exchange
        if present is not None:
            self.world.tally.replaced += 1
            present.close("A newer link takes its place.")

    def ended(self, exchange: Exchange, closed: events.SessionClosed) -> None:
        """A session is over."""
        other = exchange.other.number
        contact = self.contacts[other]
        self.links.discard(exchange)
        self.world.check_end(exchange)
        was_attempt = self._attempt_ended(exchange)
        if self.exchanges.get(other) is exchange:
            del self.exchanges[other]
            if self.world.timeline.now - exchange.began > STEADY_SECONDS:
                contact.failures = 0
            elif closed.code != "remote_closed":
                contact.failures += 1
        elif was_attempt:
            contact.failures += 1
        self.consider(other)

    def _attempt_ended(self, exchange: Exchange) -> bool:
        contact = self.contacts[exchange.other.number]
        if contact.attempt is exchange:
            contact.attempt = None
            return True
        return False


def _content(random: Random, size: int, is_random: bool) -> bytes:
    if is_random:
        return random.randbytes((size + 1) // 2).hex().encode()[:size]
    return (b"%d\tAmsterdam\n" % random.randrange(10) * (size // 12 + 1))[:size]
