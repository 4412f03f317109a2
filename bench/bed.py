"""The servers, databases and processes that are measured: two durable clusters, a hub, workers."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.clock import answers, seen
from bench.rows import DEFINITIONS
from pgpeer.cli.demo.processes import Served, start_served
from pgpeer.config import Settings
from pgpeer.embedded import Cluster
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.install import install

SETTINGS: Final = {
    "wal_level": "logical",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "log_line_prefix": "%m [%d] ",
}
"""Beyond the defaults, which include fsync, full_page_writes, synchronous_commit and autovacuum."""


@dataclass(slots=True)
class Place:
    """A database of the bench and a connection to it; with pgpeer it can have a worker."""

    name: str
    cluster: Cluster
    folder: Path
    connection: psycopg.Connection
    key: PrivateKey | None = None
    worker: Served | None = None

    @property
    def dsn(self) -> str:
        """The address of the database."""
        return self.cluster.dsn(self.name)

    @property
    def conninfo(self) -> str:
        """The address as a subscription takes it."""
        words = {name: str(value) for name, value in conninfo_to_dict(self.dsn).items()}
        return make_conninfo("", **words)

    @property
    def identity(self) -> Path:
        """The file with the key."""
        return self.folder / f"{self.cluster.data_directory.name}-{self.name}.identity"

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is a transaction of its own."""
        cursor = self.connection.execute(statement.encode(), parameters or None)
        return [] if cursor.description is None else cursor.fetchall()

    def value(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever the query gives
        """The first column of the first row."""
        return self.run(query, *parameters)[0][0]

    def start_worker(self) -> Served:
        """Starts the worker and waits until it serves."""
        words = ["worker", "--dsn", self.dsn, "--identity", str(self.identity), "--log-level", "warning"]
        name = f"worker of {self.name}"
        self.worker = start_served(name, words, self.identity.with_suffix(".log"), outlives_parent=False)
        return self.worker

    def stop_worker(self) -> None:
        """Stops the worker, if there is one."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.stop()

    def join(self, inviter: Place, bundle: str) -> float:
        """Joins a bundle and waits until it is filled; the moment when it was."""
        self.run("SELECT peer.join(%s)", inviter.value("SELECT peer.invite(%s)", bundle))
        query = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined' AND bundle = %s)"
        return seen(answers(self.connection, query, bundle), f"{self.name} has joined {bundle}")


class Bed:
    """Everything that runs for one bench. Use it in a `with` statement: leaving it removes all."""

    def __init__(self) -> None:
        self.folder = Settings.read().data_directory / f"bench-{secrets.token_hex(4)}"
        self._exit = ExitStack()
        self._places: list[Place] = []
        self._hub: Served | None = None
        self.shared: object = None
        """What several sections measure with; the first of them makes it."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, mode=0o755)
        self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.left, self.right = (self._cluster(name) for name in ("left", "right"))
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for place in list(self._places):
            place.stop_worker()
            place.connection.close()
        if self._hub is not None:
            self._hub.stop()
        self._exit.close()

    @property
    def hub(self) -> str:
        """The address of the hub, which starts when it is first asked for."""
        if self._hub is None:
            words = ["hub", "--listen", "127.0.0.1:0"]
            self._hub = start_served("hub", words, self.folder / "hub.log", outlives_parent=False)
        return self._hub.told

    def bare(self, cluster: Cluster, name: str) -> Place:
        """A new database without pgpeer."""
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        connection = psycopg.connect(cluster.dsn(name), autocommit=True)
        place = Place(name, cluster, self.folder, connection)
        self._places.append(place)
        place.run(DEFINITIONS)
        return place

    def peer(self, cluster: Cluster, name: str) -> Place:
        """A new database with pgpeer and an identity; its worker does not run yet."""
        place = self.bare(cluster, name)
        place.key = IdentityFile(place.identity).create()
        install(place.dsn, hub=self.hub, public_key=place.key.public_key, label=place.identity.stem)
        return place

    def drop(self, place: Place) -> None:
        """Stops the worker of a database and drops it."""
        place.stop_worker()
        place.connection.close()
        self._places.remove(place)
        with psycopg.connect(place.cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {place.name} WITH (FORCE)".encode())

    def _cluster(self, name: str) -> Cluster:
        cluster = Cluster(self.folder / name, settings=SETTINGS)
        self._exit.callback(cluster.stop)
        return cluster.start()
