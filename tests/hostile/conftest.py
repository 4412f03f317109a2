"""One stage for all attacks: villains come with keys of their own, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.databases import Databases

from .stage import Stage


@pytest.fixture(scope="session")
def set_up(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(databases, tmp_path_factory.mktemp("stage"))
    yield made
    made.end()


@pytest.fixture
def stage(set_up: Stage) -> Iterator[Stage]:
    yield set_up
    set_up.leave()
