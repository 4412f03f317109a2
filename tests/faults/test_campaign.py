"""Kills of workers, servers and the hub at random moments: nothing acknowledged is lost, torn or repeated.

`PGPEER_FAULT_KILLS` (12) says how many kills there are in all, `PGPEER_FAULT_SEED` (5: servers end in all four
ways) which ones; campaigns of at most fifty kills take turns with and without standbys. `make test-faults` runs a thousand.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fixtures.databases import Databases

from faults.campaign import Campaign

KILLS = int(os.environ.get("PGPEER_FAULT_KILLS", "12"))
SEED = int(os.environ.get("PGPEER_FAULT_SEED", "5"))
KILLS_AT_ONCE = 50


@pytest.mark.slow
@pytest.mark.parametrize("number", range((KILLS + KILLS_AT_ONCE - 1) // KILLS_AT_ONCE))
def test_random_kills_lose_and_repeat_nothing(databases: Databases, tmp_path: Path, number: int) -> None:
    seed, workers = SEED + number, 1 + number % 2
    print(f"PGPEER_FAULT_SEED={seed}, workers of each peer: {workers}")
    campaign = Campaign(databases, tmp_path, seed, workers)
    try:
        campaign.run(min(KILLS_AT_ONCE, KILLS - number * KILLS_AT_ONCE))
        campaign.audit()
    finally:
        campaign.close()
    print(dict(campaign.done), [site.writer.ledger.size for site in campaign.sites])
