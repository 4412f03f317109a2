"""A hub that its peers must not trust: the real hub, with somebody hostile between it and every connection.

Everything that passes can be read, changed, dropped, delayed, repeated and invented, as a hostile operator of a
hub could; the sealed boxes and the encrypted bytes in the circuits are all that it has of the peers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pgpeer.hub.server import Hub

Message = dict[str, Any]
FRAME_BYTES = 1024 * 1024


class Visitor:
    """One peer's connection, as the hostile operator sees it.

    Attributes:
        peer_id: who it says it is; empty before it authenticates.
    """

    def __init__(self, socket: ServerConnection) -> None:
        self.peer_id = ""
        self._socket = socket

    async def tell(self, message: Message) -> None:
        """Say something that the hub did not."""
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps(message))


class Plot:
    """What a hostile operator does; this one does nothing. Each method gives what passes on instead."""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        """A peer says something to the hub."""
        return [message]

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        """The hub says something to a peer."""
        return [message]

    def carried(self, visitor: Visitor, data: bytes) -> list[bytes]:
        """A peer sends bytes of a circuit."""
        return [data]

    def delay(self, visitor: Visitor, message: Message) -> float:
        """For how many seconds a word of the hub is held back; later ones pass it."""
        return 0.0


class HostileHub:
    """Use it in `async with`.

    Attributes:
        url: where peers find it.
        hub: the real hub behind it.
        seen: everything that passed, in both directions, as it was.
        visitors: the connections that are open.
    """

    def __init__(self, plot: Plot, **options: Any) -> None:
        self.plot = plot
        self.url = ""
        self.hub: Hub
        self.seen = bytearray()
        self.visitors: list[Visitor] = []
        self._options = options
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HostileHub:
        server = await self._stack.enter_async_context(
            serve(self._attend, "127.0.0.1", 0, max_size=FRAME_BYTES, compression=None, ping_interval=None)
        )
        authority = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        self.hub = await self._stack.enter_async_context(Hub(public_names=[authority], **self._options))
        self.url = f"ws://{authority}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._stack.aclose()

    def visitor(self, peer_id: str) -> Visitor:
        """The newest connection of a peer."""
        return next(one for one in reversed(self.visitors) if one.peer_id == peer_id)

    async def _attend(self, socket: ServerConnection) -> None:
        visitor = Visitor(socket)
        self.visitors.append(visitor)
        try:
            async with connect(
                self.hub.url, max_size=FRAME_BYTES, compression=None, ping_interval=None
            ) as hub:
                ways = [
                    asyncio.create_task(self._pass(socket.recv, hub.send, self._from_peer, visitor)),
                    asyncio.create_task(self._pass(hub.recv, socket.send, self._from_hub, visitor)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        finally:
            self.visitors.remove(visitor)

    async def _pass(
        self,
        receive: Callable[[], Coroutine[Any, Any, str | bytes]],
        send: Callable[[str | bytes], Coroutine[Any, Any, None]],
        look: Callable[[Visitor, str | bytes], list[tuple[float, str | bytes]]],
        visitor: Visitor,
    ) -> None:
        with suppress(ConnectionClosed):
            while True:
                frame = await receive()
                self.seen += frame if isinstance(frame, bytes) else frame.encode()
                for seconds, passed in look(visitor, frame):
                    if seconds:
                        self._spawn(self._later(seconds, send, passed))
                    else:
                        await send(passed)

    def _from_peer(self, visitor: Visitor, frame: str | bytes) -> list[tuple[float, str | bytes]]:
        if isinstance(frame, bytes):
            return [(0.0, data) for data in self.plot.carried(visitor, frame)]
        message = json.loads(frame)
        if message["t"] == "auth":
            visitor.peer_id = message["peer_id"]
        return [(0.0, json.dumps(one)) for one in self.plot.asked(visitor, message)]

    def _from_hub(self, visitor: Visitor, frame: str | bytes) -> list[tuple[float, str | bytes]]:
        if isinstance(frame, bytes):
            return [(0.0, frame)]
        message = json.loads(frame)
        seconds = self.plot.delay(visitor, message)
        return [(seconds, json.dumps(one)) for one in self.plot.told(visitor, message)]

    async def _later(
        self, seconds: float, send: Callable[[str | bytes], Coroutine[Any, Any, None]], frame: str | bytes
    ) -> None:
        await asyncio.sleep(seconds)
        with suppress(ConnectionClosed):
            await send(frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
