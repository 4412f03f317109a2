"""What the tests of the command line share: running a command as its user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures.databases import Database, Databases
from typer.testing import CliRunner

from pgpeer.cli.main import app


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Identity files of this test."""
    directory = tmp_path / "state"
    monkeypatch.setenv("PGPEER_STATE_DIRECTORY", str(directory))
    monkeypatch.delenv("PGPEER_DSN", raising=False)
    return directory


@pytest.fixture
def run() -> Run:
    """A function that runs `pgpeer` with these words, inside this process."""

    def run_inside(*words: str) -> Outcome:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run_inside


@pytest.fixture
def bare(databases: Databases) -> Iterator[str]:
    """The address of a database without pgpeer."""
    cluster, name = databases.bare()
    yield cluster.dsn(name)
    databases.drop_named(cluster, name)


@pytest.fixture
def cities(database: Database) -> Database:
    """A database with a manual bundle `atlas` that holds a table of two cities."""
    connection = database.connect()
    connection.execute("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL, people bigint)")
    connection.execute("INSERT INTO public.city VALUES (1, 'Bern', 134000), (2, 'Zürich', 421000)")
    connection.execute("SELECT peer.create_bundle('atlas', 'manual')")
    connection.execute("SELECT peer.track('atlas', 'public.city')")
    return database


def start(*words: str, **variables: str) -> subprocess.Popen[str]:
    """Starts `pgpeer` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgpeer.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
