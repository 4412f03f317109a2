from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fixtures.databases import Databases
from meeting import Meeting

from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits


@pytest.fixture
async def meet() -> AsyncIterator[Callable]:
    """A function that starts a hub."""
    async with AsyncExitStack() as stack:

        async def start(limits: HubLimits | None = None, **options: Any) -> Meeting:
            hub = await stack.enter_async_context(Hub("127.0.0.1", 0, limits, **options))
            return Meeting(hub, stack)

        yield start


@pytest.fixture
def hub_dsn(databases: Databases) -> Iterator[str]:
    """An empty database for a hub's state."""
    cluster, name = databases.bare()
    yield cluster.dsn(name)
    databases.drop_named(cluster, name)
