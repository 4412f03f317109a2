"""`pgpeer demo` as its user runs it: it tells the story, it cleans up, it can be left running."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from cli.conftest import Run, start

from pgpeer.config import Settings


@pytest.fixture
def data_directory() -> Path:
    """Where demos make their folder: the usual place, as the account that runs the servers must enter it."""
    return Settings.read().data_directory


def demos(directory: Path) -> set[Path]:
    return set(directory.glob("demo-*"))


def processes_of(folder: Path) -> list[psutil.Process]:
    return [
        process for process in psutil.process_iter(["cmdline"]) if str(folder) in str(process.info["cmdline"])
    ]


@pytest.mark.slow
def test_the_demo_tells_the_whole_story_and_leaves_nothing_behind(data_directory: Path) -> None:
    before = demos(data_directory)
    process = start("demo", "--small")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    hashes = re.findall(r"state hash ([0-9a-f]{64})", out)
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    assert "path: webrtc" in out
    assert re.search(r"tokyo  host \S+:\d+/udp", out)
    assert "one conflict, the same on both" in out
    assert '"name": "İstanbul", "population": 16000000' in out
    assert re.search(r"worker pid (\d+).*\n.*worker pid (?!\1)\d+", out)
    assert demos(data_directory) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_everything_down(data_directory: Path, number: signal.Signals) -> None:
    before = demos(data_directory)
    process = start("demo", "--small")
    assert process.stdout is not None
    folder = None
    for line in process.stdout:
        if "worker pid" in line:
            (folder,) = demos(data_directory) - before
            break
    assert folder is not None
    assert len(processes_of(folder)) >= 4
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not folder.exists()
    assert processes_of(folder) == []


@pytest.mark.slow
def test_a_kept_demo_runs_on_until_it_is_stopped(run: Run) -> None:
    process = start("demo", "--small", "--keep")
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    found = re.search(r"pgpeer demo --stop (\S+)", out)
    assert found is not None
    folder = Path(found[1])
    try:
        paris, tokyo = re.findall(r"psql '([^']+)'", out)
        with psycopg.connect(paris) as a, psycopg.connect(tokyo, autocommit=True) as b:
            a.execute("UPDATE public.continent SET name = 'Europa' WHERE code = 'EU'")
            a.commit()
            deadline = time.monotonic() + 10
            query = "SELECT name FROM public.continent WHERE code = 'EU'"
            while b.execute(query).fetchone() != ("Europa",):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        stopped = run("demo", "--stop", str(folder))
    assert stopped.code == 0
    assert not folder.exists()
    assert processes_of(folder) == []
    assert run("demo", "--stop", str(folder)).code == 1
