"""Fixtures of every test. Servers start when the first test asks for one.

`PGPEER_TEST_PG` and others choose the servers (tests/fixtures/versions.py), `PGPEER_TEST_DIR` where they keep
their data, `HYPOTHESIS_PROFILE` (default or deep) how many examples random tests try.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from fixtures.databases import Database, Databases
from fixtures.versions import DEFAULT, EMBEDDED
from hypothesis import HealthCheck, settings

from pgpeer.embedded import Cluster

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "default", max_examples=300, deadline=None, print_blob=True, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Makes servers and databases, for fixtures and for tests that need many."""
    made = Databases(DEFAULT)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def pg18(databases: Databases) -> Cluster:
    """The embedded server."""
    return databases.cluster(EMBEDDED)


@pytest.fixture
def make_database(databases: Databases) -> Iterator[Callable[..., Database]]:
    """A function `(label='peer', cluster=None) -> Database`; what it makes is dropped after the test."""
    made: list[Database] = []

    def make(label: str = "peer", cluster: Cluster | None = None) -> Database:
        made.append(databases.create(label, cluster))
        return made[-1]

    yield make
    for database in made:
        databases.drop(database)


@pytest.fixture
def database(make_database: Callable[..., Database]) -> Database:
    """A fresh database with pgpeer installed and an identity set."""
    return make_database()
