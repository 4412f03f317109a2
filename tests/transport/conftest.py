"""What goes through real sockets runs on both event loops: Python's own, and uvloop, on which workers run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_SOCKETS = frozenset({"test_links.py", "test_reach_over_networks.py"})
"""The modules for both loops; the others run on virtual time or have no loop."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give the event loops to run a test on, by name."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_SOCKETS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops
