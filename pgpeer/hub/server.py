"""The hub's network side: WebSocket connections, each with a reader and a writer."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pgpeer.errors import HubError
from pgpeer.hub.admission import Admission
from pgpeer.hub.chores import Chores
from pgpeer.hub.desk import Desk
from pgpeer.hub.memory import MemoryStore
from pgpeer.hub.store import HubStore
from pgpeer.hub.web import Pages
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import CIRCUITS, MAILBOX, NAMESPACES, NONCE_BYTES, TURN, Hello
from pgpeer.signaling.server import PeerAuthenticated, ServerConversation
from pgpeer.signaling.turn import TurnService

CLOSE_SECONDS: Final = 2.0
TRY_AGAIN_LATER: Final = 1013
POLICY_VIOLATION: Final = 1008

_LOGGER: Final = logging.getLogger("pgpeer.hub")
_LOGGER.addHandler(logging.NullHandler())


class Hub:
    """One hub process. Use it in `async with`, or call `start` and `stop`.

    It prints and logs nothing. `GET /healthz` answers 200 while it serves and reaches its state,
    `GET /metrics` gives its figures for Prometheus.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        public_names: Iterable[str] = (),
        store: HubStore | None = None,
        tls: ssl.SSLContext | None = None,
        turn: TurnService | None = None,
        public_url: str = "",
        proxies: Iterable[str] = (),
    ) -> None:
        """Prepare a hub; nothing is opened yet.

        Args:
            host: address to listen at.
            port: port to listen at; 0 picks a free one.
            limits: what it takes from whom; with a store, that store's.
            clock: gives monotonic seconds.
            public_names: further host names (with port unless it is the scheme's own) under which clients
                reach it through a proxy that rewrites the Host header.
            store: keeps registrations and mail, and joins several processes; by default memory. The hub
                closes it.
            tls: serves wss:// with this certificate.
            turn: the TURN servers to give credentials for.
            public_url: where clients of other processes of this hub reach this one; by default `url`.
            proxies: network addresses of proxies; a connection from one of them counts as one of the address
                that the proxy put last into `X-Forwarded-For`.
        """
        self._host = host
        self._port = port
        self._store = store or MemoryStore(limits or HubLimits(), clock)
        self._limits = self._store.limits
        self._clock = clock
        self._public_names = frozenset(name.lower() for name in public_names)
        self._public_url = public_url
        self._proxies = frozenset(proxies)
        self._tls = tls
        self._turn = turn
        self._features = (NAMESPACES, MAILBOX, CIRCUITS, *((TURN,) if turn else ()))
        self._admission = Admission(self._limits)
        self._wakers: dict[ServerConversation, asyncio.Event] = {}
        self._server: Server | None = None
        self._chores: Chores | None = None
        self._desk: Desk | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The URL at which the hub listens, with the port that was picked; empty before `start`."""
        return self._url

    @property
    def online_count(self) -> int:
        """How many peers are online at this process."""
        return 0 if self._desk is None else self._desk.switchboard.online_count

    async def start(self) -> None:
        """Listen, then open the store.

        Raises:
            HubError: the address cannot be listened at.
            StoreError: the store's database cannot be used.
        """
        chores = self._chores = Chores(self._store)
        desk = self._desk = Desk(self._store, self._turn, self._clock, self._wake, chores.spawn)
        try:
            self._server = await serve(
                self._attend,
                self._host,
                self._port,
                process_request=Pages(desk, self._store).answer,
                compression=None,
                max_size=self._limits.frame_bytes,
                max_queue=4,
                open_timeout=self._limits.unauthenticated_seconds,
                ping_interval=None,
                close_timeout=CLOSE_SECONDS,
                server_header=None,
                logger=_LOGGER,
                ssl=self._tls,
                start_serving=False,
            )
        except OSError as error:
            raise HubError(
                f"The hub cannot listen at {self._host}:{self._port}: {error.strerror or error}.",
                remedy="Stop what listens there, or choose another address with --listen.",
                retryable=False,
            ) from error
        port = next(iter(self._server.sockets)).getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._url = f"{'ws' if self._tls is None else 'wss'}://{host}:{port}"
        try:
            await self._store.open(self._public_url or self._url, desk.hear, self._relearn)
            await self._server.start_serving()
        except BaseException:
            await self.stop()
            raise
        chores.begin(desk)

    async def failed(self) -> None:
        """Wait until something goes wrong that must not: raises what it was. Call it after `start`."""
        assert self._chores is not None
        await self._chores.failed()

    async def stop(self) -> None:
        """Close all connections, the listening socket and the store; stopping twice does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()
            if self._chores is not None:
                await self._chores.stop()
            await self._store.close()

    async def __aenter__(self) -> Hub:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _attend(self, socket: ServerConnection) -> None:
        assert self._desk is not None
        address = self._address(socket)
        if not self._admission.enter(address):
            await socket.close(TRY_AGAIN_LATER, "too many connections that have not authenticated")
            return
        conversation = ServerConversation(
            Hello(self._store.hub_id, secrets.token_bytes(NONCE_BYTES), self._features),
            self._authorities(socket),
            self._limits,
            self._clock(),
        )
        waker = self._wakers[conversation] = asyncio.Event()
        waker.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(socket, conversation, waker, self._desk))
                await self._read(socket, conversation, address, self._desk)
                if conversation.is_closed:
                    await asyncio.wait([writer], timeout=CLOSE_SECONDS)
                writer.cancel()
        finally:
            if not conversation.peer_id:
                self._admission.leave(address)
            del self._wakers[conversation]
            self._desk.leave(conversation)
            if conversation.closed_because is not None:
                self._desk.tally["closed", conversation.closed_because.code] += 1

    async def _read(
        self, socket: ServerConnection, conversation: ServerConversation, address: str, desk: Desk
    ) -> None:
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
                        if isinstance(event, PeerAuthenticated):
                            self._admission.leave(address)
                        await desk.handle(conversation, address, event)
                if conversation.is_closed:
                    desk.leave(conversation)
                self._wake(conversation)

    async def _write(
        self, socket: ServerConnection, conversation: ServerConversation, waker: asyncio.Event, desk: Desk
    ) -> None:
        """Send what the conversation and its circuits hold; when it is over, close the connection.

        A client that takes nothing for `dead_seconds` is cut off.
        """
        with suppress(ConnectionClosed):
            while True:
                await waker.wait()
                waker.clear()
                while (frame := self._next_frame(conversation, desk)) is not None:
                    try:
                        async with asyncio.timeout(self._limits.dead_seconds):
                            await socket.send(frame)
                    except TimeoutError:
                        conversation.close(_does_not_read())
                        desk.leave(conversation)
                        socket.transport.abort()
                        return
                if conversation.is_closed:
                    code = conversation.closed_because.code if conversation.closed_because else ""
                    await socket.close(POLICY_VIOLATION, code)
                    return

    def _next_frame(self, conversation: ServerConversation, desk: Desk) -> str | bytes | None:
        """Give what goes out next: messages before data."""
        message = conversation.next_frame()
        if message is not None:
            return message
        data = desk.relay.next_frame(conversation, self._clock())
        if data is not None:
            desk.wake_touched()
        return data

    def _wake(self, conversation: ServerConversation) -> None:
        if waker := self._wakers.get(conversation):
            waker.set()

    def _relearn(self) -> None:
        if self._chores is not None and self._desk is not None:
            self._chores.relearn(self._desk)

    def _address(self, socket: ServerConnection) -> str:
        """Give the network address that limits count for."""
        address = str(socket.remote_address[0]) if socket.remote_address else ""
        if address in self._proxies and socket.request is not None:
            forwarded = ",".join(socket.request.headers.get_all("X-Forwarded-For"))
            return forwarded.rpartition(",")[2].strip()[:64] or address
        return address

    def _authorities(self, socket: ServerConnection) -> frozenset[str]:
        request = socket.request
        host = request.headers.get("Host", "") if request is not None else ""
        return self._public_names | {host.lower()} - {""}


def _does_not_read() -> HubError:
    return HubError("The client does not read what it is sent.", code="target_overloaded", phase="signalling")
