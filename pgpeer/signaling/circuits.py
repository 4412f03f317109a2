"""The client's side of circuits through a hub: credit, numbers and ends. No clocks, sockets or tasks here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from pgpeer.errors import CODES, HubError, LocalProtocolError, RemoteProtocolError
from pgpeer.signaling.messages import Accept, CircuitOffered, Credit, End, Shut
from pgpeer.signaling.wire import circuit_frame, encode

CHUNK_BYTES: Final = 16 * 1024
"""The largest frame sent on a circuit, so that circuits of one connection take turns."""

WINDOW_BYTES: Final = 256 * 1024
"""What may wait here to be read from one circuit."""

OFFERS_LIMIT: Final = 64
"""More circuits that wait to be accepted are refused at once."""


@dataclass(frozen=True, slots=True)
class CircuitIncoming:
    """A peer wants a circuit; who it is is the hub's word until the peers have authenticated each other."""

    circuit: int
    peer_id: str


@dataclass(frozen=True, slots=True)
class CircuitBytes:
    """Bytes came on a circuit; say `consumed` when they have been read, or no more will come."""

    circuit: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CircuitCredit:
    """More can be sent on a circuit now."""

    circuit: int


@dataclass(frozen=True, slots=True)
class CircuitEnded:
    """The other side sends nothing more on a circuit."""

    circuit: int


@dataclass(frozen=True, slots=True)
class CircuitShut:
    """A circuit is over, or an offer was taken back; the last event of the circuit."""

    circuit: int
    error: HubError


CircuitEvent = CircuitIncoming | CircuitBytes | CircuitCredit | CircuitEnded | CircuitShut


@dataclass(slots=True)
class _Circuit:
    offered: bool
    credit: int = 0
    granted: int = 0
    consumed: int = 0
    ended_here: bool = False
    ended_there: bool = False


class ClientCircuits:
    """The circuits of one connection to a hub."""

    def __init__(self, frames: deque[str | bytes]) -> None:
        """Start without circuits; frames to send are appended to `frames`, in the order of each circuit."""
        self._frames = frames
        self._circuits: dict[int, _Circuit] = {}
        self._last = 0

    def begin(self, number: int) -> None:
        """A circuit that we asked for is open."""
        self._circuits[number] = _Circuit(offered=False)
        self._last = max(self._last, number)
        self._grant(number, WINDOW_BYTES)

    def accept(self, number: int) -> None:
        """Take a circuit that was offered; nothing happens when the offer was taken back meanwhile."""
        circuit = self._circuits.get(number)
        if circuit is not None and circuit.offered:
            circuit.offered = False
            self._frames.append(encode(Accept(number)))
            self._grant(number, WINDOW_BYTES)

    def send(self, number: int, data: bytes) -> int:
        """Take as much of `data` as there is credit for, and say how much that is.

        Raises:
            LocalProtocolError: the circuit is not open, or its end was sent.
        """
        circuit = self._open(number)
        if circuit.ended_here:
            raise LocalProtocolError("The end of the circuit was sent already.", phase="transfer")
        taken = min(len(data), circuit.credit)
        for start in range(0, taken, CHUNK_BYTES):
            self._frames.append(circuit_frame(number, data[start : min(start + CHUNK_BYTES, taken)]))
        circuit.credit -= taken
        return taken

    def end(self, number: int) -> None:
        """Send nothing more on a circuit; twice does nothing.

        Raises:
            LocalProtocolError: the circuit is not open.
        """
        circuit = self._open(number)
        if not circuit.ended_here:
            circuit.ended_here = True
            self._frames.append(encode(End(number)))
            self._forget_ended(number, circuit)

    def shut(self, number: int, code: str, detail: str) -> None:
        """End a circuit at once, or refuse an offer; one that is over already is left alone."""
        if self._circuits.pop(number, None) is not None:
            self._frames.append(encode(Shut(number, code, detail)))

    def consumed(self, number: int, size: int) -> None:
        """So many bytes were read: the hub gets the credit back, half a window at a time."""
        circuit = self._circuits.get(number)
        if circuit is None or circuit.ended_there:
            return
        circuit.consumed += size
        if circuit.consumed >= WINDOW_BYTES // 2:
            returned, circuit.consumed = circuit.consumed, 0
            self._grant(number, returned)

    def take(self, message: CircuitOffered | Credit | End | Shut) -> list[CircuitEvent]:
        """Take what the hub says about a circuit.

        Raises:
            RemoteProtocolError: the hub names a circuit that never was, or one in the wrong state.
        """
        if isinstance(message, CircuitOffered):
            return self._offered(message)
        circuit = self._find(message.circuit)
        if circuit is None:
            return []
        match message:
            case Shut(number, code, detail):
                del self._circuits[number]
                return [CircuitShut(number, shut_error(code, detail))]
            case Credit(number, size):
                if circuit.offered:
                    raise _broken("gave credit for a circuit that is not open")
                circuit.credit += size
                return [CircuitCredit(number)]
            case End(number):
                if circuit.offered or circuit.ended_there:
                    raise _broken("ended a circuit that is not open")
                circuit.ended_there = True
                self._forget_ended(number, circuit)
                return [CircuitEnded(number)]

    def receive(self, number: int, data: bytes) -> list[CircuitEvent]:
        """Take bytes of a circuit.

        Raises:
            RemoteProtocolError: the hub sent them without credit, or on a circuit that never was.
        """
        circuit = self._find(number)
        if circuit is None:
            return []
        if circuit.ended_there or len(data) > circuit.granted:
            raise _broken("sent bytes on a circuit without credit")
        circuit.granted -= len(data)
        return [CircuitBytes(number, data)]

    def close(self, error: HubError) -> list[CircuitEvent]:
        """The connection to the hub is over, and with it every circuit."""
        over = [CircuitShut(number, error) for number in self._circuits]
        self._circuits.clear()
        return [*over]

    def _offered(self, message: CircuitOffered) -> list[CircuitEvent]:
        if message.circuit <= self._last:
            raise _broken("offered a circuit twice")
        self._last = message.circuit
        self._circuits[message.circuit] = _Circuit(offered=True)
        if sum(circuit.offered for circuit in self._circuits.values()) > OFFERS_LIMIT:
            self.shut(message.circuit, "target_overloaded", "Too many circuits wait to be accepted.")
            return []
        return [CircuitIncoming(message.circuit, message.sender)]

    def _grant(self, number: int, size: int) -> None:
        self._circuits[number].granted += size
        self._frames.append(encode(Credit(number, size)))

    def _forget_ended(self, number: int, circuit: _Circuit) -> None:
        if circuit.ended_here and circuit.ended_there:
            del self._circuits[number]

    def _open(self, number: int) -> _Circuit:
        circuit = self._circuits.get(number)
        if circuit is None or circuit.offered:
            raise LocalProtocolError("The circuit is not open.", phase="transfer")
        return circuit

    def _find(self, number: int) -> _Circuit | None:
        """Give the circuit, None when it is over."""
        if not 0 < number <= self._last:
            raise _broken("named a circuit that never was")
        return self._circuits.get(number)


def shut_error(code: str, detail: str) -> HubError:
    """Make the error with which a circuit ended."""
    return HubError(
        f"The circuit was closed: {detail or code}",
        code=code if code in CODES else "remote_closed",
        phase="transfer",
        retryable=code not in {"refused_policy", "refused_blocked", "local_closed"},
    )


def _broken(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"The hub {reason}.", code="bad_message", phase="signalling")
