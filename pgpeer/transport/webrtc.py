"""WebRTC data channels by aiortc: one connection, one reliable ordered channel, one complete SDP each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from pgpeer.errors import LinkClosed, TransportError
from pgpeer.transport import ice
from pgpeer.transport.base import HIGH_WATER_BYTES, LOW_WATER_BYTES, MAX_INBOX_BYTES, LinkPath, check_frame
from pgpeer.transport.ice import IceSettings
from pgpeer.transport.inbox import Inbox
from pgpeer.transport.session_description import Description, local_fingerprint, read_description

SLOW_SECONDS: Final = 4.0
"""After this long without an open channel the caller is told that connecting is slow."""

FAIL_SECONDS: Final = 20.0
"""After this long without an open channel connecting has failed."""

DRAIN_SECONDS: Final = 1.0
"""How long `close` waits for the other side to take what was sent."""

OnSlow = Callable[[str], None]
"""Called once, with the phase (`ice` or `dtls`), when connecting takes longer than `SLOW_SECONDS`."""


class WebRTCLink:
    """One data channel to a peer; made by `offer` and `answer`. See `Link` for what the methods promise."""

    def __init__(self, settings: IceSettings) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self._connection = RTCPeerConnection(ice.configuration(settings))
        self._channel = self._connection.createDataChannel("pgpeer", negotiated=True, id=0)
        ice.prepare_gathering(self._connection, settings)
        self._local_fingerprint = local_fingerprint(self._connection)
        self._remote_fingerprint = b""
        self._path: LinkPath | None = None
        self._inbox = Inbox(MAX_INBOX_BYTES)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
        self._channel.on("open", self._on_open)
        self._channel.on("message", self._on_message)
        self._channel.on("bufferedamountlow", self._room.set)
        self._channel.on("close", self._on_channel_close)
        self._connection.on("connectionstatechange", self._on_connection_state)

    @property
    def path(self) -> LinkPath:
        """The path in use: the candidate pair that ICE selected."""
        assert self._path is not None, "a link is handed out only when it is open"
        return self._path

    @property
    def local_fingerprint(self) -> bytes:
        """SHA-256 of this side's certificate (32 bytes)."""
        return self._local_fingerprint

    @property
    def remote_fingerprint(self) -> bytes:
        """SHA-256 of the certificate the other side proved possession of (32 bytes)."""
        return self._remote_fingerprint

    @property
    def buffered(self) -> int:
        """Bytes taken by `send` that SCTP has not taken yet."""
        return self._channel.bufferedAmount

    @property
    def closed(self) -> bool:
        """Whether the link can carry nothing more."""
        return self._closed

    async def send(self, frame: bytes) -> None:
        """Take a frame; see `Link.send`."""
        check_frame(frame)
        if self._closed:
            raise LinkClosed("The link is closed.", code="local_closed")
        try:
            self._channel.send(frame)
        except InvalidStateError as error:
            raise LinkClosed("The other side closed the link.") from error
        self.bytes_sent += len(frame)
        if self._channel.bufferedAmount > HIGH_WATER_BYTES:
            self._room.clear()
            await self._room.wait()
            if self._closed:
                raise LinkClosed("The link closed while frames waited to be sent.")

    async def receive(self) -> bytes:
        """Return the next frame; see `Link.receive`."""
        return await self._inbox.get()

    async def close(self) -> None:
        """Close the link; see `Link.close`. Takes at most a little longer than `DRAIN_SECONDS`."""
        self._end(LinkClosed("The link was closed here.", code="local_closed"), discard=True)
        if self._ending is not None:
            await asyncio.shield(self._ending)

    # What the engine calls.

    def _on_open(self) -> None:
        pair = ice.selected_pair(self._connection)
        if pair is None:
            self._end(LinkClosed("The connection was lost before it could be used."))
            return
        self._path = LinkPath("webrtc", "aiortc", *pair)
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_message(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self._end(LinkClosed("The other side sent text, which no pgpeer does.", code="bad_message"))
        elif not message:  # it would cost nothing of the inbox, however many wait
            self._end(LinkClosed("The other side sent an empty frame.", code="bad_message"))
        elif self._inbox.put(message):
            self.bytes_received += len(message)
        elif not self._closed:
            self._end(LinkClosed("The other side sent more than it was allowed to.", code="too_large"))

    def _on_channel_close(self) -> None:
        self._gone.set()
        self._end(LinkClosed("The other side closed the link."))

    def _on_connection_state(self) -> None:
        state = self._connection.connectionState
        if state in ("failed", "closed"):
            self._gone.set()
            self._end(LinkClosed("The connection to the peer was lost."))

    # Opening and ending.

    async def describe(self) -> str:
        """Gather candidates and return the complete local SDP."""
        await self._connection.setLocalDescription()
        if not ice.has_candidates(self._connection):
            raise TransportError(
                "This host has no network address that a peer could reach.",
                remedy="Check the network interfaces, or the TURN server when only relays may be used.",
            )
        return self._connection.localDescription.sdp

    async def hear(self, description: Description, kind: str) -> None:
        """Give the engine the peer's description."""
        self._remote_fingerprint = description.fingerprint
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(description.sdp, kind))
        except (ValueError, InvalidStateError, InvalidAccessError, OperationError) as error:
            raise TransportError(
                "The peer's session description does not fit this connection.",
                code="bad_message",
                phase="signalling",
                retryable=False,
            ) from error

    async def until_open(self, on_slow: OnSlow | None, slow: float, fail: float) -> None:
        """Wait for the channel; on failure or cancellation everything is closed."""
        try:
            done, _ = await asyncio.wait([self._opened], timeout=min(slow, fail))
            if not done and fail > slow:
                if on_slow is not None:
                    on_slow(self._phase())
                done, _ = await asyncio.wait([self._opened], timeout=fail - slow)
            if not done:
                raise self._failure(f" within {fail:g} s", code="timeout")
            self._opened.result()
        except BaseException:
            await self.close()
            raise

    def _phase(self) -> str:
        return "dtls" if self._connection.iceConnectionState == "completed" else "ice"

    def _failure(self, when: str = "", *, code: str = "ice_failed") -> TransportError:
        phase = self._phase()
        if phase == "dtls":
            return TransportError(
                f"The encrypted channel to the peer did not open{when}.",
                code=code,
                phase=phase,
                remedy="Try again; if it stays, check that both sides run compatible versions of pgpeer.",
            )
        return TransportError(
            f"No network path to the peer was found{when}.",
            code=code,
            phase=phase,
            remedy="Check that UDP is not blocked; strict NATs need a TURN server in peer.stun_server.",
        )

    def _end(self, reason: LinkClosed, *, discard: bool = False) -> None:
        """Close once: end the inbox, free senders, and let a task free the sockets."""
        if not self._closed:
            self._closed = True
            self._inbox.close(reason, discard=discard)
            self._room.set()
            if not self._opened.done():
                self._opened.set_exception(self._failure())
            self._ending = asyncio.get_running_loop().create_task(self._free())

    async def _free(self) -> None:
        """Let the channel deliver what it took, then free the connection's sockets and tasks."""
        if self._channel.readyState == "open":
            self._channel.close()
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._gone.wait()
            except TimeoutError:
                pass  # the other side does not answer any more; nothing is left to wait for
        await self._connection.close()
        if self._opened.done():
            self._opened.exception()  # it may be that nobody waits for it any more


class PendingOffer:
    """An offer under way: send `sdp` to the peer and give its answer to `accept`, or `close` it.

    Attributes:
        sdp: the complete offer.
    """

    def __init__(self, link: WebRTCLink, sdp: str) -> None:
        self.sdp = sdp
        self._link = link

    async def accept(
        self,
        answer_sdp: str,
        *,
        on_slow: OnSlow | None = None,
        slow_seconds: float = SLOW_SECONDS,
        fail_seconds: float = FAIL_SECONDS,
    ) -> WebRTCLink:
        """Take the peer's answer and return the open link.

        After an error or a cancellation everything is closed.

        Raises:
            TransportError: the answer is malformed, or no channel opened in time.
        """
        try:
            await self._link.hear(read_description(answer_sdp), "answer")
        except BaseException:
            await self._link.close()
            raise
        await self._link.until_open(on_slow, slow_seconds, fail_seconds)
        return self._link

    async def close(self) -> None:
        """Give the offer up and free its sockets."""
        await self._link.close()


class PendingAnswer:
    """An answer under way: send `sdp` to the peer and await `opened`, or `close` it.

    Attributes:
        sdp: the complete answer.
    """

    def __init__(self, link: WebRTCLink, sdp: str) -> None:
        self.sdp = sdp
        self._link = link

    async def opened(
        self,
        *,
        on_slow: OnSlow | None = None,
        slow_seconds: float = SLOW_SECONDS,
        fail_seconds: float = FAIL_SECONDS,
    ) -> WebRTCLink:
        """Return the link when it is open; after an error or a cancellation everything is closed.

        Raises:
            TransportError: no channel opened in time.
        """
        await self._link.until_open(on_slow, slow_seconds, fail_seconds)
        return self._link

    async def close(self) -> None:
        """Give the answer up and free its sockets."""
        await self._link.close()


async def offer(settings: IceSettings | None = None) -> PendingOffer:
    """Gather candidates (at most about two seconds) and make an offer.

    Raises:
        TransportError: this host has no address to offer.
        ConfigError: a STUN or TURN URL is malformed.
    """
    link = WebRTCLink(settings or IceSettings())
    try:
        return PendingOffer(link, await link.describe())
    except BaseException:
        await link.close()
        raise


async def answer(offer_sdp: str, settings: IceSettings | None = None) -> PendingAnswer:
    """Answer a peer's offer; connecting starts at once.

    Raises:
        TransportError: the offer is malformed, or this host has no address to offer.
        ConfigError: a STUN or TURN URL is malformed.
    """
    description = read_description(offer_sdp)
    link = WebRTCLink(settings or IceSettings())
    try:
        await link.hear(description, "offer")
        return PendingAnswer(link, await link.describe())
    except BaseException:
        await link.close()
        raise
