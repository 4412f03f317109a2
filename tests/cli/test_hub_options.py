"""Options of `pgpeer hub` that only a running hub can prove."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from cli.neighbours import hub

from pgpeer.signaling.limits import HubLimits


def shake_hands(url: str, stack: ExitStack, client: int) -> bytes:
    """Open a WebSocket as a proxy would for one of its clients, sign nothing, and give the first frame."""
    host, _, port = url.removeprefix("ws://").partition(":")
    connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
    connection.sendall(
        f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"X-Forwarded-For: 203.0.113.7, 192.0.2.{client}\r\n\r\n".encode()
    )
    received = b""
    while not received.partition(b"\r\n\r\n")[2] and (data := connection.recv(4096)):
        received += data
    return received.partition(b"\r\n\r\n")[2]


def greeted(url: str, clients: int) -> int:
    """How many of so many clients behind one proxy the hub greets while none of them signs in."""
    with ExitStack() as stack:
        return sum(b"hello" in shake_hands(url, stack, client) for client in range(1, clients + 1))


def test_a_proxy_that_is_named_speaks_for_its_clients_and_no_other_does() -> None:
    limit = HubLimits().unauthenticated_per_address
    with hub("--proxy", "127.0.0.1") as behind, hub() as open_to_all:
        assert greeted(behind, limit + 4) == limit + 4
        assert greeted(open_to_all, limit + 4) == limit
