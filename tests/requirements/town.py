"""A hub's desk and its members without sockets, on a clock that jumps; frames take time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from pgpeer.hub.chores import Chores
from pgpeer.hub.desk import Desk
from pgpeer.hub.memory import MemoryStore
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.client import ClientConversation, PeerOffline, PeerOnline
from pgpeer.signaling.client_events import HubReady, NamespaceChanged, RequestAnswered
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import FEATURES, Discover, Discovered, Follow, Hello, Register, Unregister
from pgpeer.signaling.record import Registration, read_registration, sign_registration
from pgpeer.signaling.server import ServerConversation, ServerEvent

URL = "ws://hub.example"
SPACE = "space"


def clock() -> float:
    return asyncio.get_running_loop().time()


class Town:
    """A hub and who is there.

    Attributes:
        latency: seconds of a frame from a member to the hub, or back.
        asked: how often members asked who is there.
    """

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.limits = HubLimits()
        self.asked = 0
        self.members: dict[str, Member] = {}
        self.store = MemoryStore(self.limits, clock)
        self.chores = Chores(self.store)
        self.desk = Desk(self.store, None, clock, self._wake, self.chores.spawn)
        self._by_conversation: dict[ServerConversation, Member] = {}

    async def open(self) -> None:
        await self.store.open(URL, self.desk.hear, lambda: None)
        self.chores.begin(self.desk)

    async def close(self) -> None:
        for member in self.members.values():
            member.stop()
        await self.chores.stop()
        await self.store.close()

    def enter(self, member: Member) -> None:
        self.members[member.peer_id] = member
        self._by_conversation[member.server] = member

    def _wake(self, conversation: ServerConversation) -> None:
        if conversation in self._by_conversation:
            self._by_conversation[conversation].flush()


class Member:
    """One client with its half of the hub.

    Attributes:
        known: who is listed in the namespace, and since when this one knows it.
        online: who of those that it watches is here.
    """

    def __init__(self, town: Town, number: int) -> None:
        self.key = PrivateKey.from_seed(number.to_bytes(32, "big"))
        self.peer_id = self.key.peer_id
        self.known: dict[str, float] = {}
        self.online: set[str] = set()
        self.is_ready = asyncio.Event()
        self._town = town
        self._is_up = True
        self._tasks: list[asyncio.Task[None]] = []
        self.client = ClientConversation(self.key, URL, "", town.limits, clock(), features=FEATURES)
        hello = Hello(town.store.hub_id, bytes(32), FEATURES)
        self.server = ServerConversation(hello, frozenset({"hub.example"}), town.limits, clock())
        town.enter(self)
        self._up: deque[str | bytes] = deque()
        self._down: deque[str | bytes] = deque()
        self._asked: asyncio.Queue[ServerEvent] = asyncio.Queue()
        self._spawn(self._live())
        self._spawn(self._serve())
        self.flush()

    def join(self) -> None:
        """Follow the namespace, ask once who is there, and be listed."""
        self.client.say(Follow((SPACE,)))
        self._town.asked += 1
        self.client.ask(lambda request: Discover(request, SPACE, 0, 1000), clock())
        expires = int(time.time()) + 3600
        record = sign_registration(self.key, Registration(self.peer_id, SPACE, 1, expires, ""))
        self.client.ask(lambda request: Register(request, SPACE, 3600, record), clock())
        self.flush()

    def leave(self) -> None:
        self.client.ask(lambda request: Unregister(request, SPACE), clock())
        self.flush()

    def vanish(self) -> None:
        """The network is gone: nothing comes from it or to it any more, and nobody is told."""
        self._is_up = False

    def stop(self) -> None:
        self.vanish()
        for task in self._tasks:
            task.cancel()

    def flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._is_up and (frame := self.client.next_frame()) is not None:
            self._up.append(frame)
            loop.call_later(self._town.latency, self._reach_hub)
        while (word := self.server.next_frame()) is not None:
            self._down.append(word)
            loop.call_later(self._town.latency, self._reach_client)

    def _reach_hub(self) -> None:
        for event in self.server.receive(self._up.popleft(), clock()):
            self._asked.put_nowait(event)
        self.flush()

    def _reach_client(self) -> None:
        frame = self._down.popleft()
        if not self._is_up:
            return
        for event in self.client.receive(frame, clock()):
            match event:
                case HubReady():
                    self.is_ready.set()
                case PeerOnline(peer_id):
                    self.online.add(peer_id)
                case PeerOffline(peer_id):
                    self.online.discard(peer_id)
                case NamespaceChanged(_, joined, left, missed):
                    assert not missed
                    self._learn(joined)
                    for peer_id in left:
                        self.known.pop(peer_id, None)
                case RequestAnswered(_, Discovered(_, records, cookie, more)):
                    self._learn(records)
                    if more:
                        self.client.ask(lambda number: Discover(number, SPACE, cookie, 1000), clock())
                case RequestAnswered(_, _, error):
                    assert error is None
        self.flush()

    def _learn(self, records: tuple[bytes, ...]) -> None:
        for record in records:
            registration = read_registration(record, namespace=SPACE, now=time.time())
            self.known.setdefault(registration.peer_id, clock())

    async def _serve(self) -> None:
        """As the hub's server does: one word of a client after the other."""
        while True:
            await self._town.desk.handle(self.server, self.peer_id, await self._asked.get())
            self.flush()

    async def _live(self) -> None:
        """Time passes for both halves."""
        while True:
            due = [
                one for one in (self.client.next_deadline(), self.server.next_deadline()) if one is not None
            ]
            if not due:
                return
            await asyncio.sleep(max(0.01, min(min(due) - clock(), 1.0)))
            self.client.tick(clock())
            self.server.tick(clock())
            if self.server.is_closed:
                self._town.desk.leave(self.server)
            self.flush()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
