"""The commands that the containers start, run as processes here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixtures.databases import Databases
from install.conftest import ExtensionServer

Run = Callable[..., list[tuple[object, ...]]]
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


def pgpeer(*words: str, state: Path) -> str:
    environment = {**os.environ, "PGPEER_STATE_DIRECTORY": str(state)}
    result = subprocess.run(
        [PGPEER, *words], env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_a_database_with_the_extension_exchanges_rows_with_one_that_init_prepared(
    extension_server: ExtensionServer, databases: Databases, run: Run, tmp_path: Path
) -> None:
    cluster, name = databases.bare()
    extended, migrated = extension_server.bare(), cluster.dsn(name)
    state = {"PGPEER_STATE_DIRECTORY": str(tmp_path)}
    run(extended, "CREATE EXTENSION pgpeer", "CREATE TABLE public.city (id int PRIMARY KEY, name text)")
    run(extended, "INSERT INTO public.city SELECT n, 'city ' || n FROM generate_series(1, 50) AS n")
    with served("hub", "--listen", "127.0.0.1:0", environment={}) as line:
        for dsn in (extended, migrated):
            pgpeer("init", "--dsn", dsn, "--hub", line.split()[1], state=tmp_path)
        with (
            served("worker", "--dsn", extended, environment=state),
            served("worker", "--dsn", migrated, environment=state),
        ):
            pgpeer("bundle", "create", "atlas", "--dsn", extended, state=tmp_path)
            pgpeer("track", "atlas", "public.city", "--dsn", extended, state=tmp_path)
            link = pgpeer("invite", "atlas", "--dsn", extended, state=tmp_path)
            pgpeer("join", link, "--dsn", migrated, "--timeout", "60", state=tmp_path)
            run(migrated, "UPDATE public.city SET name = 'there' WHERE id = 7")
            deadline = time.monotonic() + 30
            while run(extended, "SELECT name FROM public.city WHERE id = 7") != [("there",)]:
                assert time.monotonic() < deadline, "the change did not arrive"
                time.sleep(0.05)
            findings = json.loads(pgpeer("doctor", "--dsn", extended, "--json", state=tmp_path))
            assert [finding for finding in findings if finding["state"] != "ok"] == []
            hashes = [run(dsn, "SELECT peer.state_hash('atlas')") for dsn in (extended, migrated)]
            assert hashes[0] == hashes[1]
    databases.drop_named(cluster, name)
