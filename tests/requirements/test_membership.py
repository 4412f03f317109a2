"""Members learn of each other by the hub's push, on a clock that jumps (rows E7 and E16: below five seconds).

The same over sockets is in tests/hub/test_namespaces_and_mail.py. Here nothing depends on the machine's load:
the time that is measured is what the protocol and the hub's timers take, with frames that take time too.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual_time import in_virtual_time

from requirements.town import Member, Town, clock

SECONDS = 5.0
LATENCY = 0.25


@pytest.mark.parametrize("seed", range(3))
def test_e7_e16_whoever_joins_or_leaves_is_known_to_all_within_five_seconds(seed: int) -> None:
    in_virtual_time(meeting)(seed)


async def meeting(seed: int) -> None:
    chance = random.Random(seed)
    town = Town(LATENCY)
    await town.open()
    members = [Member(town, number) for number in range(50)]
    await asyncio.gather(*(member.is_ready.wait() for member in members))
    joined: dict[str, float] = {}
    for member in members:
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 1.0]))
        joined[member.peer_id] = clock()
        member.join()
    await asyncio.sleep(SECONDS)
    everybody = set(joined)
    for member in members:
        missing = everybody - set(member.known)
        assert not missing, missing
        for peer_id, when in member.known.items():
            both_there = max(joined[peer_id], joined[member.peer_id])
            assert when - both_there <= 6 * LATENCY, "push, not polling"
    assert town.asked == len(members)  # once each
    gone = chance.sample(members, 10)
    for member in gone:
        member.leave()
    await asyncio.sleep(SECONDS)
    left = {member.peer_id for member in gone}
    assert all(set(member.known) == everybody - left for member in members)
    await town.close()


@in_virtual_time
async def test_b9_whoever_is_cut_off_is_offline_when_its_lease_is_over_and_not_before() -> None:
    town = Town(LATENCY)
    await town.open()
    ann, bob = Member(town, 1), Member(town, 2)
    await asyncio.gather(ann.is_ready.wait(), bob.is_ready.wait())
    ann.client.watch([bob.peer_id])
    ann.flush()
    await asyncio.sleep(1.0)
    assert ann.online == {bob.peer_id}
    await asyncio.sleep(300.0)  # idle: pings keep the lease
    assert ann.online == {bob.peer_id}
    silent = clock()
    bob.vanish()
    while bob.peer_id in ann.online:
        await asyncio.sleep(0.1)
        assert clock() - silent < town.limits.lease_seconds + 2
    assert clock() - silent > town.limits.lease_seconds - town.limits.ping_seconds - 1
    await town.close()
