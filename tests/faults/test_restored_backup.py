"""A failover to a backup that lost the last of what was written: others give it back, and nothing is doubled."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.databases import Databases
from system.processes import wait_until, wait_until_equal

from faults.campaign import Campaign

LOST_SECONDS = 8.0


@pytest.fixture
def campaign(databases: Databases, tmp_path: Path) -> Iterator[Campaign]:
    made = Campaign(databases, tmp_path, random.randrange(2**31))
    yield made
    made.close()


def test_what_a_restored_backup_lost_comes_back_and_every_acknowledged_write_stands(
    campaign: Campaign, tmp_path: Path
) -> None:
    ann, bob = campaign.sites
    wait_until_equal(ann.peer, bob.peer)
    # a backup of the stopped server; the worker's key and its ledger lie outside of it and live on
    ann.end_workers(signal.SIGTERM)
    ann.cluster.stop()
    subprocess.run(["cp", "-a", ann.data, tmp_path / "backup"], check=True)
    ann.cluster.start()
    ann.start_workers(1)
    for site in campaign.sites:
        site.writer.start()
    time.sleep(LOST_SECONDS)
    ann.writer.stop()
    # all that ann's people were told has reached bob, who goes on writing; then ann's server is lost
    counted = ("SELECT n >= %s FROM public.counter WHERE id = %s", ann.writer.ledger.counted, ann.name)
    if ann.writer.ledger.counted:
        bob.peer.wait_until(*counted)
    wait_until(
        lambda: {row[0] for row in bob.peer.run("SELECT id FROM public.note")} >= ann.writer.ledger.here,
        "what ann wrote, at bob",
        60.0,
        ann.peer.log,
    )
    epoch = ann.peer.value("SELECT epoch FROM peer_internal.identity")
    told = ann.writer.ledger.size
    assert told > 50
    ann.end_workers(signal.SIGKILL)
    ann.cluster.stop()
    shutil.rmtree(ann.data)
    subprocess.run(["cp", "-a", tmp_path / "backup", ann.data], check=True)
    ann.cluster.start()
    assert ann.peer.value("SELECT count(*) FROM public.note") < len(ann.writer.ledger.here)
    # people write to the restored server before its worker runs
    ann.peer.run("INSERT INTO public.note VALUES ('early', 'before the worker')")
    ann.writer.ledger.here.add("early")
    ann.start_workers(1)
    assert ann.peer.value("SELECT epoch FROM peer_internal.identity") != epoch
    time.sleep(2)
    bob.writer.stop()
    campaign.audit()
    for site in campaign.sites:
        # one history: no number of an author was given twice
        doubled = "SELECT author_id, epoch, seq FROM peer_internal.commit GROUP BY 1, 2, 3 HAVING count(DISTINCT digest) > 1"
        assert site.peer.run(doubled) == []
    assert (
        ann.peer.value(
            "SELECT count(*) FROM peer.event WHERE kind = 'epoch-renewed' AND code = 'ledger_fork'"
        )
        == 1
    )
