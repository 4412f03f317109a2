"""One WebSocket connection to a hub: frames in and out, answers to who waits, events for one reader."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from pgpeer.errors import HubError, IdentityError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.authentication import require_hub_url
from pgpeer.signaling.circuits import (
    CircuitBytes,
    CircuitCredit,
    CircuitEnded,
    CircuitIncoming,
    CircuitShut,
    ClientCircuits,
)
from pgpeer.signaling.client import (
    CONNECT_FAIL_SECONDS,
    BoxReceived,
    ClientConversation,
    ClientEvent,
    HubClosed,
    HubReady,
    HubSlow,
    PeerOffline,
    PeerOnline,
    SignalAnswered,
)
from pgpeer.signaling.client_events import MailReceived, NamespaceChanged, Reply, RequestAnswered
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import CircuitOpened, ClientMessage, Taken, presentable_label
from pgpeer.signaling.record import RecordGuard, Registration, read_registration
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import (
    CircuitReceived,
    HubEvent,
    HubEvents,
    LetterReceived,
    MembersChanged,
    SignalReceived,
)

CLOSE_SECONDS: Final = 2.0

_LOGGER: Final = logging.getLogger("pgpeer.hub_link")
_LOGGER.addHandler(logging.NullHandler())


class OpenElsewhere(HubError):
    """The circuit can be opened at another process of the hub, at `url`."""

    url: str = ""


class HubConnection:
    """The connection under `pgpeer.transport.hub_link.HubClient`, which says what it can be asked for."""

    def __init__(
        self,
        url: str,
        key: PrivateKey,
        label: str,
        *,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        takes: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        visitor: bool = False,
    ) -> None:
        """Prepare a connection; nothing is opened yet.

        Args:
            url: the hub's ws:// or wss:// URL.
            key: proves the peer id to the hub and opens what is sealed to it.
            label: what the hub tells those who watch this peer; cut to 128 characters.
            limits: sizes and times; only those that concern a client count.
            clock: gives monotonic seconds.
            takes: what the hub may push: `MAILBOX` and `CIRCUITS` of `pgpeer.signaling.messages`. Who opens a
                circuit to a peer that takes none is told so at once.
            tls: how to check the certificate of a wss:// hub; by default against the system's authorities.
            visitor: only open circuits, beside another connection of this peer to the same hub.

        Raises:
            ConfigError: the URL cannot be a hub's.
        """
        self.url = require_hub_url(url)
        self._key = key
        self._label = label
        self._limits = limits or HubLimits()
        self._clock = clock
        self._tls = tls
        self._conversation = ClientConversation(
            key,
            url,
            presentable_label(label),
            self._limits,
            clock(),
            features=tuple(takes),
            visitor=visitor,
        )
        self._events = HubEvents()
        self._ready: asyncio.Future[None] | None = None
        self._signals: dict[int, asyncio.Future[bool]] = {}
        self._replies: dict[int, asyncio.Future[Reply | HubCircuit]] = {}
        self._opening: dict[int, str] = {}
        self._circuits: dict[int, HubCircuit] = {}
        self._guard = RecordGuard()
        self._is_visitor = visitor
        self._written = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed_because: HubError | None = None
        self.hub_id = ""
        self.features: frozenset[str] = frozenset()
        """What the hub offers: `NAMESPACES`, `MAILBOX`, `CIRCUITS`, `TURN`; empty for an older hub."""
        self.refused_signals = 0
        """Signals and letters that did not open with our key, or that nobody read in time."""
        self.refused_records = 0
        """Registrations that the hub gave out although they are forged, expired or outdated."""

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._closed_because is not None

    @property
    def circuits(self) -> ClientCircuits:
        """The state of the circuits, for `HubCircuit`."""
        return self._conversation.circuits

    async def connect(self) -> None:
        """Reach the hub and authenticate, within 10 s each.

        When this is cancelled the connection is closed.

        Raises:
            HubError: the hub cannot be reached or refused.
        """
        secured: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        try:
            socket = await connect(
                self.url,
                compression=None,
                proxy=None,
                max_size=self._limits.frame_bytes,
                open_timeout=CONNECT_FAIL_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=None,
                user_agent_header=None,
                logger=_LOGGER,
                **secured,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            raise self._fail(_unreachable(self.url, error)) from error
        self._conversation.start(self._clock())
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(socket))
        try:
            await self._ready
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection; events end with `HubClosed` (code `local_closed`); twice does nothing."""
        self._fail(
            HubError("The connection to the hub was closed here.", code="local_closed", retryable=False)
        )
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def flush(self) -> None:
        """Send what the conversation has put out; called by circuits."""
        self._written.set()

    async def __aiter__(self) -> AsyncIterator[HubEvent]:
        """Give events until `HubClosed`, which is the last."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, HubClosed):
                return

    async def _ask(self, message: Callable[[int], ClientMessage], circuit_to: str = "") -> Reply | HubCircuit:
        """Send a request and wait for its answer: of one that opens a circuit, the circuit."""
        self._require_open()
        request = self._conversation.ask(message, self._clock())
        reply: asyncio.Future[Reply | HubCircuit] = asyncio.get_running_loop().create_future()
        self._replies[request] = reply
        if circuit_to:
            self._opening[request] = circuit_to
        self._asked()
        try:
            return await reply
        finally:
            self._replies.pop(request, None)
            self._opening.pop(request, None)

    async def _run(self, socket: ClientConnection) -> None:
        """Read and write until the conversation or the connection is over, then leave both closed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(socket))
                await self._read(socket)
                writer.cancel()
        finally:
            self._fail(
                HubError(
                    f"The hub {self.url} has closed the connection"
                    + (f" ({socket.close_reason})." if socket.close_reason else "."),
                    remedy="The worker tries again by itself; check that the hub runs.",
                    phase="signalling",
                )
            )
            await socket.close()

    async def _read(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while (deadline := self._conversation.next_deadline()) is not None:
                try:
                    async with asyncio.timeout(max(0.0, deadline - self._clock())) as self._patience:
                        frame = await socket.recv()
                except TimeoutError:
                    self._take(self._conversation.tick(self._clock()))
                else:
                    self._take(self._conversation.receive(frame, self._clock()))
                self._written.set()
        self._patience = None

    def _asked(self) -> None:
        """A request goes out: its time-outs may come before what the reader waits for."""
        self._written.set()
        deadline = self._conversation.next_deadline()
        if deadline is not None and self._patience is not None and not self._patience.expired():
            now = asyncio.get_running_loop().time()
            self._patience.reschedule(now + max(0.0, deadline - self._clock()))

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._written.wait()
                self._written.clear()
                while (frame := self._conversation.next_frame()) is not None:
                    await socket.send(frame)

    def _take(self, events: list[ClientEvent]) -> None:
        for event in events:
            match event:
                case HubReady(hub_id, features):
                    self.hub_id, self.features = hub_id, frozenset(features)
                    if self._ready is not None and not self._ready.done():
                        self._ready.set_result(None)
                case SignalAnswered(request, delivered, error):
                    _settle(self._signals.pop(request, None), delivered, error)
                case RequestAnswered():
                    self._answer(event)
                case BoxReceived(sender, sid, box):
                    plaintext = self._open(box)
                    if plaintext is not None:
                        self._put(SignalReceived(sender, sid, plaintext))
                case MailReceived(mail, sender, sent_at, box):
                    plaintext = self._open(box)
                    if plaintext is not None:
                        self._put(LetterReceived(mail, sender, sent_at, plaintext))
                    else:  # it would hold up those that come after it
                        self._conversation.say(Taken((mail,)))
                case NamespaceChanged(namespace, joined, left, missed):
                    checked = self._checked(namespace, joined)
                    self._events.put(MembersChanged(namespace, checked, left, missed))
                case HubClosed(error):
                    self._end(event, error)
                case PeerOnline() | PeerOffline() | HubSlow():
                    self._events.put(event)
                case _:
                    self._take_circuit(event)

    def _take_circuit(
        self, event: CircuitIncoming | CircuitBytes | CircuitCredit | CircuitEnded | CircuitShut
    ) -> None:
        if isinstance(event, CircuitIncoming):
            offered = HubCircuit(self, event.circuit, event.peer_id, incoming=True)
            self._circuits[event.circuit] = offered
            if not self._events.put(CircuitReceived(offered)):
                offered.refuse("target_overloaded", "Too many circuits wait to be accepted.")
            return
        circuit = self._circuits.get(event.circuit)
        if circuit is None:
            return
        match event:
            case CircuitBytes(_, data):
                circuit.on_bytes(data)
            case CircuitCredit():
                circuit.on_credit()
            case CircuitEnded():
                circuit.on_ended()
            case CircuitShut(number, error):
                del self._circuits[number]
                circuit.on_shut(error)

    def forget(self, number: int) -> None:
        """Called by a circuit that is over: nothing more comes for it."""
        self._circuits.pop(number, None)

    def _answer(self, event: RequestAnswered) -> None:
        peer_id = self._opening.pop(event.request, "")
        waiting = self._replies.pop(event.request, None)
        if isinstance(event.reply, CircuitOpened):
            number = event.reply.circuit
            if waiting is None or waiting.done():
                self._conversation.circuits.shut(number, "local_closed", "Nobody waits for it any more.")
                return
            circuit = self._circuits[number] = HubCircuit(self, number, peer_id, incoming=False)
            waiting.set_result(circuit)
            return
        error = event.error
        if error is not None and event.elsewhere is not None:
            there = OpenElsewhere(str(error), remedy=error.remedy, code=error.code, phase=error.phase)
            there.url = event.elsewhere
            error = there
        _settle(waiting, event.reply, error)

    def _open(self, box: bytes) -> bytes | None:
        try:
            return self._key.open(box)
        except IdentityError:
            self.refused_signals += 1
            return None

    def _put(self, event: HubEvent) -> None:
        if not self._events.put(event):
            self.refused_signals += 1

    def _checked(self, namespace: str, records: Iterable[bytes]) -> tuple[Registration, ...]:
        """Give the registrations that are their peers' own and not older than what is known."""
        good = []
        for record in records:
            try:
                now = time.time()  # noqa: TID251 - registrations expire by the calendar
                registration = read_registration(record, namespace=namespace, now=now)
                self._guard.admit(registration, record)
            except RemoteProtocolError:
                self.refused_records += 1
            else:
                good.append(registration)
        return tuple(good)

    def _end(self, event: HubClosed, error: HubError) -> None:
        self._closed_because = error
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        self._events.put(event)

    def _fail(self, error: HubError) -> HubError:
        """End the conversation unless it is over; give the error that it ended with."""
        self._take(self._conversation.close(error))
        return self._closed_because or error

    def _require_open(self) -> None:
        if self._closed_because is not None:
            raise self._closed_because


def _settle(waiting: asyncio.Future[Any] | None, result: object, error: HubError | None) -> None:
    if waiting is None or waiting.done():
        return
    if error is None:
        waiting.set_result(result)
    else:
        waiting.set_exception(error)


def _unreachable(url: str, error: Exception) -> HubError:
    remedy = "Check the URL, and that the hub runs and can be reached from here."
    if isinstance(error, TimeoutError):
        return HubError(f"The hub {url} does not answer.", remedy=remedy, code="timeout")
    if isinstance(error, ssl.SSLError):
        remedy = "Check the hub's certificate, and that this machine trusts its authority."
    return HubError(f"The hub {url} cannot be reached: {error}.", remedy=remedy)
