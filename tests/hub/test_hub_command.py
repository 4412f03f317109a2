"""`pgpeer hub` as a process, with its options."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from meeting import ALICE, listed

from pgpeer.transport.hub_link import HubClient


@contextmanager
def serving(*words: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """A hub process; gives its URL and stops it."""
    command = [sys.executable, "-m", "pgpeer.cli", "hub", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        word, url = process.stdout.readline().split()
        assert word == "ready"
        yield url
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(10) == 0


def refused(*words: str) -> str:
    command = [sys.executable, "-m", "pgpeer.cli", "hub", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "remedy:" in done.stderr
    return done.stderr


def figures(url: str) -> str:
    with urllib.request.urlopen(url.replace("ws://", "http://") + "/metrics", timeout=5) as response:
        return str(response.read().decode())


async def register(url: str) -> None:
    client = HubClient(url, ALICE, "")
    await client.connect()
    await client.register(listed(ALICE, "n", time.time_ns() // 1_000_000), 600)
    await client.close()


async def found(url: str) -> int:
    client = HubClient(url, ALICE, "")
    await client.connect()
    members = await client.discover("n")
    await client.close()
    return len(members.registrations)


async def test_without_a_database_it_makes_one_that_lasts_as_long_as_its_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = Path("/tmp") / f"pgpeer-hub-data-{os.getpid()}"
    environment = {**os.environ, "PGPEER_DATA_DIRECTORY": str(data)}
    try:
        for expected in (0, 1):
            with serving("--listen", f"127.0.0.1:{port}", environment=environment) as url:
                assert "pgpeer_hub_store_durable 1.0" in figures(url)
                assert await found(url) == expected
                await register(url)
        assert [path.name for path in data.iterdir()] == [f"hub-{port}"]
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def test_it_keeps_its_state_in_the_database_that_it_is_given(hub_dsn: str) -> None:
    for _ in range(2):
        with serving("--listen", "127.0.0.1:0", "--dsn", hub_dsn) as url:
            await register(url)
    with psycopg.connect(hub_dsn) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM hub.registration), (SELECT count(*) FROM hub.process)"
        ).fetchone()
    assert row == (1, 0)  # a process that ends well takes itself off the list


async def test_it_keeps_nothing_when_it_is_told_so() -> None:
    with serving("--listen", "127.0.0.1:0", "--memory") as url:
        assert "pgpeer_hub_store_durable 0.0" in figures(url)


def test_it_gives_turn_credentials_for_the_servers_it_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("north\n")
    words = ["--listen", "127.0.0.1:0", "--memory", "--turn-url", "turn:127.0.0.1:3478"]
    with serving(*words, "--turn-secret-file", str(secret)) as url:
        assert url.startswith("ws://")
    assert "turn-secret-file" in refused(*words)
    assert "cannot be read" in refused(*words, "--turn-secret-file", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--memory", "--dsn", "dbname=x"], "exclude each other"),
        (["--tls-cert", "/nowhere"], "belong together"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "cannot be used"),
        (["--listen", "127.0.0.1:0", "--dsn", "host=/nowhere"], "cannot be reached"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(words: list[str], says: str) -> None:
    assert says in refused(*words)
