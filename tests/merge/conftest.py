"""Fixtures of the merge tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .world import World


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
