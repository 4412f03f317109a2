"""Agrees with a peer on a link by signals through a hub: an offer, and its answer."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from pgpeer.errors import HubError, RemoteProtocolError, TransportError
from pgpeer.identity.key import SIGNATURE_BYTES
from pgpeer.signaling.signal import (
    CLOCK_LEEWAY_SECONDS,
    LIFETIME_SECONDS,
    ReplayGuard,
    Signal,
    SignalKind,
    read_signal,
    sign_signal,
)
from pgpeer.transport import webrtc
from pgpeer.transport.contact import REFUSALS
from pgpeer.transport.hub_events import SignalReceived
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.ways import Exchange
from pgpeer.transport.webrtc import WebRTCLink
from pgpeer.worker.clock import unix_time
from pgpeer.worker.office import Office

ANSWER_SECONDS: Final = 10.0
"""So long an offer waits for its answer."""

Send = Callable[[str, str, str, bytes], Awaitable[bool]]
"""Sends a signal: hub, peer id, session id, plain text. False: the peer is not online."""


class Negotiator:
    """Exchanges offers and answers.

    Args:
        office: whose key signs.
        send: gives a signal to a hub; raises HubError.
    """

    def __init__(self, office: Office, send: Send) -> None:
        self._office = office
        self._send = send
        self._answers: dict[str, tuple[str, asyncio.Future[str]]] = {}
        self._guard = ReplayGuard()
        self._log = structlog.get_logger("pgpeer.negotiator")

    def exchange_with(self, url: str, peer_id: str) -> Exchange:
        """Give a function that takes offers to a peer through a hub (see `exchange`)."""

        async def exchange(sdp: str) -> str:
            return await self.exchange(url, peer_id, sdp)

        return exchange

    async def exchange(self, url: str, peer_id: str, sdp: str) -> str:
        """Send an offer to a peer through a hub and give the peer's answer.

        Raises:
            TransportError: the peer does not answer, or refuses.
            HubError: the hub is not connected or refuses.
        """
        sid = secrets.token_urlsafe(16)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[sid] = (peer_id, answer)
        try:
            if not await self._send(url, peer_id, sid, self._signed(peer_id, sid, "offer", sdp)):
                raise TransportError("The peer is not online.", code="peer_offline", phase="signalling")
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError as error:
            raise TransportError(
                f"The peer did not answer within {ANSWER_SECONDS:g} s.", code="timeout", phase="signalling"
            ) from error
        finally:
            del self._answers[sid]

    async def answer(self, url: str, offer: Signal, settings: IceSettings) -> WebRTCLink:
        """Answer an offer and give the link when it is open.

        Raises:
            TransportError: the offer is malformed, or the peer cannot be reached.
            HubError: the hub is not connected or refuses.
        """
        pending = await webrtc.answer(offer.sdp, settings)
        try:
            signed = self._signed(offer.sender, offer.sid, "answer", pending.sdp)
            await self._send(url, offer.sender, offer.sid, signed)
        except BaseException:
            await pending.close()
            raise
        return await pending.opened(fail_seconds=self._office.view.connect_timeout)

    async def reject(self, url: str, offer: Signal, code: str) -> None:
        """Tell a peer that its offer is not taken, and why: a code of `REFUSALS`."""
        try:
            signed = self._signed(offer.sender, offer.sid, "reject", code)
            await self._send(url, offer.sender, offer.sid, signed)
        except HubError:
            pass  # the other side's time-out tells it

    def take(self, received: SignalReceived) -> Signal | None:
        """Check a signal; gives it when it is an offer. Answers go to the offer that waits for them.

        Raises:
            RemoteProtocolError: the sender's clock and this one differ too much. All else is only logged.
        """
        try:
            signal = read_signal(
                received.plaintext,
                sender=received.sender,
                recipient=self._office.key.peer_id,
                sid=received.sid,
                now=unix_time(),
                guard=self._guard,
            )
        except RemoteProtocolError as error:
            self._log.warning("signal refused", peer=received.sender, reason=str(error))
            if error.code == "replay" and _is_misdated(received.plaintext):
                raise
            return None
        self._office.dating.heard(signal.sender, signal.expires - LIFETIME_SECONDS)
        if signal.kind == "offer":
            return signal
        peer_id, answer = self._answers.get(signal.sid, ("", None))
        if answer is None or peer_id != signal.sender or answer.done():
            return None
        if signal.kind == "answer":
            answer.set_result(signal.sdp)
        else:
            answer.set_exception(
                TransportError(
                    "The peer refused to connect.",
                    code=signal.sdp if signal.sdp in REFUSALS else "refused_policy",
                    phase="signalling",
                    remedy="It must have this database as a member, or an open invite for it.",
                )
            )
        return None

    def _signed(self, peer_id: str, sid: str, kind: SignalKind, sdp: str) -> bytes:
        key = self._office.key
        expires = int(unix_time()) + LIFETIME_SECONDS
        return sign_signal(
            key, Signal(sid, key.peer_id, peer_id, kind, sdp, secrets.token_bytes(16), expires)
        )


def _is_misdated(plaintext: bytes) -> bool:
    """Whether a signal, whose signature was checked, was made at another time of day than now."""
    made: int = json.loads(plaintext[SIGNATURE_BYTES:])["expires"] - LIFETIME_SECONDS
    return abs(made - unix_time()) > CLOCK_LEEWAY_SECONDS
