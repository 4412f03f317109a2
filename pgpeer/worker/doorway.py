"""What peers ask for through a hub: circuits and WebRTC offers, taken or refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Final

import structlog

from pgpeer.errors import HubError, RemoteProtocolError, TransportError
from pgpeer.signaling.signal import Signal
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.hub_circuit import HubCircuit
from pgpeer.transport.hub_events import SignalReceived
from pgpeer.transport.reach import Reach
from pgpeer.transport.relay import open_relay
from pgpeer.worker.crew import Crew
from pgpeer.worker.negotiator import Negotiator
from pgpeer.worker.office import Office
from pgpeer.worker.routes import Routes

AT_ONCE: Final = 64
"""So many offers and circuits of one hub may be under way; a peer whose one is refused tries again.

Of each hub, so that one that floods keeps nobody out who comes through another.
"""

LOOK_SECONDS: Final = 1.0
"""The database is not asked more often than this about peers that are not known."""

WAITING_LIMIT: Final = 8
"""So many peers that are not known wait for that; others are refused at once, and try again."""


class Doorway:
    """Lets in who may come.

    Args:
        office: whose view says who may.
        negotiator: reads signals and answers offers.
        routes: give the STUN and TURN servers.
        reach: takes what opens.
        certificate: this worker's.
    """

    def __init__(
        self,
        office: Office,
        negotiator: Negotiator,
        routes: Routes,
        reach: Reach,
        certificate: Certificate,
    ) -> None:
        self._office = office
        self._negotiator = negotiator
        self._routes = routes
        self._reach = reach
        self._certificate = certificate
        self._crew = Crew(office.lost, "pgpeer.doorway")
        self._loop = asyncio.get_running_loop()
        self._last_look = -LOOK_SECONDS
        self._waiting = 0
        self._under_way: Counter[str] = Counter()
        self._log = structlog.get_logger("pgpeer.doorway")

    def refusal(self, peer_id: str) -> str | None:
        """Tell why a peer may not connect, as far as the present view knows; None: it may."""
        view = self._office.view
        if peer_id in view.trust.blocked:
            return "refused_blocked"
        if view.may_come(peer_id) or self._office.wants(peer_id):
            return None
        return "refused_policy"

    def circuit(self, url: str, circuit: HubCircuit) -> None:
        """A peer asks for a circuit; waits for nothing."""
        if self._under_way[url] >= AT_ONCE:
            circuit.refuse("target_overloaded", "Too many connect at once.")
        else:
            self._spawn(url, circuit.peer_id, self._take_circuit(url, circuit))

    def signal(self, url: str, received: SignalReceived) -> None:
        """A peer sends a signal; waits for nothing."""
        try:
            offer = self._negotiator.take(received)
        except RemoteProtocolError:
            self._crew.spawn(self._tell_misdated(received.sender))
            return
        if offer is not None and self._under_way[url] < AT_ONCE:
            self._spawn(url, offer.sender, self._take_offer(url, offer))

    async def close(self) -> None:
        """Take nothing more, and give up what is under way."""
        tasks = self._crew.tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _take_circuit(self, url: str, circuit: HubCircuit) -> None:
        refusal = await self._fresh_refusal(circuit.peer_id)
        if refusal is not None:
            circuit.refuse(refusal, "The peer does not take links of this one.")
            return
        circuit.accept()
        link = await open_relay(circuit, self._certificate, hub_url=url, is_opener=False)
        await self._reach.take(link, circuit.peer_id)

    async def _take_offer(self, url: str, offer: Signal) -> None:
        refusal = await self._fresh_refusal(offer.sender)
        if refusal is not None:
            await self._negotiator.reject(url, offer, refusal)
        elif self._reach.begin_answer(offer.sender):
            settings = self._routes.ice(offer.sender)
            await self._reach.take(await self._negotiator.answer(url, offer, settings), offer.sender)

    async def _fresh_refusal(self, peer_id: str) -> str | None:
        """See `refusal`; an invite that was made a moment ago counts."""
        if self.refusal(peer_id) != "refused_policy" or self._waiting >= WAITING_LIMIT:
            return self.refusal(peer_id)
        self._waiting += 1
        try:
            await asyncio.sleep(self._last_look + LOOK_SECONDS - self._loop.time())
            if self._loop.time() >= self._last_look + LOOK_SECONDS:  # nobody else has looked meanwhile
                self._last_look = self._loop.time()
                await self._office.look()
        finally:
            self._waiting -= 1
        return self.refusal(peer_id)

    async def _tell_misdated(self, peer_id: str) -> None:
        """A signal was refused for its date; on a link the peers compare clocks themselves."""
        view = self._office.view
        if (view.shared_with(peer_id) or view.joins_at(peer_id)) and peer_id not in self._office.exchanges:
            await self._office.reporter.problem(
                "clock_differs",
                peer_id,
                f"No direct link can be made with peer {peer_id}: the clocks of its machine and this one "
                "differ by more than five minutes.",
                "Set both clocks right, best by a time server.",
            )

    def _spawn(self, url: str, peer_id: str, work: Coroutine[None, None, None]) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            self._under_way[url] -= 1

        self._under_way[url] += 1
        self._crew.spawn(self._quietly(peer_id, work)).add_done_callback(ended)

    async def _quietly(self, peer_id: str, work: Coroutine[None, None, None]) -> None:
        """Log what failed, for the peer is told and tries again; people are told when it broke the rules."""
        try:
            await work
        except (TransportError, HubError, RemoteProtocolError) as error:
            self._log.info("a peer did not come in", code=error.code, reason=str(error))
            if isinstance(error, RemoteProtocolError):
                await self._office.reporter.failure("peer-failed", error, peer_id=peer_id)
