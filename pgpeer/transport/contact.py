"""One peer being reached: the race of the ways, the attempts under way, and the link that comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random
from typing import Final

from pgpeer.errors import LinkClosed, PgpeerError, RemoteProtocolError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import PathKind
from pgpeer.transport.negotiation import Negotiation, read_negotiation
from pgpeer.transport.path_proof import stream_fingerprints
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.proving import Proven, prove_as_opener, prove_as_taker
from pgpeer.transport.race import Race
from pgpeer.transport.verdicts import MISTAKES, REFUSALS, as_hubs_word, most_telling
from pgpeer.transport.ways import Exchange, TlsWay, Way, WebRTCWay

__all__ = ["ANSWER_SECONDS", "REFUSALS", "Contact"]

ANSWER_SECONDS: Final = 10.0
"""So long an offer waits for its answer, or for a path to go over."""


class Contact:
    """One stream with one peer, from the first attempt to its end; `Reach` makes and keeps it.

    Args:
        key: this side's key.
        peer_id: the peer.
        token: of this side's half of the stream.
        ways: the ways to the peer as they are now; asked again before every attempt.
        leads: whether this side tries at once.
        join: takes a path that is proven.
        on_change: called when another path is used.
        on_end: called once, when the contact is of no more use.
    """

    def __init__(
        self,
        key: PrivateKey,
        peer_id: str,
        token: bytes,
        ways: Callable[[], Sequence[Way]],
        *,
        leads: bool,
        join: Callable[[Proven], None],
        on_change: Callable[[PeerLink], None],
        on_end: Callable[[Contact], None],
        chance: Random,
    ) -> None:
        self.peer_id = peer_id
        self.token = token
        self.remote_token = b""
        self.link: PeerLink | None = None
        self.failures: dict[PathKind, PgpeerError] = {}
        self._key = key
        self._ways = ways
        self._join = join
        self._on_change = on_change
        self._on_end = on_end
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[PeerLink] = self._loop.create_future()
        self._race = Race(frozenset(way.kind for way in ways()), self._loop.time(), leads=leads)
        self._attempts: dict[PathKind, asyncio.Task[None]] = {}
        self._again: set[PathKind] = set()
        self._answering: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._numbers = count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    # What `Reach` asks.

    def run(self) -> None:
        """Begin what is due now and set the clock for what comes later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_over:
            return
        ways = {way.kind: way for way in self._ways()}
        self._race.know(frozenset(ways), self._loop.time())
        for kind in self._race.due(self._loop.time()):
            if kind in ways:
                self._attempts[kind] = task = self._loop.create_task(self._try(ways[kind]))
                task.add_done_callback(partial(self._tried, kind))
            else:
                self._race.failed(kind, self._loop.time(), self._chance.random())
        deadline = self._race.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self.run)

    def add(self, proven: Proven) -> None:
        """Take a proven path; the first one makes the link."""
        if self.link is None:
            fingerprints = stream_fingerprints(proven.local, proven.remote)
            self.remote_token = proven.remote.token
            self.link = PeerLink(self.peer_id, fingerprints, self)
        opener, taker = proven.local.sender, proven.remote.sender
        if not proven.is_opener:
            opener, taker = taker, opener
        kind = proven.link.path.kind
        number = self.link.add_path(proven.link, is_preferred=opener < taker)
        self._race.opened(kind, number, self._loop.time())
        for other, attempt in list(self._attempts.items()):
            if not self._race.is_wanted(other) and attempt is not asyncio.current_task():
                attempt.cancel()
        if not self.opened.done():
            self.opened.set_result(self.link)
        self.run()

    def begin_answer(self) -> bool:
        """Whether a WebRTC offer of the peer is to be answered: of two that cross, the smaller peer id's.

        When it is, this side's own attempt is given up.
        """
        own = self._attempts.get("webrtc")
        if own is not None and self._key.peer_id < self.peer_id:
            return False
        if not self._race.is_wanted("webrtc"):
            return False
        if own is not None:
            own.cancel()
        return True

    def hurry(self, *, afresh: bool) -> None:
        """The network changed or the machine woke up: ask on every path, try every way.

        Args:
            afresh: whether attempts under way are worth nothing any more.
        """
        self._race.hurry(self._loop.time())
        if afresh:
            self._again |= self._attempts.keys()
            for attempt in self._attempts.values():
                attempt.cancel()
        if self.link is not None:
            self.link.probe()
        self.run()

    def fail(self, error: PgpeerError) -> None:
        """Give up a contact that has no link yet."""
        if self.link is None and not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # it may be that nobody waits for it
        self.stop()

    def stop(self) -> None:
        """Try nothing more; the link, if there is one, is left alone."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for attempt in self._attempts.values():
            attempt.cancel()
        if self._answering is not None:
            self._answering.cancel()
        if not self.opened.done():
            self.opened.cancel()
        self._on_end(self)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [*self._attempts.values(), *([self._answering] if self._answering is not None else [])]

    # What the link tells (`PathObserver`).

    def path_in_use(self, kind: PathKind | None) -> None:
        """See `PathObserver`."""
        if self.link is not None:
            self._on_change(self.link)

    def path_suspect(self, path: int, kind: PathKind) -> None:
        """See `PathObserver`."""
        self._race.doubted(path, self._loop.time())
        self.run()

    def path_trusted(self, path: int, kind: PathKind) -> None:
        """See `PathObserver`."""
        self._race.trusted(path, kind)

    def path_gone(self, path: int, kind: PathKind, *, is_surpassed: bool) -> None:
        """See `PathObserver`."""
        if is_surpassed:
            self._race.closed(path)
        else:
            self._race.lost(path, kind, self._loop.time(), self._chance.random())
        self.run()

    def ended(self) -> None:
        """See `PathObserver`."""
        self.stop()

    def signal(self, message: bytes) -> None:
        """See `PathObserver`."""
        assert self.link is not None, "signals come over the link"
        try:
            step = read_negotiation(message)
        except RemoteProtocolError as error:
            self.link.abort(LinkClosed(str(error), code=error.code, retryable=False))
            return
        if step.kind == "offer":
            self._take_offer(step)
            return
        answer = self._answers.get(step.number)
        if answer is None or answer.done():
            return  # it came too late
        if step.kind == "answer":
            answer.set_result(step.sdp)
        else:
            answer.set_exception(
                TransportError("The peer makes its own offer.", code="replaced", phase="signalling")
            )

    # Attempts.

    async def _try(self, way: Way) -> None:
        link = await way.dial(self._exchange_for(way))
        try:
            proven = await prove_as_opener(self._key, link, self.peer_id, self.token)
        except (TransportError, RemoteProtocolError) as error:
            if isinstance(way, TlsWay) and error.code in MISTAKES:
                way.misled(link)  # somebody else listens there
            raise
        if isinstance(way, TlsWay):
            way.led(link)
        self._join(proven)

    def _tried(self, kind: PathKind, attempt: asyncio.Task[None]) -> None:
        if self._attempts.get(kind) is attempt:
            del self._attempts[kind]
        error = None if attempt.cancelled() else attempt.exception()
        if attempt.cancelled() or error is not None:
            self._race.failed(kind, self._loop.time(), self._chance.random())
        if kind in self._again:
            self._again.discard(kind)
            self._race.hurry(self._loop.time())
        if isinstance(error, PgpeerError):
            self.failures[kind] = as_hubs_word(error)
            if self.link is None and not self._attempts and not self._is_over:
                self.fail(most_telling(list(self.failures.values())))
        elif error is not None:
            self._loop.call_exception_handler({"message": "an attempt failed", "exception": error})
        self.run()

    # Offers over the stream itself.

    def _exchange_for(self, way: Way) -> Exchange:
        by_hub = way.exchange_by_hub if isinstance(way, WebRTCWay) else None

        async def exchange(sdp: str) -> str:
            if by_hub is not None and (self.link is None or not self.link.is_connected):
                return await by_hub(sdp)
            return await self._exchange(sdp)

        return exchange

    async def _exchange(self, sdp: str) -> str:
        number = next(self._numbers)
        answer: asyncio.Future[str] = self._loop.create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                link = await asyncio.shield(self.opened)
                link.send_signal(Negotiation("offer", number, sdp).encode())
                return await answer
        except TimeoutError as error:
            raise TransportError(
                f"The peer did not answer an offer within {ANSWER_SECONDS:g} s.",
                code="timeout",
                phase="signalling",
            ) from error
        finally:
            del self._answers[number]

    def _take_offer(self, offer: Negotiation) -> None:
        assert self.link is not None, "signals come over the link"
        way = next((one for one in self._ways() if isinstance(one, WebRTCWay)), None)
        if way is None or self._is_over or not self.begin_answer():
            with suppress(LinkClosed):
                self.link.send_signal(Negotiation("refuse", offer.number).encode())
            return
        if self._answering is not None:
            self._answering.cancel()
        self._answering = self._loop.create_task(self._quietly(self._answer(way, offer)))

    async def _answer(self, way: WebRTCWay, offer: Negotiation) -> None:
        link = self.link
        assert link is not None, "signals come over the link"

        def send_answer(sdp: str) -> None:
            link.send_signal(Negotiation("answer", offer.number, sdp).encode())

        answered = await way.answer(offer.sdp, send_answer)
        self._join(await prove_as_taker(self._key, answered, lambda _: self.token, self.peer_id))

    async def _quietly(self, work: Coroutine[None, None, None]) -> None:
        """An answer that leads nowhere is the offerer's to try again."""
        with suppress(TransportError, RemoteProtocolError):
            await work
