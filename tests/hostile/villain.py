"""A peer that speaks the real protocol with a key of its own, and says whatever a test wants it to say.

It reaches a worker as every peer does: by the hub, through a circuit with TLS, proving who it is. What it
says after that is bytes.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from pgpeer.errors import LinkClosed, PgpeerError, RemoteProtocolError
from pgpeer.identity.invite import parse_invite
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, limits
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.messages import DATA_TYPES, Message, MessageType
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.hub_link import HubClient
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.reach import Reach
from pgpeer.transport.relay import open_relay
from pgpeer.transport.ways import RelayWay

PATIENCE_SECONDS = 20.0

T = TypeVar("T")


class Underworld:
    """The event loop of all villains, in a thread of its own, so that tests may block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T], seconds: float = PATIENCE_SECONDS) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


def kind_of(message: Message) -> MessageType:
    name = "".join("_" + one if one.isupper() else one for one in type(message).__name__).upper()
    return MessageType[name.removeprefix("_")]


def frames_of(*said: Message | bytes, lane: Lane | None = None) -> list[bytes]:
    """Messages as frames, whether or not there is credit for them; bytes are an encoded message."""
    frames = []
    for one in said:
        outbox = Outbox()
        way = lane
        if way is None:
            way = Lane.DATA if not isinstance(one, bytes) and kind_of(one) in DATA_TYPES else Lane.CONTROL
        outbox.put(way, one if isinstance(one, bytes) else encode(one))
        while (found := outbox.next_frame(1 << 40)) is not None:
            frames.append(found[0])
    return frames


class Talk:
    """One conversation with a worker: an honest handshake, and then anything."""

    def __init__(
        self, link: PeerLink, key: PrivateKey, peer_id: str, label: str = "", *, is_mute: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.link = link
        self.session = Session(
            key,
            "offerer" if key.peer_id < peer_id else "answerer",
            link.local_fingerprint,
            link.remote_fingerprint,
            secrets.token_bytes(32),
            peer_id,
            label,
            self._loop.time(),
        )
        self.heard: list[events.Event] = []
        self.sent: list[bytes] = []
        self.is_over = False
        self._is_mute = is_mute
        self._news = asyncio.Event()
        self._reader = self._loop.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self.flush()
                frame = await self.link.receive()
                self.session.receive_frame(frame, self._loop.time())
                for event in self.session.events():
                    self._note(event)
                self._news.set()
        except (PgpeerError, RemoteProtocolError):
            pass
        finally:
            self.heard += self.session.events()
            self.is_over = True
            self._news.set()

    def _note(self, event: events.Event) -> None:
        if isinstance(event, events.CommitReceived | events.SectionReceived):
            self.session.grant(event.credit)
        self.heard.append(event)

    async def flush(self) -> None:
        while (frame := self.session.next_frame()) is not None:
            if not self._is_mute:
                await self.raw(frame)

    async def raw(self, *frames: bytes) -> None:
        """Put frames on the link as they are; an end of the link is no error."""
        for frame in frames:
            self.sent.append(frame)
            try:
                await self.link.send(frame)
            except PgpeerError:
                return

    async def say(self, *said: Message | bytes, lane: Lane | None = None) -> None:
        await self.raw(*frames_of(*said, lane=lane))

    async def until(self, kind: type[T]) -> T:
        """The first event of a kind that was heard or will be."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for event in self.heard:
                    if isinstance(event, kind):
                        return event
                assert not self.is_over, self.heard
                self._news.clear()
                await self._news.wait()

    async def end(self) -> events.SessionClosed | None:
        """Wait until the worker has ended it, and give the last word if it came."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([self._reader])
        said = [one for one in self.heard if isinstance(one, events.SessionClosed)]
        return said[-1] if said else None

    async def stays(self, seconds: float = 0.3) -> bool:
        await asyncio.wait([self._reader], timeout=seconds)
        return not self.is_over

    async def close(self) -> None:
        self._reader.cancel()
        await self.link.close()


class Villain:
    """A peer with a fresh key."""

    def __init__(self, underworld: Underworld, hub_url: str, label: str = "villain") -> None:
        self.key = PrivateKey.from_seed(secrets.token_bytes(32))
        self.label = label
        self.do = underworld.do
        self._loop = underworld.loop
        self._url = hub_url
        self._hub: HubClient | None = None
        self._reaches: list[Reach] = []

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do something meanwhile."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def peer_id(self) -> str:
        return self.key.peer_id

    async def _at_hub(self) -> HubClient:
        if self._hub is None:
            self._hub = HubClient(self._url, self.key, "villain")
            await self._hub.connect()
        return self._hub

    async def _connect(self, peer_id: str) -> PeerLink:
        hub = await self._at_hub()
        way = RelayWay(lambda: hub.open_circuit(peer_id), self._url, Certificate.generate())
        reach = Reach(self.key, lambda _: [way], lambda _: None, lambda _: None)
        self._reaches.append(reach)
        return await reach.connect(peer_id)

    async def _talk(self, peer_id: str) -> Talk:
        talk = Talk(await self._connect(peer_id), self.key, peer_id, self.label)
        await talk.until(events.Authenticated)
        assert talk.session.state is State.ESTABLISHED
        return talk

    def talk(self, peer_id: str) -> Talk:
        """Connect, and prove who it is."""
        return self.do(self._talk(peer_id))

    def record(self, peer_id: str) -> Talk:
        """Connect for a recording: nothing is said but what the test says."""

        async def listen() -> Talk:
            return Talk(await self._connect(peer_id), self.key, peer_id, is_mute=True)

        return self.do(listen())

    def join(self, talk: Talk, invite: str) -> events.JoinAccepted:
        """Become a member by an invite."""
        parsed = parse_invite(invite)

        async def ask() -> events.JoinAccepted:
            talk.session.send_join(parsed.invite_id, parsed.secret)
            await talk.flush()
            return await talk.until(events.JoinAccepted)

        return self.do(ask())

    def knock(self, peer_id: str, frame: bytes) -> None:
        """Open a path, and say something instead of a hello."""

        async def open_path() -> None:
            circuit = await (await self._at_hub()).open_circuit(peer_id)
            link = await open_relay(circuit, Certificate.generate(), hub_url=self._url, is_opener=True)
            await link.send(frame)
            with suppress(LinkClosed):
                while True:
                    await link.receive()

        self.do(open_path())

    def end(self) -> None:
        async def leave() -> None:
            for reach in self._reaches:
                await reach.close()
            if self._hub is not None:
                await self._hub.close()

        self.do(leave())


def flipped(data: bytes, places: Iterable[int]) -> bytes:
    """The same bytes, with one bit of some of them turned."""
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 1 << (place % 8)
    return bytes(changed)


def cut(frame: bytes) -> list[bytes]:
    return [frame[:size] for size in (1, 2, len(frame) // 2, len(frame) - 1)]


LARGEST_FRAME = limits.MAX_FRAME_BYTES
UNKNOWN = UUID(int=99)
