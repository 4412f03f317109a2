"""Notices that this host's addresses have changed or that it slept, so that paths are tried anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import ifaddr

LOOK_SECONDS: Final = 2.0
"""How often the addresses are read: about 0.1 ms of work each time."""

SLEPT_SECONDS: Final = 10.0
"""If so much more time has passed than was waited for, the machine or the process stood still."""


def addresses() -> frozenset[str]:
    """Give this host's addresses, without loopback and link-local ones."""
    found = set()
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            address = one.ip if isinstance(one.ip, str) else one.ip[0]
            if not address.startswith(("127.", "169.254.", "fe80", "::1")):
                found.add(address)
    return frozenset(found)


async def watch_network(
    on_change: Callable[[], None],
    clock: Callable[[], float],
    *,
    look: Callable[[], frozenset[str]] = addresses,
) -> None:
    """Call `on_change` whenever the network may have changed; runs until it is cancelled.

    Args:
        on_change: for example `Reach.hurry`.
        clock: gives seconds that go on while the machine sleeps: the wall clock. Setting it counts as sleep.
        look: gives the addresses.
    """
    known, looked = look(), clock()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now, found = clock(), look()
        if found != known or abs(now - looked - LOOK_SECONDS) > SLEPT_SECONDS:
            on_change()
        known, looked = found, now
