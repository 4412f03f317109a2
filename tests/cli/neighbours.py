"""What doctor meets: hubs, proxies, STUN and TURN servers, good ones and wrong ones; and asking doctor."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest
from aioice import stun
from cli.conftest import Run, start
from fixtures.databases import Database

SECRET = "north wind"
Findings = dict[str, list[dict[str, Any]]]


def examine(run: Run, database: Database, code: int = 1) -> Findings:
    """What doctor finds, by check; the exit code is 1 because the key of a test's database is in no file."""
    outcome = run("doctor", "--dsn", database.dsn, "--json")
    assert outcome.code == code, outcome.out
    found: Findings = {}
    for one in outcome.json:
        assert list(one) == ["check", "state", "kind", "detail", "remedy", "milliseconds"]
        assert one["state"] in {"ok", "warn", "fail"}
        assert bool(one["remedy"]) == (one["state"] != "ok"), one
        found.setdefault(one["check"], []).append(one)
    return found


def enter(database: Database, table: str, **row: object) -> None:
    columns = ", ".join(row)
    places = ", ".join(["%s"] * len(row))
    database.connect().execute(
        f"INSERT INTO peer.{table} ({columns}) VALUES ({places})".encode(), list(row.values())
    )


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def hub(*options: str) -> Iterator[str]:
    """A hub process; its URL."""
    process = start("hub", "--listen", "127.0.0.1:0", "--memory", *options)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


@contextmanager
def stun_server() -> Iterator[str]:
    """A STUN server (RFC 8489, binding requests only) in a thread; its URL."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (received := serving.recvfrom(2048))[0] != b"stop":
                request = stun.parse_message(received[0])
                answer = stun.Message(
                    stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id
                )
                answer.attributes["XOR-MAPPED-ADDRESS"] = received[1]
                serving.sendto(bytes(answer), received[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"stun:127.0.0.1:{serving.getsockname()[1]}"
        serving.sendto(b"stop", serving.getsockname())
        thread.join()


@pytest.fixture(scope="module")
def coturn() -> Iterator[str]:
    """A real TURN server with the hub's scheme of names and passwords; its URL."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed on this machine")
    port = free_port(socket.SOCK_DGRAM)
    flags = ["-n", "--use-auth-secret", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers"]
    options = ["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", str(port)]
    names = [
        "--realm",
        "pgpeer",
        "--static-auth-secret",
        SECRET,
        "--log-file",
        "stdout",
        "--pidfile",
        "/dev/null",
    ]
    process = subprocess.Popen(
        [program, *flags, *options, *names], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:  # it listens for TCP as well
                break
        time.sleep(0.05)
    yield f"turn:127.0.0.1:{port}"
    process.terminate()
    process.wait()


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relayed:
        try:
            relayed.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Proxy(socketserver.BaseRequestHandler):
    """Passes everything on to a port of this machine, to another host name and back with another date."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, ProxyServer)
        with socket.create_connection(("127.0.0.1", server.target)) as hub:
            forth = threading.Thread(target=self.copy, args=(self.request, hub, server.host))
            forth.start()
            self.copy(hub, self.request, b"Date: " + server.date().encode())
            forth.join()

    def copy(self, source: socket.socket, sink: socket.socket, header: bytes) -> None:
        """Copies until the end; one header is replaced by another."""
        name = header.partition(b" ")[0]
        try:
            while data := source.recv(65536):
                is_head = data.startswith((b"HTTP/", b"GET "))
                sink.sendall(re.sub(name + rb" [^\r]*", header, data, count=1) if is_head else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()


class ProxyServer(socketserver.ThreadingTCPServer):
    """A proxy in front of a hub, whose clock is so many seconds ahead."""

    target = 0
    ahead = 0.0
    host = b"Host: hub.example"

    def date(self) -> str:
        return formatdate(time.time() + self.ahead, usegmt=True)


@contextmanager
def hub_behind_a_proxy(ahead: float, *, is_told: bool = True) -> Iterator[str]:
    with ProxyServer(("127.0.0.1", 0), Proxy) as server:
        name = f"127.0.0.1:{server.server_address[1]}"
        with hub(*(["--public-name", name] if is_told else [])) as url:
            server.target, server.ahead = int(url.rpartition(":")[2]), ahead
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            yield f"ws://{name}"
            server.shutdown()
            thread.join()
