"""The commands that the containers start, run as processes here."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtures.databases import Databases

PGPEER = str(Path(sys.executable).parent / "pgpeer")
READY_SECONDS = 20
STOP_SECONDS = 5


@contextmanager
def served(*arguments: str, environment: dict[str, str]) -> Iterator[str]:
    """Runs a command until its `ready` line, gives that line, and expects a clean end by SIGTERM."""
    process = subprocess.Popen(
        [PGPEER, *arguments], stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True
    )
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
        assert readable, f"pgpeer {arguments[0]} said nothing in {READY_SECONDS} s"
        line = process.stdout.readline()
        assert line.startswith("ready"), line
        yield line
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - started < STOP_SECONDS
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def test_init_worker_and_hub_run_as_the_containers_run_them(databases: Databases, tmp_path: Path) -> None:
    cluster, name = databases.bare()
    environment = {"PGPEER_DSN": cluster.dsn(name), "PGPEER_STATE_DIRECTORY": str(tmp_path)}
    with served("hub", "--listen", "127.0.0.1:0", environment={}) as hub_line:
        url = next(word for word in hub_line.split() if word.startswith("ws://"))
        init = subprocess.run(
            [PGPEER, "init", "--hub", url],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        assert init.returncode == 0, init.stderr
        assert list(tmp_path.rglob("*")), "the identity file is not in the state directory"
        with served("worker", environment=environment) as worker_line:
            assert "pg1" in worker_line
    databases.drop_named(cluster, name)
