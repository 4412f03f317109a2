"""A real coturn takes the hub's credentials, and no others. Skipped where coturn is not installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator

import pytest
from aioice import stun, turn
from meeting import ALICE

from pgpeer.signaling.turn import TurnService

SECRET = b"north wind"


@pytest.fixture
async def coturn() -> AsyncIterator[tuple[str, int]]:
    """Its UDP address."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed on this machine")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.1",
        "listening-port": str(port),
        "realm": "pgpeer",
        "static-auth-secret": SECRET.decode(),
        "log-file": "stdout",
        "pidfile": "/dev/null",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    flags = ["-n", "--use-auth-secret", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers"]
    process = await asyncio.create_subprocess_exec(
        program, *flags, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield "127.0.0.1", port
    finally:
        process.terminate()
        await process.wait()


async def allocate(address: tuple[str, int], username: str, credential: str) -> None:
    """Allocate a relayed address; patient while the server starts."""
    for attempt in range(50):
        try:
            transport, _ = await turn.create_turn_endpoint(
                asyncio.DatagramProtocol, server_addr=address, username=username, password=credential
            )
        except (stun.TransactionTimeout, ConnectionError):
            if attempt == 49:
                raise
            await asyncio.sleep(0.1)
        else:
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            transport.close()
            await asyncio.sleep(0.1)
            return


async def test_a_real_turn_server_takes_what_the_hub_gives_and_nothing_else(coturn: tuple[str, int]) -> None:
    service = TurnService((f"turn:127.0.0.1:{coturn[1]}",), SECRET)
    good = service.offer(1, ALICE.peer_id, time.time(), 600)
    await allocate(coturn, good.username, good.credential)

    stale = service.offer(2, ALICE.peer_id, time.time() - 1200, 600)
    forged = TurnService(service.urls, b"south wind").offer(3, ALICE.peer_id, time.time(), 600)
    for refused in (stale, forged):
        with pytest.raises(stun.TransactionFailed):
            await allocate(coturn, refused.username, refused.credential)
