"""A whole simulation: builds what a seed decides, lets things go wrong, and demands that all ends well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import limits
from pgpeer.protocol.session import Session

from .exchange import Exchange
from .link import Link
from .peer import Peer
from .scenario import Fault, Scenario, Write, scenario_of
from .tally import Tally
from .timeline import Timeline
from .violation import Violation, require

PATIENCE_SECONDS = 150.0
"""After the last fault: time to notice a dead link, to wait out the longest delay, and to connect anew."""

MakeSession = Callable[..., Session]


@dataclass(frozen=True)
class Outcome:
    """How a simulation went.

    Attributes:
        trace: hash of everything that happened.
        seconds: virtual seconds until all was delivered.
    """

    trace: str
    seconds: float
    tally: Tally


@cache
def _key(number: int) -> PrivateKey:
    return PrivateKey.from_seed(number.to_bytes(32, "big"))


class World:
    """All peers, all links and the one clock."""

    def __init__(self, scenario: Scenario, make_session: MakeSession = Session) -> None:
        self.scenario = scenario
        self.make_session = make_session
        self.timeline = Timeline()
        self.tally = Tally()
        self.random = Random(f"world {scenario.seed}")
        self.written: list[bytes] = []
        self.attempts = 0
        self._links: list[Link] = []
        self._apart: list[frozenset[int]] = []
        self._quiet: set[Exchange] = set()
        neighbours: list[list[int]] = [[] for _ in range(scenario.peers)]
        for one, other in scenario.edges:
            neighbours[one].append(other)
            neighbours[other].append(one)
        self.peers = [Peer(self, n, _key(n), neighbours[n]) for n in range(scenario.peers)]

    # What peers ask for.

    def can_reach(self, one: int, other: int) -> bool:
        apart = any((one in group) is not (other in group) for group in self._apart)
        return not apart and self.peers[one].is_up and self.peers[other].is_up

    def make_link(self) -> Link:
        latency = self.random.uniform(*self.scenario.latency)
        link = Link(self.timeline, self.random, latency, self.random.uniform(*self.scenario.bytes_per_second))
        self._links.append(link)
        return link

    def check_end(self, exchange: Exchange) -> None:
        """What came out of a session is what was put in at the other end, from the beginning, in order."""
        opposite = exchange.link.ends[1 - exchange.end]
        assert isinstance(opposite, Exchange), "both ends are attached"
        for sent, arrived in (
            (opposite.feed.sent, exchange.intake.arrived),
            (exchange.feed.sent, opposite.intake.arrived),
        ):
            require(arrived == sent[: len(arrived)], "order", "something arrived otherwise than it was sent")

    # Running.

    def run(self) -> Outcome:
        scenario, timeline = self.scenario, self.timeline
        with scenario.sizes.in_force():
            for peer in self.peers:
                timeline.at(self.random.uniform(0.0, 1.0), peer.start)
            for write in scenario.writes:
                timeline.at(write.when, self._writer(write))
            for fault in scenario.faults:
                timeline.at(fault.when, self._breaker(fault))
            timeline.run(scenario.faults_end, lambda: False)
            self._heal()
            slowest = scenario.bytes_per_second[0]
            patience = PATIENCE_SECONDS + 4 * scenario.peers**0.5 * scenario.bytes_written / slowest
            if not timeline.run(timeline.now + patience, self._is_delivered):
                raise Violation("progress", self._missing())
            seconds = timeline.now
            if not timeline.run(timeline.now + patience, self._is_quiet):
                raise Violation("progress", "links are missing or something still waits")
            self._check_everything()
        self.tally.commits = len(self.written)
        timeline.note("over", self.tally)
        return Outcome(timeline.trace, seconds, self.tally)

    def _writer(self, write: Write) -> Callable[[], None]:
        return lambda: self.peers[write.peer].write(write)

    def _breaker(self, fault: Fault) -> Callable[[], None]:
        actions: dict[str, Callable[[float], None]] = {
            "cut": self._cut,
            "stall": self._stall,
            "crash": self._crash,
            "partition": self._partition,
            "slow_disk": self._slow_disk,
        }
        return lambda: actions[fault.kind](fault.seconds)

    def _alive(self) -> list[Link]:
        self._links = [link for link in self._links if not link.is_over]
        return [link for link in self._links if not link.is_cut]

    def _cut(self, seconds: float) -> None:
        links = self._alive()
        if links:
            notices = [
                self.random.uniform(0.0, seconds) if self.random.random() < 0.6 else None for _ in "01"
            ]
            self.random.choice(links).cut((notices[0], notices[1]))

    def _stall(self, seconds: float) -> None:
        links = self._alive()
        if links:
            self.random.choice(links).stall(seconds)

    def _crash(self, seconds: float) -> None:
        peer = self.random.choice(self.peers)
        if peer.is_up:
            self.timeline.note(peer.number, "crashes")
            self.tally.crashes += 1
            peer.crash()
            self.timeline.after(seconds, lambda: None if peer.is_up else peer.start())

    def _partition(self, seconds: float) -> None:
        group = frozenset(n for n in range(len(self.peers)) if self.random.random() < 0.5)
        self._apart.append(group)
        for link in self._alive():
            one, other = link.ends
            assert isinstance(one, Exchange), "both ends are attached"
            assert isinstance(other, Exchange), "both ends are attached"
            if (one.peer.number in group) is not (other.peer.number in group):
                link.cut((None, None))
        self.timeline.after(seconds, lambda: self._apart.remove(group) if group in self._apart else None)

    def _slow_disk(self, seconds: float) -> None:
        self.random.choice(self.peers).disk.slow_until = self.timeline.now + seconds

    def _heal(self) -> None:
        self._apart.clear()
        for link in self._alive():
            link.heal()
        for peer in self.peers:
            peer.disk.slow_until = 0.0
            if not peer.is_up:
                peer.start()

    # The end.

    def _is_delivered(self) -> bool:
        wanted = len(self.written)
        return all(len(peer.store.merged) == wanted and peer.disk.under_way == 0 for peer in self.peers)

    def _missing(self) -> str:
        wanted = len(self.written)
        behind = {
            peer.number: len(peer.store.merged) for peer in self.peers if len(peer.store.merged) < wanted
        }
        return f"{wanted} commits were written, of which some peers have only {behind}"

    def _is_quiet(self) -> bool:
        """Whether all neighbours are linked, once, and each link was seen with nothing on its way."""
        for peer in self.peers:
            if len(peer.exchanges) < len(peer.contacts) or len(peer.links) > len(peer.contacts):
                return False
            for exchange in peer.exchanges.values():
                if exchange not in self._quiet and not self._settle(exchange):
                    return False
        return all(peer.disk.under_way == 0 for peer in self.peers)

    def _settle(self, exchange: Exchange) -> bool:
        """Check a link at a moment when nothing is on its way; False when this is no such moment."""
        opposite = exchange.other.exchanges.get(exchange.peer.number)
        is_same = exchange.link.ends[1 - exchange.end] is opposite
        if opposite is None or not is_same or exchange.link.is_cut or not exchange.link.is_empty:
            return False
        if not (exchange.intake.is_idle and opposite.intake.is_idle and exchange.feed.has_begun):
            return False
        self.check_end(exchange)
        arrived, sent = exchange.intake.arrived, opposite.feed.sent
        require(len(arrived) == len(sent), "order", "something never arrived")
        back = opposite.session._credit._collected
        lost = limits.CREDIT_WINDOW_BYTES - exchange.session.send_credit - back
        require(lost == 0, "credit", f"{lost} bytes were lost")
        self._quiet.add(exchange)
        return True

    def _check_everything(self) -> None:
        for peer in self.peers:
            require(
                set(peer.store.merged) == set(self.written), "delivered", f"{peer.number} lacks something"
            )
            require(peer.store.incomplete() == {}, "delivered", f"{peer.number} has parts of commits")
        most = len(self.scenario.edges) * 2 * (10 + self.timeline.now)
        require(self.attempts <= most, "bounded", f"{self.attempts} attempts to connect")


def simulate(seed: int, make_session: MakeSession = Session) -> Outcome:
    """Run one seed.

    Raises:
        Violation: a promise was broken; its note has the last things that happened.
    """
    world = World(scenario_of(seed), make_session)
    try:
        return world.run()
    except Violation as violation:
        violation.add_note(
            f"seed {seed}, the last things that happened:\n" + "\n".join(world.timeline.recent)
        )
        raise
