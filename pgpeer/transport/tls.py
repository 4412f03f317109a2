"""Links by TLS 1.3 over any pipe: TCP between databases that reach each other, or a circuit through a hub.

Both sides show a self-signed certificate; `remote_fingerprint` is what the peers' signatures are bound to. So
whoever carries the pipe sees ciphertext, and cannot stand in the middle without being found out before
anything of the application flows. A frame is its length (4 bytes, big-endian) and its bytes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from OpenSSL import SSL

from pgpeer.errors import LinkClosed, TransportError
from pgpeer.transport.base import (
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    MAX_FRAME_BYTES,
    MAX_INBOX_BYTES,
    LinkPath,
    check_frame,
)
from pgpeer.transport.certificate import ALPN, Certificate, fingerprint_of
from pgpeer.transport.inbox import Inbox
from pgpeer.transport.pipe import Pipe

HANDSHAKE_SECONDS: Final = 10.0
"""How long the TLS handshake may take."""

DRAIN_SECONDS: Final = 1.0
"""How long `close` waits for the other side to take what was sent."""

_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 256 * 1024


class TlsLink:
    """A link over a pipe; made by `open_tls`. See `Link` for what the methods promise.

    A frame that is received waits here while more than `LOW_WATER_BYTES` are unread; then nothing more is
    read from the pipe, so that the sender feels it.
    """

    def __init__(
        self, pipe: Pipe, connection: SSL.Connection, certificate: Certificate, path: LinkPath
    ) -> None:
        self.path = path
        self.local_fingerprint = certificate.fingerprint
        self.remote_fingerprint = fingerprint_of(connection)
        self.bytes_sent = 0
        self.bytes_received = 0
        self._pipe = pipe
        self._connection = connection
        self._inbox = Inbox(MAX_INBOX_BYTES)
        self._partial = bytearray()
        self._buffered = 0
        self._has_output = asyncio.Event()
        self._room = asyncio.Event()
        self._is_ending = False
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._writer = self._loop.create_task(self._write())
        self._reader = self._loop.create_task(self._read())

    @property
    def buffered(self) -> int:
        """Bytes taken by `send` that the pipe has not taken yet."""
        return self._buffered

    @property
    def closed(self) -> bool:
        """Whether the link can carry nothing more."""
        return self._closed

    async def send(self, frame: bytes) -> None:
        """Take a frame; see `Link.send`."""
        check_frame(frame)
        if self._closed:
            raise LinkClosed("The link is closed.", code="local_closed")
        # OpenSSL writes to memory, which takes everything at once
        self._connection.sendall(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
        self.bytes_sent += len(frame)
        self._buffered += len(frame)
        self._has_output.set()
        if self._buffered > HIGH_WATER_BYTES:
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

    # Tasks.

    async def _write(self) -> None:
        """Pass on what OpenSSL has written, and after the last of it the end."""
        try:
            while True:
                await self._has_output.wait()
                self._has_output.clear()
                while output := _output(self._connection):
                    await self._pipe.send(output)
                    self._buffered = max(0, self._buffered - len(output))
                    if self._buffered <= LOW_WATER_BYTES:
                        self._room.set()
                self._buffered = 0
                self._room.set()
                if self._is_ending:
                    self._pipe.end()
                    return
        except LinkClosed as error:
            self._end(_lost(error))

    async def _read(self) -> None:
        try:
            while True:
                if not self._decrypt():  # first, for frames may have come along with the handshake
                    self._end(LinkClosed("The other side closed the link."))
                    return
                self._has_output.set()
                await self._inbox.until_below(LOW_WATER_BYTES)
                data = await self._pipe.receive()
                if not data:
                    self._end(LinkClosed("The connection to the peer was lost."))
                    return
                self._connection.bio_write(data)
        except LinkClosed as error:
            self._end(_lost(error))
        except SSL.Error:
            self._end(LinkClosed("What came over the encrypted connection was damaged.", code="bad_message"))

    def _decrypt(self) -> bool:
        """Take all frames that are complete; False at the end of what the other side sends."""
        while True:
            try:
                self._partial += self._connection.recv(_READ_BYTES)
            except SSL.WantReadError:
                return True
            except SSL.ZeroReturnError:
                return False
            self._take_frames()

    def _take_frames(self) -> None:
        start = 0
        while len(self._partial) - start >= _LENGTH_BYTES:
            size = int.from_bytes(self._partial[start : start + _LENGTH_BYTES], "big")
            if not 0 < size <= MAX_FRAME_BYTES:
                raise LinkClosed(
                    f"The other side sent a frame of {size} bytes, {MAX_FRAME_BYTES} are allowed.",
                    code="too_large",
                )
            end = start + _LENGTH_BYTES + size
            if len(self._partial) < end:
                break
            self._inbox.put(bytes(self._partial[start + _LENGTH_BYTES : end]))
            self.bytes_received += size
            start = end
        del self._partial[:start]

    # Ending.

    def _end(self, reason: LinkClosed, *, discard: bool = False) -> None:
        """Close once: end the inbox, free senders, and let a task free the pipe."""
        self._inbox.close(reason, discard=discard)
        if not self._closed:
            self._closed = True
            self._room.set()
            self._ending = self._loop.create_task(self._free(is_local=reason.code == "local_closed"))

    async def _free(self, *, is_local: bool) -> None:
        """Let the pipe deliver what was taken, with the end of TLS after it, then free it."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                self._connection.shutdown()
                self._is_ending = True
                self._has_output.set()
                await asyncio.wait([self._writer])
                if is_local:
                    self._reader.cancel()
                    await asyncio.wait([self._reader])
                    # a TCP connection closed with bytes unread resets, and takes back what was sent
                    while await self._pipe.receive():
                        pass
        except (TimeoutError, LinkClosed, SSL.Error):
            pass  # the other side does not answer any more; nothing is left to wait for
        self._pipe.close()
        for task in (self._reader, self._writer):
            task.cancel()
        await asyncio.wait([self._reader, self._writer])


async def open_tls(
    pipe: Pipe,
    certificate: Certificate,
    path: LinkPath,
    *,
    is_client: bool,
    expected_fingerprint: bytes | None = None,
    seconds: float = HANDSHAKE_SECONDS,
) -> TlsLink:
    """Do the TLS handshake over a pipe and return the link; after an error or a cancellation it is closed.

    Args:
        pipe: a fresh pipe; the link closes it.
        certificate: this side's.
        path: how the link describes itself.
        is_client: one side must be the client, the other one the server.
        expected_fingerprint: SHA-256 of the certificate that the other side must show, where it is known
            beforehand; otherwise `Link.remote_fingerprint` must be checked before the link is used.
        seconds: how long the handshake may take.

    Raises:
        TransportError: the other side speaks no TLS 1.3, shows another certificate, or is too slow.
    """
    connection = SSL.Connection(certificate.context(), None)
    if is_client:
        connection.set_connect_state()
    else:
        connection.set_accept_state()
    try:
        async with asyncio.timeout(seconds):
            await _shake_hands(pipe, connection)
    except TimeoutError as error:
        pipe.close()
        raise _failed(f"did not open within {seconds:g} s", code="timeout") from error
    except LinkClosed as error:
        pipe.close()
        raise _failed("was cut while it opened", code=error.code) from error
    except SSL.Error as error:
        pipe.close()
        raise _failed("was refused", code="version_mismatch", retryable=False) from error
    except BaseException:
        pipe.close()
        raise
    shown = fingerprint_of(connection)
    if not shown or connection.get_alpn_proto_negotiated() != ALPN:
        pipe.close()
        raise _failed("leads to something that is no pgpeer", code="version_mismatch", retryable=False)
    if expected_fingerprint is not None and shown != expected_fingerprint:
        pipe.close()
        raise TransportError(
            "The other side showed another certificate than the peer announced.",
            code="identity_mismatch",
            phase="identity",
            retryable=False,
            remedy="Somebody may stand between the two peers, or the address belongs to another one.",
        )
    return TlsLink(pipe, connection, certificate, path)


async def _shake_hands(pipe: Pipe, connection: SSL.Connection) -> None:
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            done = False
        except SSL.Error:
            if output := _output(connection):
                await pipe.send(output)  # the alert, so that the other side knows
            raise
        else:
            done = True
        if output := _output(connection):
            await pipe.send(output)
        if done:
            return
        data = await pipe.receive()
        if not data:
            raise LinkClosed("The other side ended the connection.")
        connection.bio_write(data)


def _output(connection: SSL.Connection) -> bytes:
    """Take what OpenSSL wants to send; empty when it has nothing."""
    try:
        return connection.bio_read(_READ_BYTES)
    except SSL.WantReadError:
        return b""


def _lost(error: LinkClosed) -> LinkClosed:
    """Say in the words of a link why its pipe is over."""
    code = "remote_closed" if error.code == "local_closed" else error.code
    sentence = str(error) if code != "remote_closed" else "The connection to the peer was lost."
    return LinkClosed(sentence, code=code, remedy=error.remedy, retryable=error.retryable)


def _failed(what: str, *, code: str, retryable: bool = True) -> TransportError:
    return TransportError(
        f"The encrypted connection to the peer {what}.",
        code=code,
        phase="tls",
        retryable=retryable,
        remedy="Check that the address and port belong to a pgpeer worker of the same version.",
    )
