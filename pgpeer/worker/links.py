"""The links that are open: each has its exchange, and its place within the limit of links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pgpeer.errors import LinkClosed, TransportError
from pgpeer.transport.peer_link import PeerLink
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.crew import Crew
from pgpeer.worker.exchange import Direction, Exchange
from pgpeer.worker.office import Office
from pgpeer.worker.places import GIVES_WAY, OVERLOADED, Places

DISMISS_SECONDS: Final = 4.0
"""A link that gives way to another one is waited for so long."""


class Links:
    """The links of one worker, from the first word on them to the last.

    Args:
        office: the worker's shared parts.
        places: who may have a link.
        crew: holds the tasks.
        begun: called when a peer has proven who it is and its link is in use.
        ended: called when a link that was in use is over; its place is not given back yet.
        freed: called when a place was given back.
    """

    def __init__(
        self,
        office: Office,
        places: Places,
        crew: Crew,
        *,
        begun: Callable[[str], None],
        ended: Callable[[str, Exchange], None],
        freed: Callable[[], None],
    ) -> None:
        self._office = office
        self._places = places
        self._crew = crew
        self._begun = begun
        self._ended = ended
        self._freed = freed
        self._exchanges: dict[PeerLink, Exchange] = {}
        self._runs: dict[PeerLink, asyncio.Task[None]] = {}
        self._is_stopping = False

    async def converse(self, peer_id: str, link: PeerLink, direction: Direction) -> bool:
        """Return when the peer has proven who it is; the exchange goes on by itself.

        Returns:
            False when there is no place for the link: it is ended.

        Raises:
            TransportError: the peer has not proven who it is.
        """
        if link in self._exchanges:
            return True  # it came while this side was about to connect, and is in use already
        found = self._places.take(peer_id)
        if not found.is_admitted:
            link.abort(LinkClosed("There is no place for one more link.", code=OVERLOADED))
            return False
        conversation = Conversation(
            link,
            self._office.key,
            "offerer" if self._office.key.peer_id < peer_id else "answerer",
            expected_peer_id=peer_id,
            label=self._office.view.label,
        )
        exchange = self._exchanges[link] = Exchange(self._office, conversation, direction)
        task = self._runs[link] = self._crew.spawn(self._run(peer_id, link, exchange, found.victim))
        try:
            proven = await asyncio.shield(exchange.authenticated)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not proven:
            await asyncio.wait([task])
            closed = exchange.closed
            if closed is not None:
                raise TransportError(
                    closed.detail,
                    code=closed.code,
                    phase=closed.phase or "identity",
                    retryable=closed.retryable,
                )
        return True

    def path_changed(self, link: PeerLink) -> None:
        """A link uses another path."""
        exchange = self._exchanges.get(link)
        if exchange is not None and link.is_connected:
            self._crew.spawn(self._office.reporter.path_changed(exchange.connection_id, link.path, link.rtt))

    def stop(self) -> None:
        """The worker ends: nobody is told any more of links that do."""
        self._is_stopping = True

    async def dismiss(self, peer_id: str) -> None:
        """End the link with a peer for want of a place; return when it is not listed any more."""
        ending = []
        for link, exchange in list(self._exchanges.items()):
            if link.peer_id == peer_id:
                ending.append(self._runs[link])
                self._crew.spawn(exchange.close(GIVES_WAY, OVERLOADED))
        if ending:
            await asyncio.wait(ending, timeout=DISMISS_SECONDS)

    async def _run(self, peer_id: str, link: PeerLink, exchange: Exchange, victim: str | None) -> None:
        taking_up = self._crew.spawn(self._take_up(peer_id, exchange))
        try:
            if victim is not None:  # the other side waits for the first word meanwhile
                await self.dismiss(victim)
            await exchange.run()
        finally:
            taking_up.cancel()
            del self._exchanges[link], self._runs[link]
            self._office.postman.link_down(peer_id, exchange)
            if self._office.exchanges.get(peer_id) is exchange:
                del self._office.exchanges[peer_id]
                self._ended(peer_id, exchange)
            try:
                await self._tell_end(peer_id, exchange)
            finally:
                self._places.free(peer_id)
                self._freed()

    async def _tell_end(self, peer_id: str, exchange: Exchange) -> None:
        closed = exchange.closed
        if exchange.peer_id and closed is not None and not self._is_stopping:
            await self._office.reporter.disconnected(
                exchange.connection_id,
                peer_id,
                closed.code,
                closed.phase,
                closed.retryable,
                closed.detail,
            )

    async def _take_up(self, peer_id: str, exchange: Exchange) -> None:
        """Take an authenticated exchange into use; the one before is over, or will be at once."""
        if not await asyncio.shield(exchange.authenticated):
            return
        other = self._office.exchanges.get(peer_id)
        self._office.exchanges[peer_id] = exchange
        self._begun(peer_id)
        self._office.postman.link_up(peer_id, exchange)
        exchange.view_changed()
        if other is not None:
            await other.close("A newer link takes its place.")
