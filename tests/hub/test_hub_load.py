"""Row E19: many peers, each in a collaboration of two, at one hub.

`PGPEER_TEST_HUB_PEERS=1000` for the full size (`make test-hub-load`); 100 otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = int(os.environ.get("PGPEER_TEST_HUB_PEERS", "100"))
HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_e19_peers_in_pairs_meet_in_30_s_and_the_hub_stays_small_and_idle(
    record_property: pytest.RecordProperty,
) -> None:
    command = [sys.executable, "-m", "pgpeer.cli", "hub", "--listen", "127.0.0.1:0"]
    hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    try:
        _, url = hub.stdout.readline().split()
        idle_seconds = "30" if PEERS >= 1000 else "11"  # longer than from ping to ping
        done = subprocess.run(
            [sys.executable, str(HERE / "hub_load.py"), url, str(PEERS), str(hub.pid), idle_seconds],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    finally:
        hub.terminate()
        hub.stdout.close()
        assert hub.wait(10) == 0
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(done.stdout)
    record_property("figures", done.stdout.strip())
    assert figures["peers"] == PEERS
    assert figures["closed"] == 0
    assert figures["paired_seconds"] < 30
    assert figures["hub_rss_mib"] < 250
    assert figures["idle_cores"] < 0.5
