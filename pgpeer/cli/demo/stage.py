"""The stage of the demo: two databases on servers of their own, a hub, two workers; and taking all down."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from pgpeer.cli.demo.processes import Served, start_served
from pgpeer.config import Settings
from pgpeer.embedded import Cluster, stop_server
from pgpeer.errors import ConfigError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.install import install
from pgpeer.store.transaction import connect, refusals

NAMES: Final = ("paris", "tokyo")
"""The two peers: the first has the data, the second joins."""

_KEPT_FILE: Final = "demo.json"
_WAIT_SECONDS: Final = 10.0


@dataclass(slots=True)
class Place:
    """One peer: a database, its identity, its worker, and the demo's own connection."""

    name: str
    cluster: Cluster
    identity: Path
    log: Path
    keep: bool
    connection: psycopg.Connection
    worker: Served | None = None

    @property
    def dsn(self) -> str:
        """The database, as psql takes it."""
        return self.cluster.dsn(self.name)

    def start_worker(self) -> Served:
        """Starts the worker and waits until it serves."""
        words = ["worker", "--dsn", self.dsn, "--identity", str(self.identity)]
        self.worker = start_served(f"worker of {self.name}", words, self.log, outlives_parent=self.keep)
        return self.worker

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query; a statement without rows gives none. Raises StoreError."""
        with refusals():
            cursor = self.connection.execute(query.encode(), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

    def value(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever the query gives
        """The first column of the first row."""
        return self.rows(query, *parameters)[0][0]


class Stage:
    """Everything that runs for one demo. Use it in a `with` statement: leaving it takes everything down.

    Args:
        keep: True makes durable servers, and lets everything run on after `leave_running`.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.folder = Settings.read().data_directory / f"demo-{secrets.token_hex(4)}"
        self.places: list[Place] = []
        self.hub: Served | None = None
        self._clusters: dict[str, Cluster] = {}
        self._exit = ExitStack()
        self._is_kept = False

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            self.take_down()

    def build(self) -> None:
        """Makes the two servers with their databases, and starts hub and workers.

        Raises:
            PgpeerError: something did not start; leaving the `with` statement removes the rest.
        """
        self._make_folder()
        with ThreadPoolExecutor(len(NAMES) + 1) as pool:
            parts = [
                pool.submit(self._start_hub),
                *(pool.submit(self._start_cluster, name) for name in NAMES),
            ]
            for part in parts:
                part.result()
            assert self.hub is not None
            for name in NAMES:
                self.places.append(self._make_place(name, self.hub.told))
            for worker in [pool.submit(place.start_worker) for place in self.places]:
                worker.result()

    def leave_running(self) -> None:
        """Lets everything run on when this process ends; `stop_kept` ends it."""
        served = [self.hub, *(place.worker for place in self.places)]
        document = {
            "processes": [process.pid for process in served if process is not None],
            "clusters": [str(place.cluster.data_directory) for place in self.places],
            "sockets": [place.connection.info.host for place in self.places],
        }
        (self.folder / _KEPT_FILE).write_text(json.dumps(document, indent=1) + "\n")
        for process in served:
            if process is not None:
                process.release()
        for place in self.places:
            place.connection.close()
        self._is_kept = True

    def take_down(self) -> None:
        """Stops everything and removes every file; a second Ctrl-C does not interrupt that."""
        previous = [
            (number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)
        ]
        try:
            for place in self.places:
                place.connection.close()
            for process in [*(place.worker for place in self.places), self.hub]:
                if process is not None:
                    process.stop()
            self._exit.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            for number, handler in previous:
                signal.signal(number, handler)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, mode=0o755)
            (self.folder / "identities").mkdir(mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"The folder {self.folder} cannot be made: {error.strerror}.",
                remedy="Set PGPEER_DATA_DIRECTORY to a folder that you may write to.",
            ) from error

    def _start_hub(self) -> None:
        words = ["hub", "--listen", "127.0.0.1:0"]
        self.hub = start_served("hub", words, self.folder / "hub.log", outlives_parent=self.keep)

    def _start_cluster(self, name: str) -> None:
        cluster = Cluster(self.folder / name, persistent=self.keep, outlives_owner=self.keep)
        self._exit.callback(cluster.stop)
        self._clusters[name] = cluster.start()

    def _make_place(self, name: str, hub: str) -> Place:
        cluster = self._clusters[name]
        with connect(cluster.dsn()) as connection:
            connection.autocommit = True
            connection.execute(f"CREATE DATABASE {name}".encode())
        identity = IdentityFile(self.folder / "identities" / name)
        install(cluster.dsn(name), hub=hub, public_key=identity.create().public_key, label=name)
        connection = connect(cluster.dsn(name))
        connection.autocommit = True
        log = self.folder / f"{name}.worker.log"
        return Place(name, cluster, identity.path, log, self.keep, connection)


def stop_kept(folder: Path) -> None:
    """Ends a demo that was left running, and removes its folder.

    Raises:
        ConfigError: there is none in that folder.
        EmbeddedError: a server does not stop.
    """
    try:
        document = json.loads((folder / _KEPT_FILE).read_text())
        processes, clusters, sockets = (list(document[name]) for name in ("processes", "clusters", "sockets"))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"No demo was left running in {folder}.", remedy="Name the folder that 'pgpeer demo --keep' told."
        ) from error
    for pid in processes:
        if _is_ours(pid):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _WAIT_SECONDS
    while any(_is_ours(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for directory in clusters:
        stop_server(directory)
    for directory in sockets:
        shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(folder)


def _is_ours(pid: int) -> bool:
    """Whether the process still runs and is a `pgpeer` command: its number may belong to another by now."""
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline")
        return not command.parent.parent.is_dir() or b"pgpeer.cli" in command.read_bytes()
    except OSError:
        return False
