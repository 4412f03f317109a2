"""The hub's network side: WebSocket connections, each with a reader and a writer."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from pgpeer.errors import HubError
from pgpeer.hub.admission import Admission
from pgpeer.hub.switchboard import Switchboard
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import NONCE_BYTES, Hello
from pgpeer.signaling.server import (
    PeerAuthenticated,
    ServerConversation,
    ServerEvent,
    SignalRequested,
    WatchRequested,
)

CLOSE_SECONDS: Final = 2.0
_LOGGER: Final = logging.getLogger("pgpeer.hub")
_LOGGER.addHandler(logging.NullHandler())
TRY_AGAIN_LATER: Final = 1013
POLICY_VIOLATION: Final = 1008


class Hub:
    """One hub process. Use it in `async with`, or call `start` and `stop`.

    It prints and logs nothing and keeps nothing on disk. `GET /healthz` answers 200 while it serves.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        public_names: Iterable[str] = (),
    ) -> None:
        """Prepare a hub; nothing is opened yet.

        Args:
            host: address to listen at.
            port: port to listen at; 0 picks a free one.
            limits: what it takes from whom.
            clock: gives monotonic seconds.
            public_names: further host names (with port unless it is the scheme's own) under which clients
                reach it through a proxy that rewrites the Host header.
        """
        self._host = host
        self._port = port
        self._limits = limits or HubLimits()
        self._clock = clock
        self._public_names = frozenset(name.lower() for name in public_names)
        self._hub_id = secrets.token_hex(16)
        self._switchboard = Switchboard(self._limits)
        self._admission = Admission(self._limits)
        self._wakers: dict[ServerConversation, asyncio.Event] = {}
        self._server: Server | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The URL at which the hub listens, with the port that was picked; empty before `start`."""
        return self._url

    @property
    def online_count(self) -> int:
        """How many peers are online."""
        return self._switchboard.online_count

    async def start(self) -> None:
        """Listen.

        Raises:
            HubError: the address cannot be listened at.
        """
        try:
            self._server = await serve(
                self._attend,
                self._host,
                self._port,
                process_request=_answer_health,
                compression=None,
                max_size=self._limits.frame_bytes,
                max_queue=4,
                open_timeout=self._limits.unauthenticated_seconds,
                ping_interval=None,
                close_timeout=CLOSE_SECONDS,
                server_header=None,
                logger=_LOGGER,
            )
        except OSError as error:
            raise HubError(
                f"The hub cannot listen at {self._host}:{self._port}: {error.strerror or error}.",
                remedy="Stop what listens there, or choose another address with --listen.",
                retryable=False,
            ) from error
        port = next(iter(self._server.sockets)).getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._url = f"ws://{host}:{port}"

    async def stop(self) -> None:
        """Close all connections and the listening socket; stopping twice does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def __aenter__(self) -> Hub:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _attend(self, socket: ServerConnection) -> None:
        address = str(socket.remote_address[0]) if socket.remote_address else ""
        if not self._admission.enter(address):
            await socket.close(TRY_AGAIN_LATER, "too many connections that have not authenticated")
            return
        conversation = ServerConversation(
            Hello(self._hub_id, secrets.token_bytes(NONCE_BYTES)),
            self._authorities(socket),
            self._limits,
            self._clock(),
        )
        waker = self._wakers[conversation] = asyncio.Event()
        waker.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(socket, conversation, waker))
                await self._read(socket, conversation, address)
                if conversation.is_closed:
                    await asyncio.wait([writer], timeout=CLOSE_SECONDS)
                writer.cancel()
        finally:
            if not conversation.peer_id:
                self._admission.leave(address)
            del self._wakers[conversation]
            self._switchboard.leave(conversation)
            self._wake()

    async def _read(self, socket: ServerConnection, conversation: ServerConversation, address: str) -> None:
        """Feed the conversation until it or the connection ends."""
        with suppress(ConnectionClosed):
            while (deadline := conversation.next_deadline()) is not None:
                try:
                    async with asyncio.timeout(max(0.0, deadline - self._clock())):
                        frame = await socket.recv()
                except TimeoutError:
                    conversation.tick(self._clock())
                else:
                    for event in conversation.receive(frame, self._clock()):
                        self._handle(conversation, address, event)
                self._settle(conversation)

    def _settle(self, conversation: ServerConversation) -> None:
        """After anything that a conversation did: take a closed one off the board, wake the writers."""
        if conversation.is_closed:
            self._switchboard.leave(conversation)
        if waker := self._wakers.get(conversation):
            waker.set()
        self._wake()

    def _handle(self, conversation: ServerConversation, address: str, event: ServerEvent) -> None:
        match event:
            case PeerAuthenticated():
                self._admission.leave(address)
                self._switchboard.admit(conversation, event)
            case WatchRequested():
                self._switchboard.watch(conversation, event)
            case SignalRequested():
                self._switchboard.route(conversation, address, event, self._clock())

    def _wake(self) -> None:
        for conversation in self._switchboard.take_touched():
            if waker := self._wakers.get(conversation):
                waker.set()

    async def _write(
        self, socket: ServerConnection, conversation: ServerConversation, waker: asyncio.Event
    ) -> None:
        """Send what the conversation holds; when it is over, close the connection."""
        with suppress(ConnectionClosed):
            while True:
                await waker.wait()
                waker.clear()
                while (frame := conversation.next_frame()) is not None:
                    await socket.send(frame)
                if conversation.is_closed:
                    code = conversation.closed_because.code if conversation.closed_because else ""
                    await socket.close(POLICY_VIOLATION, code)
                    return

    def _authorities(self, socket: ServerConnection) -> frozenset[str]:
        request = socket.request
        host = request.headers.get("Host", "") if request is not None else ""
        return self._public_names | {host.lower()} - {""}


def _answer_health(socket: ServerConnection, request: Request) -> Response | None:
    if request.path == "/healthz":
        return socket.respond(HTTPStatus.OK, "ok\n")
    return None
