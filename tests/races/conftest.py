"""Fixtures of the tests of races."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from merge.world import World

from .sessions import Sessions


@pytest.fixture
def world(make_database: Callable[..., Any]) -> Iterator[Callable[..., World]]:
    """A factory of worlds: `world()` is alice and bob with the table `note` in an auto bundle."""
    made: list[World] = []

    def make(*arguments: Any, **options: Any) -> World:
        made.append(World(make_database, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def sessions(world: Callable[..., World]) -> Iterator[Sessions]:
    """Opens sessions; they end before the world does."""
    made = Sessions()
    yield made
    made.close()
