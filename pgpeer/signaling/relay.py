"""The hub's circuits: bytes from peer to peer, with credit on every leg, quotas, and turns for everybody.

A circuit has two legs. On each the receiver grants credit: the hub to the sending peer, the receiving peer to
the hub. So a slow reader holds up its own circuit only, and what waits here is bounded by the window. Bytes
that came in get an allowance, dealt out in turns of 16 KiB from the quotas, before they go out. No clocks or
sockets here: the server calls in with the time, and asks for frames when a connection can take one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from pgpeer.errors import CODES, HubError, RemoteProtocolError
from pgpeer.signaling.limits import Buckets, HubLimits, TokenBucket
from pgpeer.signaling.messages import CircuitOffered, CircuitOpened, Credit, End, HubMessage, Refusal, Shut
from pgpeer.signaling.wire import circuit_frame

QUANTUM_BYTES: Final = 16 * 1024
"""What a circuit gets in one turn, and the largest frame that the hub makes."""

STRAY_BYTES_PER_SECOND: Final = 1024.0 * 1024
"""Bytes for circuits that are just over may still come in; more of them end the connection."""


class Party(Protocol):
    """A connection that circuits begin and end at."""

    peer_id: str

    def push(self, message: HubMessage) -> None:
        """Queue a message for the client."""


@dataclass(slots=True, eq=False)
class _Direction:
    """One way through a circuit."""

    number: int
    source: Party
    target: Party
    granted: int = 0
    passed_on: int = 0
    credit: int = 0
    allowance: int = 0
    waiting: bytearray = field(default_factory=bytearray)
    moved_at: float = 0.0
    claims: bool = False
    queued: bool = False
    ending: bool = False
    ended: bool = False


@dataclass(slots=True, eq=False)
class _Circuit:
    number: int
    request: int
    opener: Party
    target: Party
    offered_at: float
    accepted: bool = False
    directions: dict[Party, _Direction] = field(default_factory=dict)

    def other(self, party: Party) -> Party:
        return self.target if party is self.opener else self.opener


class Relay:
    """All circuits of one hub process."""

    def __init__(self, limits: HubLimits, now: float) -> None:
        self._limits = limits
        self._circuits: dict[int, _Circuit] = {}
        self._of: dict[Party, set[int]] = {}
        self._ready: dict[Party, deque[_Direction]] = {}
        self._claims: deque[_Direction] = deque()
        self._ungranted: dict[_Direction, None] = {}
        self._pairs = Buckets(limits.pair_bytes_per_second, limits.pair_burst_bytes)
        self._peers = Buckets(limits.peer_bytes_per_second, limits.peer_burst_bytes)
        self._strays = Buckets(STRAY_BYTES_PER_SECOND, limits.circuit_window_bytes * limits.circuits_per_peer)
        self._total = TokenBucket(limits.relay_bytes_per_second, limits.relay_burst_bytes, now)
        self._touched: set[Party] = set()
        self._last = 0
        self.waiting_bytes = 0
        self.relayed_bytes = 0
        self.opened_count = 0

    @property
    def count(self) -> int:
        """How many circuits are open or offered."""
        return len(self._circuits)

    @property
    def has_claims(self) -> bool:
        """Whether bytes wait for an allowance: call `deal` again soon."""
        return bool(self._claims)

    def take_touched(self) -> set[Party]:
        """Give the parties that may have something to send since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def open(self, opener: Party, request: int, target: Party, now: float) -> None:
        """Offer a circuit to its target; the opener hears when it is accepted or refused.

        Raises:
            HubError: a quota is reached, or the target is the opener.
        """
        if target.peer_id == opener.peer_id:
            raise _refused("A circuit needs two peers.", "refused_policy", retryable=False)
        if len(self._circuits) >= self._limits.circuits_total:
            raise _refused("The hub carries as many circuits as it can.", "quota")
        if len(self._of.get(opener, ())) >= self._limits.circuits_per_peer:
            raise _refused("This peer has as many circuits as it may have.", "quota")
        if len(self._of.get(target, ())) >= self._limits.circuits_per_peer:
            raise _refused("That peer has as many circuits as it may have.", "target_overloaded")
        self._last += 1
        circuit = _Circuit(self._last, request, opener, target, now)
        self._circuits[circuit.number] = circuit
        for party in (opener, target):
            self._of.setdefault(party, set()).add(circuit.number)
        self._push(target, CircuitOffered(circuit.number, opener.peer_id))

    def accept(self, party: Party, number: int, now: float) -> None:
        """The target takes the circuit: both sides may send a window.

        Raises:
            RemoteProtocolError: it was not offered to this party, or is accepted already.
        """
        circuit = self._find(party, number)
        if circuit is None:
            return
        if circuit.accepted or party is not circuit.target:
            raise _broken("a circuit was accepted that was not offered")
        circuit.accepted = True
        self.opened_count += 1
        self._push(circuit.opener, CircuitOpened(circuit.request, number))
        for source in (circuit.opener, circuit.target):
            way = _Direction(number, source, circuit.other(source), moved_at=now)
            circuit.directions[source] = way
            way.granted = self._limits.circuit_window_bytes
            self._push(source, Credit(number, way.granted))

    def data(self, party: Party, number: int, payload: bytes, now: float) -> None:
        """Take bytes from one side of a circuit.

        Raises:
            RemoteProtocolError: they were sent without credit, after the end, or on no circuit of this party.
        """
        circuit = self._find(party, number)
        if circuit is None:
            if not self._strays.of(party, now).take(now, len(payload) + QUANTUM_BYTES):
                raise _broken("bytes keep coming for circuits that are over", "rate_limited")
            return
        way = circuit.directions.get(party)
        if way is None or way.ending or len(payload) > way.granted:
            raise _broken("bytes were sent on a circuit without credit")
        if self.waiting_bytes + len(payload) > 2 * self._limits.relay_buffer_bytes:
            self._drop(circuit, (circuit.opener, circuit.target), "quota", "The hub's relay is full.")
            return
        if not way.waiting:
            way.moved_at = now
        way.granted -= len(payload)
        way.waiting += payload
        self.waiting_bytes += len(payload)
        self._claim(way)

    def credit(self, party: Party, number: int, size: int) -> None:
        """One side of a circuit takes so many bytes more.

        Raises:
            RemoteProtocolError: that side has no open circuit of this number.
        """
        circuit = self._find(party, number)
        if circuit is None:
            return
        way = circuit.directions.get(circuit.other(party))
        if way is None:
            raise _broken("credit was given for a circuit that is not open")
        way.credit = min(way.credit + size, 2**40)
        self._touched.add(party)

    def end(self, party: Party, number: int) -> None:
        """One side of a circuit sends nothing more; what waits is still delivered.

        Raises:
            RemoteProtocolError: that side has ended before, or has no open circuit of this number.
        """
        circuit = self._find(party, number)
        if circuit is None:
            return
        way = circuit.directions.get(party)
        if way is None or way.ending:
            raise _broken("a circuit was ended that is not open")
        way.ending = True
        self._finish(way)

    def shut(self, party: Party, number: int, code: str, detail: str) -> None:
        """One side of a circuit ends it at once, or refuses an offer."""
        circuit = self._find(party, number)
        if circuit is not None:
            known = code if code in CODES else "remote_closed"
            self._drop(circuit, (circuit.other(party),), known, detail)

    def leave(self, party: Party) -> None:
        """A connection is over: its circuits are shut for the other sides."""
        for number in list(self._of.get(party, ())):
            circuit = self._circuits[number]
            self._drop(circuit, (circuit.other(party),), "peer_offline", "The peer has left the hub.")
        self._of.pop(party, None)
        self._ready.pop(party, None)
        self._touched.discard(party)

    def deal(self, now: float) -> None:
        """Give allowances out of the quotas, in turns; call it after `data`, and again while `has_claims`."""
        skipped = 0
        while self._claims and skipped < len(self._claims):
            if not self._total.has(now, QUANTUM_BYTES):
                return
            way = self._claims.popleft()
            size = min(QUANTUM_BYTES, len(way.waiting) - way.allowance)
            if size <= 0:
                way.claims = False
                continue
            pair = self._pairs.of(frozenset((way.source.peer_id, way.target.peer_id)), now)
            peer = self._peers.of(way.source.peer_id, now)
            if not (pair.has(now, size) and peer.has(now, size)):
                skipped += 1
                self._claims.append(way)
                continue
            skipped = 0
            for bucket in (pair, peer, self._total):
                bucket.take(now, size)
            way.allowance += size
            self._claims.append(way)
            self._queue(way)

    def next_frame(self, party: Party, now: float) -> bytes | None:
        """Take the next binary frame for a connection, None when there is none now."""
        queue = self._ready.get(party)
        for _ in range(len(queue or ())):
            assert queue is not None
            way = queue.popleft()
            size = min(QUANTUM_BYTES, way.allowance, way.credit, len(way.waiting))
            if way.allowance > size:
                queue.append(way)
            else:
                way.queued = False
            if size > 0:
                return self._send(way, size, now)
        return None

    def tick(self, now: float) -> None:
        """Shut circuits that nobody accepts or that stand still, give credit that had to wait."""
        for circuit in list(self._circuits.values()):
            if not circuit.accepted:
                if now >= circuit.offered_at + self._limits.circuit_accept_seconds:
                    self._drop(
                        circuit,
                        (circuit.opener, circuit.target),
                        "timeout",
                        "The peer did not accept in time.",
                    )
                continue
            for way in circuit.directions.values():
                if way.waiting and now >= way.moved_at + self._limits.circuit_stall_seconds:
                    self._drop(
                        circuit,
                        (circuit.opener, circuit.target),
                        "target_overloaded",
                        "The reader of the circuit takes nothing.",
                    )
                    break
        for way in list(self._ungranted):
            self._grant(way)

    def _send(self, way: _Direction, size: int, now: float) -> bytes:
        payload = bytes(way.waiting[:size])
        del way.waiting[:size]
        way.allowance -= size
        way.credit -= size
        way.moved_at = now
        way.passed_on += size
        self.waiting_bytes -= size
        self.relayed_bytes += size
        self._grant(way)
        self._finish(way)
        return circuit_frame(way.number, payload)

    def _grant(self, way: _Direction) -> None:
        """Give the sender back what was passed on, half a window at a time, while there is room."""
        self._ungranted.pop(way, None)
        if way.ending or way.passed_on < self._limits.circuit_window_bytes // 2:
            return
        if self.waiting_bytes > self._limits.relay_buffer_bytes:
            self._ungranted[way] = None
            return
        way.granted += way.passed_on
        self._push(way.source, Credit(way.number, way.passed_on))
        way.passed_on = 0

    def _finish(self, way: _Direction) -> None:
        """Pass an end on when nothing waits before it; forget the circuit after both ends."""
        if not way.ending or way.ended or way.waiting:
            return
        way.ended = True
        self._push(way.target, End(way.number))
        circuit = self._circuits[way.number]
        if all(one.ended for one in circuit.directions.values()):
            self._forget(circuit)

    def _drop(self, circuit: _Circuit, told: Iterable[Party], code: str, detail: str) -> None:
        """End a circuit at once and tell these parties why."""
        self._forget(circuit)
        for party in told:
            if party is circuit.opener and not circuit.accepted:
                self._push(party, Refusal(code, detail or "The peer refused.", "", True, circuit.request))
            else:
                self._push(party, Shut(circuit.number, code, detail))

    def _forget(self, circuit: _Circuit) -> None:
        del self._circuits[circuit.number]
        for party in (circuit.opener, circuit.target):
            numbers = self._of.get(party)
            if numbers is not None:
                numbers.discard(circuit.number)
                if not numbers:
                    del self._of[party]
        for way in circuit.directions.values():
            self.waiting_bytes -= len(way.waiting)
            way.waiting.clear()
            way.allowance = 0
            self._ungranted.pop(way, None)

    def _find(self, party: Party, number: int) -> _Circuit | None:
        """Give a circuit of this party; None when it is over."""
        if not 0 < number <= self._last:
            raise _broken("a circuit was named that never was")
        return self._circuits[number] if number in self._of.get(party, ()) else None

    def _claim(self, way: _Direction) -> None:
        if not way.claims:
            way.claims = True
            self._claims.append(way)

    def _queue(self, way: _Direction) -> None:
        self._touched.add(way.target)
        if not way.queued:
            way.queued = True
            self._ready.setdefault(way.target, deque()).append(way)

    def _push(self, party: Party, message: HubMessage) -> None:
        party.push(message)
        self._touched.add(party)


def _refused(sentence: str, code: str, *, retryable: bool = True) -> HubError:
    return HubError(
        sentence,
        remedy="Close some circuits or try again later." if retryable else "",
        code=code,
        phase="signalling",
        retryable=retryable,
    )


def _broken(reason: str, code: str = "bad_message") -> RemoteProtocolError:
    return RemoteProtocolError(f"The conversation is over: {reason}.", code=code, phase="signalling")
