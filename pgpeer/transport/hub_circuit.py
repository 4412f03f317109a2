"""A circuit: bytes to and from one peer through a hub, for when no direct path is there yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from pgpeer.errors import HubError, LinkClosed
from pgpeer.signaling.circuits import ClientCircuits
from pgpeer.transport.verdicts import as_hubs_word


class Carrier(Protocol):
    """The connection that carries a circuit."""

    @property
    def circuits(self) -> ClientCircuits:
        """The state of all its circuits."""

    def flush(self) -> None:
        """Send what the circuits have put out."""

    def forget(self, number: int) -> None:
        """A circuit is over: nothing more comes for it."""


class HubCircuit:
    """A reliable, ordered stream of bytes between two peers, in both directions at once.

    The hub forwards it and could read or change every byte: put TLS 1.3 with pinned certificates inside, and
    let the peers authenticate each other there; `peer_id` is only the hub's word. Pieces do not arrive as
    they were sent: the hub joins and splits them. One task may send and another receive at the same time, but
    each of them only one at a time.

    Back-pressure: `send` waits while the other side does not read; at most 256 KiB wait in each of the four
    places on the way (here, in the hub, there, and in this circuit's inbox).

    Attributes:
        peer_id: who is at the other end, by the word of the hub.
        incoming: whether the peer opened it.
        bytes_sent: bytes taken by `send` so far.
        bytes_received: bytes given by `receive` so far.
    """

    def __init__(self, carrier: Carrier, number: int, peer_id: str, *, incoming: bool) -> None:
        """Made by `HubClient` only."""
        self._carrier = carrier
        self._number = number
        self._arrived: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended_there = False
        self._ended_here = False
        self._accepted = not incoming
        self._error: HubError | None = None
        self.peer_id = peer_id
        self.incoming = incoming
        self.bytes_sent = 0
        self.bytes_received = 0

    @property
    def closed(self) -> bool:
        """Whether the circuit was closed or shut: nothing more can be sent."""
        return self._error is not None

    def accept(self) -> None:
        """Take an incoming circuit; the peer waits 10 s for this. Twice, or too late, does nothing."""
        if not self._accepted and self._error is None:
            self._accepted = True
            self._carrier.circuits.accept(self._number)
            self._carrier.flush()

    def refuse(self, code: str = "refused_policy", detail: str = "The peer takes no circuit now.") -> None:
        """Refuse an incoming circuit, or end any circuit at once, for this reason (a member of `CODES`)."""
        if self._error is None:
            self._carrier.circuits.shut(self._number, code, detail)
            self._carrier.flush()
            self.on_shut(
                HubError(
                    "The circuit was closed here.", code="local_closed", phase="transfer", retryable=False
                )
            )

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when all were handed to the connection.

        A cancelled `send` has sent a beginning of the data of unknown length: close the circuit then.

        Raises:
            LinkClosed: the circuit is over (code `peer_offline`, `remote_closed`, `quota`, `timeout`, ...),
                or its end was sent.
        """
        while data:
            self._require_sendable()
            taken = self._carrier.circuits.send(self._number, data)
            if taken:
                self.bytes_sent += taken
                data = data[taken:]
                self._carrier.flush()
            else:
                self._room.clear()
                await self._room.wait()
        self._require_sendable()

    async def receive(self) -> bytes:
        """Give the next bytes, at least one, waiting for them; empty when the other side has ended.

        Cancellation loses nothing.

        Raises:
            LinkClosed: the circuit is over, and what had arrived before was given.
        """
        while not self._arrived:
            if self._ended_there:
                return b""
            if self._error is not None:
                raise _closed(self._error)
            self._changed.clear()
            await self._changed.wait()
        data = self._arrived.popleft()
        self.bytes_received += len(data)
        self._carrier.circuits.consumed(self._number, len(data))
        self._carrier.flush()
        return data

    def end(self) -> None:
        """Send nothing more; the other side reads what was sent, then the end. Twice does nothing."""
        if not self._ended_here and self._error is None:
            self._ended_here = True
            self._carrier.circuits.end(self._number)
            self._carrier.flush()
            self._forget_ended()

    def close(self) -> None:
        """End the circuit at once, in both directions; what is under way is lost. Twice does nothing."""
        if not (self._ended_here and self._ended_there):
            self.refuse("remote_closed", "The peer has closed the circuit.")

    def on_bytes(self, data: bytes) -> None:
        """Called by the connection: bytes came."""
        self._arrived.append(data)
        self._changed.set()

    def on_credit(self) -> None:
        """Called by the connection: more can be sent."""
        self._room.set()

    def on_ended(self) -> None:
        """Called by the connection: the other side has ended."""
        self._ended_there = True
        self._changed.set()
        self._forget_ended()

    def on_shut(self, error: HubError) -> None:
        """Called by the connection: the circuit is over."""
        if self._error is None:
            self._error = error
        self._room.set()
        self._changed.set()

    def _forget_ended(self) -> None:
        if self._ended_here and self._ended_there:
            self._carrier.forget(self._number)

    def _require_sendable(self) -> None:
        if self._error is not None:
            raise _closed(self._error)
        if self._ended_here:
            raise LinkClosed("The end of the circuit was sent already.", code="local_closed")
        if not self._accepted:
            raise LinkClosed("The circuit was not accepted yet.", code="local_closed")


def _closed(error: HubError) -> LinkClosed:
    said = as_hubs_word(error)  # the peer speaks inside the encryption only
    return LinkClosed(str(said), code=said.code, remedy=said.remedy, retryable=said.retryable)
