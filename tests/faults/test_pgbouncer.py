"""A worker behind PgBouncer: a pool in session mode works, one in transaction mode is refused with a reason."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from fixtures.databases import Database
from system.processes import Peer, Program, wait_until_equal

Make = Callable[..., Peer]
Pool = Callable[[Database, str], str]

SETTINGS = """\
[databases]
* = host={sockets} port={port} user=postgres
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {directory}
auth_type = any
pool_mode = {mode}
max_client_conn = 100
default_pool_size = 20
logfile = {directory}/log
{user}
"""


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A function that puts PgBouncer in front of a database and gives the address."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed on this machine")
    directory = Path(tempfile.mkdtemp(prefix="pgpeer-pool-"))
    started: list[subprocess.Popen[bytes]] = []

    def start(database: Database, mode: str) -> str:
        words = parse_qs(urlsplit(database.dsn).query)
        account = database.cluster.account
        if account is not None:
            os.chown(directory, account.uid, account.gid)
        settings = directory / "settings.ini"
        settings.write_text(
            SETTINGS.format(
                sockets=words["host"][0],
                port=words["port"][0],
                directory=directory,
                mode=mode,
                user="" if account is None else f"user = {account.name}",
            )
        )
        settings.chmod(0o644)
        started.append(subprocess.Popen([program, "-q", settings], stderr=subprocess.DEVNULL))
        address = f"postgresql://postgres@/{database.name}?host={directory}&port=6432"
        deadline = time.monotonic() + 10
        while True:
            try:
                psycopg.connect(address).close()
                return address
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.05)

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def launch(peer: Peer, address: str) -> Program:
    return Program(peer.log, "worker_program.py", address, str(peer.identity))


def test_a_worker_works_behind_a_pool_in_session_mode(atlas: Make, make_peer: Make, pool: Pool) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.worker = launch(bob, pool(bob.database, "session"))
    bob.worker.ready()
    bob.join(ann)
    for n in range(50):
        ann.run("UPDATE public.city SET name = 'from ann' WHERE id = %s", n + 1)
        bob.run("UPDATE public.city SET name = 'from bob' WHERE id = %s", n + 101)
    wait_until_equal(ann, bob)
    assert ann.value("SELECT count(*) FROM public.city WHERE name = 'from bob'") == 50
    code, seconds = bob.end()
    assert code == 0
    assert seconds < 5


def test_a_worker_refuses_a_pool_in_transaction_mode_and_says_why(make_peer: Make, pool: Pool) -> None:
    ann = make_peer("ann")
    refused = launch(ann, pool(ann.database, "transaction"))
    assert refused.process.wait(20) == 1
    refused.end()
    last = refused.log.read_text().splitlines()[-1]
    assert "pooler that gives sessions to single transactions" in last
    assert "pool_mode = session" in last
    # nothing was left behind that would keep a worker out
    ann.start()
