"""The ways to one peer: each dials a link that is encrypted but not yet proven to lead to that peer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pgpeer.errors import TransportError
from pgpeer.transport import webrtc
from pgpeer.transport.base import Link, PathKind
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.direct import dial
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.pipe import Pipe
from pgpeer.transport.relay import open_relay

Exchange = Callable[[str], Awaitable[str]]
"""Sends an SDP offer to the peer and gives its answer; raises TransportError or HubError."""


class Way(Protocol):
    """One way to a peer."""

    @property
    def kind(self) -> PathKind:
        """What kind of path it makes."""

    async def dial(self, exchange: Exchange) -> Link:
        """Make a link; after an error or a cancellation nothing is left open.

        Args:
            exchange: takes an offer to the peer over the stream that is there, or waits for one.

        Raises:
            TransportError: the peer cannot be reached this way.
            HubError: the hub that this way needs cannot help.
        """


@dataclass(frozen=True, slots=True)
class RelayWay:
    """Through a hub: a circuit with TLS inside.

    Attributes:
        open_circuit: asks the hub for a circuit to the peer; raises HubError.
        hub_url: names the hub.
        certificate: this side's.
    """

    open_circuit: Callable[[], Awaitable[Pipe]]
    hub_url: str
    certificate: Certificate

    @property
    def kind(self) -> PathKind:
        """See `Way`."""
        return "relay"

    async def dial(self, exchange: Exchange) -> Link:
        """See `Way.dial`."""
        circuit = await self.open_circuit()
        return await open_relay(circuit, self.certificate, hub_url=self.hub_url, is_opener=True)


Outcome = Literal["led", "silent", "misled"]
"""How an address has done: it led to the peer, nothing answered there, or somebody else did."""


@dataclass(slots=True)
class TlsWay:
    """Straight to an address at which the peer listens.

    Attributes:
        addresses: host and port of each, tried all at once; the first that answers is used.
        certificate: this side's.
        note: is told how each address has done; must not wait.
    """

    addresses: Sequence[tuple[str, int]]
    certificate: Certificate
    note: Callable[[tuple[str, int], Outcome], None] = lambda _, __: None
    _answered: tuple[Link, tuple[str, int]] | None = None

    @property
    def kind(self) -> PathKind:
        """See `Way`."""
        return "tls"

    async def dial(self, exchange: Exchange) -> Link:
        """See `Way.dial`."""
        dialled = {asyncio.create_task(dial(*one, self.certificate)): one for one in self.addresses}
        dialling = set(dialled)
        failure: BaseException = TransportError(
            "No address of the peer is known.", code="id_unknown", phase="resolve"
        )
        try:
            while dialling:
                done, dialling = await asyncio.wait(dialling, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        dialling |= done - {task}
                        self._answered = (task.result(), dialled[task])
                        return task.result()
                    self.note(dialled[task], "silent")
                    failure = error
            raise failure
        finally:
            for task in dialling:
                task.cancel()
            for task in dialling:
                await asyncio.wait([task])
                if not task.cancelled() and task.exception() is None:
                    await task.result().close()

    def led(self, link: Link) -> None:
        """The link that `dial` gave leads to the peer."""
        self._note(link, "led")

    def misled(self, link: Link) -> None:
        """The link that `dial` gave leads to somebody else."""
        self._note(link, "misled")

    def _note(self, link: Link, outcome: Outcome) -> None:
        if self._answered is not None and self._answered[0] is link:
            self.note(self._answered[1], outcome)


@dataclass(frozen=True, slots=True)
class WebRTCWay:
    """By WebRTC: candidates are gathered at once, and offered by the hub or over the path that is there.

    Attributes:
        settings: STUN and TURN servers.
        exchange_by_hub: for as long as there is no path; None: wait for one.
        fail_seconds: how long the channel may take to open once both sides know each other's candidates.
    """

    settings: IceSettings
    exchange_by_hub: Exchange | None = None
    fail_seconds: float = webrtc.FAIL_SECONDS

    @property
    def kind(self) -> PathKind:
        """See `Way`."""
        return "webrtc"

    async def dial(self, exchange: Exchange) -> Link:
        """See `Way.dial`."""
        pending = await webrtc.offer(self.settings)
        try:
            answer = await exchange(pending.sdp)
        except BaseException:
            await pending.close()
            raise
        return await pending.accept(answer, fail_seconds=self.fail_seconds)

    async def answer(self, offer_sdp: str, send_answer: Callable[[str], None]) -> Link:
        """Answer a peer's offer and give the link when it is open.

        Raises:
            TransportError: the offer is malformed, or no channel opened in time.
        """
        pending = await webrtc.answer(offer_sdp, self.settings)
        try:
            send_answer(pending.sdp)
        except BaseException:
            await pending.close()
            raise
        return await pending.opened(fail_seconds=self.fail_seconds)
