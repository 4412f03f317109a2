"""Runs the proof of one path (`path_proof`) over its link."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pgpeer.errors import LinkClosed, RemoteProtocolError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import Link
from pgpeer.transport.path_proof import (
    NONCE_BYTES,
    PROOF_FAIL_SECONDS,
    Hello,
    PathProof,
    read_hello,
    read_proof,
    refusal,
)


@dataclass(frozen=True, slots=True)
class Proven:
    """A path whose both ends are proven.

    Attributes:
        link: the link; nothing else has passed on it.
        local: this side's hello.
        remote: the other side's.
        is_opener: whether this side opened the path.
    """

    link: Link
    local: Hello
    remote: Hello
    is_opener: bool


async def prove_as_opener(key: PrivateKey, link: Link, peer_id: str, token: bytes) -> Proven:
    """Prove who is at both ends of a link that this side opened; on any failure the link is closed.

    Args:
        key: this side's key.
        link: a fresh link.
        peer_id: whom the other side must be.
        token: of this side's half of the stream.

    Raises:
        TransportError: the other side refused or took too long.
        RemoteProtocolError: the other side is somebody else or broke the rules.
    """

    async def prove() -> Proven:
        hello = Hello(token, secrets.token_bytes(NONCE_BYTES), key.peer_id, peer_id)
        proof = PathProof(
            key, "opener", link.path.kind, link.local_fingerprint, link.remote_fingerprint, hello
        )
        await link.send(hello.encode())
        remote = read_hello(await link.receive())
        proof.take_hello(remote)
        proof.check(read_proof(await link.receive()))
        await link.send(proof.proof())
        return Proven(link, hello, remote, True)

    return await _in_time(link, prove)


async def prove_as_taker(
    key: PrivateKey, link: Link, token_for: Callable[[str], bytes], peer_id: str = ""
) -> Proven:
    """Prove who is at both ends of a link that the other side opened; on any failure the link is closed.

    Args:
        key: this side's key.
        link: a fresh link.
        token_for: gives the token of this side's half of the stream with a peer, who is not proven yet.
        peer_id: whom the other side must be; empty for anybody.

    Raises:
        TransportError: the other side took too long or went away.
        RemoteProtocolError: the other side is not who it says, or broke the rules.
    """

    async def prove() -> Proven:
        remote = read_hello(await link.receive())
        nonce = secrets.token_bytes(NONCE_BYTES)
        hello = Hello(token_for(remote.sender), nonce, key.peer_id, peer_id or remote.sender)
        proof = PathProof(
            key, "taker", link.path.kind, link.local_fingerprint, link.remote_fingerprint, hello
        )
        proof.take_hello(remote)
        await link.send(hello.encode())
        await link.send(proof.proof())
        proof.check(read_proof(await link.receive()))
        return Proven(link, hello, remote, False)

    return await _in_time(link, prove)


async def _in_time(link: Link, prove: Callable[[], Awaitable[Proven]]) -> Proven:
    try:
        async with asyncio.timeout(PROOF_FAIL_SECONDS):
            return await prove()
    except TimeoutError as error:
        await link.close()
        raise TransportError(
            f"The other side did not prove who it is within {PROOF_FAIL_SECONDS:g} s.",
            code="timeout",
            phase="identity",
        ) from error
    except RemoteProtocolError as error:
        try:
            await link.send(refusal(error.code))
        except LinkClosed:
            pass  # it is gone already
        await link.close()
        raise
    except BaseException:
        await link.close()
        raise
