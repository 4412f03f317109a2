"""The worker's connection to one hub."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from pgpeer.errors import HubError, IdentityError
from pgpeer.identity.key import PrivateKey, seal_to
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.signaling.authentication import require_hub_url
from pgpeer.signaling.client import (
    CONNECT_FAIL_SECONDS,
    BoxReceived,
    ClientConversation,
    ClientEvent,
    HubClosed,
    HubReady,
    SignalAnswered,
)
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import presentable_label
from pgpeer.transport.hub_events import HubEvent, HubEvents, SignalReceived

CLOSE_SECONDS: Final = 2.0

_LOGGER: Final = logging.getLogger("pgpeer.hub_link")
_LOGGER.addHandler(logging.NullHandler())


class HubClient:
    """One connection to one hub, for one life: after `HubClosed` make a new one.

    `async for event in client` gives `PeerOnline`, `PeerOffline`, `SignalReceived`, `HubSlow` and, last,
    `HubClosed` with the error. Nothing connects again by itself; `pgpeer.signaling.backoff` says when to.
    """

    def __init__(
        self,
        url: str,
        key: PrivateKey,
        label: str,
        *,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a connection; nothing is opened yet.

        Args:
            url: the hub's ws:// or wss:// URL.
            key: proves the peer id to the hub and opens what is sealed to it.
            label: what the hub tells those who watch this peer; cut to 128 characters.
            limits: sizes and times; only those that concern a client count.
            clock: gives monotonic seconds.

        Raises:
            ConfigError: the URL cannot be a hub's.
        """
        self.url = require_hub_url(url)
        self._key = key
        self._limits = limits or HubLimits()
        self._clock = clock
        self._conversation = ClientConversation(key, url, presentable_label(label), self._limits, clock())
        self._events = HubEvents()
        self._ready: asyncio.Future[None] | None = None
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._written = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed_because: HubError | None = None
        self.hub_id = ""
        self.refused_signals = 0

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._closed_because is not None

    async def connect(self) -> None:
        """Reach the hub and authenticate, within 10 s each.

        When this is cancelled the connection is closed.

        Raises:
            HubError: the hub cannot be reached or refused.
        """
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

    async def watch(self, peer_ids: Iterable[str]) -> None:
        """Ask to hear of these peers and no others; their present state comes as events at once.

        Raises:
            HubError: the connection is over.
            LocalProtocolError: these are more peers than can be watched.
        """
        self._require_open()
        self._conversation.watch(peer_ids)
        self._written.set()

    async def send_signal(self, to: str, sid: str, plaintext: bytes) -> bool:
        """Seal a signal to a peer and send it.

        When this is cancelled the signal may or may not be delivered.

        Args:
            to: the recipient's peer id.
            sid: session id, 1 to 64 of A-Z a-z 0-9 _ -.
            plaintext: what `pgpeer.signaling.signal.sign_signal` gave.

        Returns:
            True when the hub handed it to the recipient's connection, False when the recipient is offline.

        Raises:
            HubError: the hub refused (`rate_limited`, `target_overloaded`), did not answer within 15 s, or
                the connection is over.
            LocalProtocolError: the signal is too large.
            IdentityError: `to` is not a peer id.
        """
        self._require_open()
        box = seal_to(public_key_from_peer_id(to), plaintext)
        request = self._conversation.send_box(to, sid, box, self._clock())
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer
        self._written.set()
        try:
            return await answer
        finally:
            self._answers.pop(request, None)

    async def close(self) -> None:
        """Close the connection; events end with `HubClosed` (code `local_closed`); twice does nothing."""
        self._fail(
            HubError("The connection to the hub was closed here.", code="local_closed", retryable=False)
        )
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aiter__(self) -> AsyncIterator[HubEvent]:
        """Give events until `HubClosed`, which is the last."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, HubClosed):
                return

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
                    async with asyncio.timeout(max(0.0, deadline - self._clock())):
                        frame = await socket.recv()
                except TimeoutError:
                    self._take(self._conversation.tick(self._clock()))
                else:
                    self._take(self._conversation.receive(frame, self._clock()))
                self._written.set()

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
                case HubReady(hub_id):
                    self.hub_id = hub_id
                    if self._ready is not None and not self._ready.done():
                        self._ready.set_result(None)
                case SignalAnswered(request, delivered, error):
                    self._answer(request, delivered, error)
                case BoxReceived(sender, sid, box):
                    self._open(sender, sid, box)
                case HubClosed(error):
                    self._end(event, error)
                case _:
                    self._events.put(event)

    def _answer(self, request: int, delivered: bool, error: HubError | None) -> None:
        answer = self._answers.pop(request, None)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(delivered)
        else:
            answer.set_exception(error)

    def _open(self, sender: str, sid: str, box: bytes) -> None:
        try:
            plaintext = self._key.open(box)
        except IdentityError:
            self.refused_signals += 1
            return
        if not self._events.put(SignalReceived(sender, sid, plaintext)):
            self.refused_signals += 1

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


def _unreachable(url: str, error: Exception) -> HubError:
    if isinstance(error, TimeoutError):
        return HubError(
            f"The hub {url} does not answer.",
            remedy="Check the URL, and that the hub runs and can be reached from here.",
            code="timeout",
        )
    return HubError(
        f"The hub {url} cannot be reached: {error}.",
        remedy="Check the URL, and that the hub runs and can be reached from here.",
    )
