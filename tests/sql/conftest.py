"""Databases that hold the schema description functions and nothing else of pgpeer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Databases
from fixtures.versions import BOTH

SQL = Path(__file__).parents[2] / "sql"
ORDER = [
    line for line in (SQL / "order.txt").read_text().splitlines() if line.startswith("20_commit/schema_")
]


@pytest.fixture(scope="module", params=BOTH)
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[psycopg.Connection]:
    """A connection to a database of each version with sql/20_commit/schema_*.sql loaded."""
    cluster, name = databases.bare(databases.cluster(request.param))
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA peer; CREATE SCHEMA peer_internal")
        for file in ORDER:
            connection.execute((SQL / file).read_text().encode())
        yield connection
    databases.drop_named(cluster, name)


@pytest.fixture
def db(server: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The connection inside a transaction that is rolled back after the test."""
    with server.transaction(force_rollback=True):
        yield server
