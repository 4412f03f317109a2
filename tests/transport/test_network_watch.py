"""Noticing that the network changed or the machine slept, in virtual time."""

import asyncio

from virtual_time import in_virtual_time

from pgpeer.transport.network_watch import LOOK_SECONDS, SLEPT_SECONDS, addresses, watch_network


class Host:
    def __init__(self) -> None:
        self.addresses = frozenset({"192.0.2.1"})
        self.slept = 0.0
        self.changes: list[float] = []

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.slept

    def changed(self) -> None:
        self.changes.append(asyncio.get_running_loop().time())


@in_virtual_time
async def test_a_new_address_and_a_sleep_are_noticed_and_nothing_else() -> None:
    host = Host()
    watching = asyncio.create_task(watch_network(host.changed, host.clock, look=lambda: host.addresses))
    await asyncio.sleep(600)
    assert host.changes == []
    host.addresses = frozenset({"192.0.2.1", "2001:db8::1"})
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(60)
    assert len(host.changes) == 1
    assert host.changes[0] - began <= LOOK_SECONDS
    host.slept += SLEPT_SECONDS + 1
    await asyncio.sleep(60)
    assert len(host.changes) == 2
    watching.cancel()
    await asyncio.wait([watching])


def test_the_addresses_of_this_host_are_without_loopback() -> None:
    assert not {one for one in addresses() if one.startswith("127.") or one == "::1"}
