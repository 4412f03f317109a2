"""A session over a link: reads, writes and keeps time, so that its owner only sends and takes events."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import LinkClosed, PgpeerError, RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events
from pgpeer.protocol.events import Event
from pgpeer.protocol.handshake import Role
from pgpeer.protocol.messages import Payload
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State
from pgpeer.protocol.turns import Turns
from pgpeer.transport.base import Link
from pgpeer.transport.peer_link import PeerLink
from pgpeer.worker.event_queue import MAX_WAITING_BYTES, EventQueue

FLUSH_SECONDS: Final = 1.0
"""How long the last frames of a closing session may take."""

LONGEST_PAUSE_SECONDS: Final = 2.0
"""So long at most nothing is read at a time, while a peer asks for more work than it may."""

TURNS: Final = Turns()
"""The places for large messages. Memory is a matter of the process, so all its links share them."""

OnChannel = Callable[[bytes], None]
"""Takes what a program of the peer says; raises PgpeerError when the link should end."""


class Conversation:
    """One conversation with a peer.

    `start` begins it; `events` tells what happens; `close` ends it. Every `send_...` raises LinkClosed when
    the conversation is over, and LocalProtocolError before `Authenticated`.

    Args:
        link: the link; the conversation closes it.
        key: this side's key.
        role: which side of the negotiation this one was.
        expected_peer_id: whom the other side must be; None for anybody.
        label: this side's name for people.
        turns: the places for large messages.
    """

    def __init__(
        self,
        link: Link,
        key: PrivateKey,
        role: Role,
        *,
        expected_peer_id: str | None = None,
        label: str = "",
        turns: Turns = TURNS,
    ) -> None:
        self.link = link
        self._loop = asyncio.get_running_loop()
        self._session = Session(
            key,
            role,
            link.local_fingerprint,
            link.remote_fingerprint,
            secrets.token_bytes(32),
            expected_peer_id,
            label,
            self._loop.time(),
            turns,
            self._turn_begun,
        )
        self.events: EventQueue = EventQueue(self._open, self._session)
        self._on_channel: OnChannel | None = None
        self.closed: events.SessionClosed | None = None
        """How it ended; None while it goes on."""
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def peer_id(self) -> str | None:
        """The other side's proven peer id; None before `Authenticated`."""
        return self._session.peer_id

    @property
    def rtt(self) -> float | None:
        """Seconds of the last measured round trip, of the path in use where it is known; None before."""
        of_path = self.link.rtt if isinstance(self.link, PeerLink) else None
        return self._session.rtt if of_path is None else of_path

    @property
    def established(self) -> bool:
        """Whether the other side is authenticated and the conversation goes on."""
        return self._session.state is State.ESTABLISHED

    def start(self) -> None:
        """Begin; must be called once."""
        assert self._task is None, "a conversation is started once"
        self._set_timer()
        self._task = self._loop.create_task(self._run())

    async def close(self, detail: str = "", code: str = "remote_closed") -> None:
        """End the conversation and its link, telling the other side why; takes about two seconds at most.

        Idempotent, also together with an end that comes from elsewhere.
        """
        self._session.close(detail, code)
        self._progress()
        if self._task is None:
            await self.link.close()
        else:
            await asyncio.shield(self._task)

    def forget(self) -> None:
        """The owner asks for no more events: give back the place that its last one had."""
        self._session.large.forget()

    async def wait_closed(self) -> None:
        """Return when everything has ended; raises what only a bug here can raise."""
        assert self._task is not None, "start comes first"
        await asyncio.shield(self._task)

    async def send_join(self, invite_id: UUID, secret: bytes) -> None:
        """Ask to become a member, showing the invite's secret (32 bytes)."""
        await self._control(lambda: self._session.send_join(invite_id, secret))

    async def accept_join(self, invite_id: UUID, payload: Payload) -> None:
        """Take the other side in; `payload` is a JSON object with what it needs to begin."""
        await self._control(lambda: self._session.accept_join(invite_id, payload))

    async def refuse_join(self, invite_id: UUID, code: str, detail: str) -> None:
        """Do not take the other side in."""
        await self._control(lambda: self._session.refuse_join(invite_id, code, detail))

    async def send_vector(
        self,
        bundle_id: UUID,
        entries: Sequence[VectorEntry],
        partial: Mapping[bytes, Sequence[int]] | None = None,
    ) -> None:
        """Tell what this side has of a bundle, and which sections it holds of incomplete commits."""
        await self._control(lambda: self._session.send_vector(bundle_id, entries, partial))

    async def send_acknowledgement(
        self, bundle_id: UUID, entries: Sequence[VectorEntry], signature: bytes = b""
    ) -> None:
        """Tell what is durably merged here."""
        await self._control(lambda: self._session.send_acknowledgement(bundle_id, entries, signature))

    async def send_error(self, code: str, phase: str, retryable: bool, detail: str, hint: str = "") -> None:
        """Tell the other side about an error that concerns it; the conversation goes on."""
        await self._control(lambda: self._session.send_error(code, phase, retryable, detail, hint))

    async def send_commit(self, bundle_id: UUID, header: bytes, signature: bytes) -> None:
        """Send a signed commit header; waits for credit. A cancelled call has sent nothing."""
        await self._until_wanted()
        self._session.send_commit(bundle_id, header, signature)
        self._wake.set()

    async def send_section(self, bundle_id: UUID, commit_digest: bytes, section_no: int, data: bytes) -> None:
        """Send one section, counting from 1; waits for credit. A cancelled call has sent nothing."""
        await self._until_wanted()
        self._session.send_section(bundle_id, commit_digest, section_no, data)
        self._wake.set()

    async def send_channel(self, data: bytes) -> None:
        """Send what an application says; waits while other messages do. A cancelled call has sent nothing."""
        while not self._session.wants_channel():
            self._refuse_when_closed()
            self._room.clear()
            await self._room.wait()
        self._session.send_channel(data)
        self._wake.set()

    def hand_on(self, on_channel: OnChannel) -> None:
        """Give what programs of the peer say to `on_channel` as it is read, and not to `events` any more.

        So it does not wait for commits and sections that came before it; its own order is kept.
        """
        self._on_channel = on_channel
        for data in self.events.take_channel():
            self._tell(data)

    def grant(self, count: int) -> None:
        """Let the other side send more: the `credit` of sections that are taken care of."""
        self._session.grant(count)
        self._wake.set()

    # Sending.

    async def _control(self, command: Callable[[], None]) -> None:
        self._refuse_when_closed()
        command()
        self._wake.set()
        await asyncio.sleep(0)

    async def _until_wanted(self) -> None:
        while not self._session.wants_section():
            self._refuse_when_closed()
            if self._session.state is not State.ESTABLISHED:
                return  # the session refuses the command itself
            self._room.clear()
            await self._room.wait()

    def _refuse_when_closed(self) -> None:
        if self._session.state is State.CLOSED:
            raise LinkClosed("The conversation with the peer is over.")

    # Running.

    async def _run(self) -> None:
        reader = self._loop.create_task(self._read())
        writer = self._loop.create_task(self._write())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                await asyncio.wait((writer,), timeout=FLUSH_SECONDS)
        finally:
            self._session.link_lost("internal", "", "The conversation was stopped.")
            self._progress()
            self._session.large.forget(but_first=self.events.has_turn)
            self.events.turn_begun.set()
            if self._timer is not None:
                self._timer.cancel()
            await self.link.close()
            reader.cancel()
            writer.cancel()
            ended = await asyncio.gather(reader, writer, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _read(self) -> None:
        try:
            while self._session.state is not State.CLOSED:
                frame = await self.link.receive()
                try:
                    self._session.receive_frame(frame, self._loop.time())
                except RemoteProtocolError:
                    pass  # the session is closed and tells both sides why
                self._progress()
                if self.events.waiting_bytes > MAX_WAITING_BYTES:
                    self._session.close("Too many messages wait to be handled.")
                    self._progress()
                pause = self._session.pause(self._loop.time())
                if pause > 0:
                    await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))
        except LinkClosed as error:
            self._session.link_lost(error.code, error.phase, str(error))
            self._progress()

    async def _write(self) -> None:
        try:
            while True:
                frame = self._session.next_frame()
                if frame is not None:
                    await self.link.send(frame)
                    self._room.set()
                elif self._session.state is State.CLOSED:
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except LinkClosed as error:
            self._session.link_lost(error.code, error.phase, str(error))
            self._progress()

    def _progress(self) -> None:
        """Hand out events and let everybody who waits look again."""
        for event in self._session.events():
            if isinstance(event, events.SessionClosed):
                self.closed = event
            if self._on_channel is not None and isinstance(event, events.ChannelReceived):
                self._tell(event.data)
            else:
                self.events.add(event)
        self._wake.set()
        self._room.set()

    def _tell(self, data: bytes) -> None:
        """Hand on what a program says; one that cannot be read ends the conversation."""
        assert self._on_channel is not None, "somebody takes it"
        if self._session.state is State.CLOSED:
            return
        try:
            self._on_channel(data)
        except PgpeerError as error:
            self._session.reject(
                RemoteProtocolError(
                    str(error),
                    code=error.code,
                    phase="transfer",
                    retryable=error.retryable,
                    remedy=error.remedy,
                )
            )
            self._progress()

    def _turn_begun(self) -> None:
        self.events.turn_begun.set()
        self._wake.set()

    def _open(self, event: Event) -> Event | None:
        """Make an event ready for the owner; None, with `SessionClosed` in the queue, when it is corrupt."""
        if isinstance(event, events.CommitReceived):
            self.grant(event.credit)
            return dataclasses.replace(event, credit=0)
        if isinstance(event, events.SectionReceived):
            try:
                return self._session.unpack(event)
            except RemoteProtocolError:
                self._progress()
                return None
        return event

    def _set_timer(self) -> None:
        deadline = self._session.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._session.tick(self._loop.time())
        self._progress()
        self._set_timer()
