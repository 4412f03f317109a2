"""Fixtures of the capture tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from fixtures.databases import Databases

from .shelf import Ground, Shelf

MakeShelf = Callable[..., Shelf]


@pytest.fixture(scope="session")
def grounds(databases: Databases) -> Iterator[dict[tuple[str, str], Ground]]:
    """The pairs of databases, by the versions of their servers."""
    made: dict[tuple[str, str], Ground] = {}
    yield made
    for ground in made.values():
        ground.drop()


@pytest.fixture
def servers(request: pytest.FixtureRequest, databases: Databases) -> tuple[str, str]:
    """The versions of the two servers; a test chooses others by indirect parameters such as '15 18'."""
    chosen: str = getattr(request, "param", f"{databases.default_version} {databases.default_version}")
    here, there = chosen.split()
    return here, there


@pytest.fixture
def ground(
    databases: Databases, grounds: dict[tuple[str, str], Ground], servers: tuple[str, str]
) -> Iterator[Ground]:
    """A pair of databases with nothing but pgpeer in them."""
    found = grounds.setdefault(servers, Ground(databases, servers))
    found.pair()
    yield found
    found.clear()


@pytest.fixture
def shelf(ground: Ground) -> MakeShelf:
    """A function `(ddl, tables, mode='auto') -> Shelf`; ddl is a statement or several, tables likewise."""

    def make(ddl: str | Sequence[str], tables: str | Sequence[str], mode: str = "auto") -> Shelf:
        made = ground.shelf(mode)
        made.open([ddl] if isinstance(ddl, str) else ddl, [tables] if isinstance(tables, str) else tables)
        return made

    return make


@pytest.fixture
def following(ground: Ground) -> None:
    """For tests of what a seal and a merge do about partitions: skips where they do not look for them."""
    with psycopg.connect(ground.pair()[0].dsn) as connection:
        calls = "SELECT prosrc LIKE '%follow_partitions%' FROM pg_proc WHERE proname IN ('seal_bundle', 'merge_next')"
        if not all(row[0] for row in connection.execute(calls)):
            pytest.skip("seal and merge do not follow partitions yet")
