"""Workers and hubs as processes, for tests that must be able to kill them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from fixtures.databases import Database

from pgpeer.identity.keyfile import IdentityFile

HERE = Path(__file__).parent
READY_SECONDS = 30.0
PATIENCE_SECONDS = 60.0


class Program:
    """A process that prints a line `ready WORD` when it serves; its log goes to a file."""

    def __init__(self, log: Path, script: str, *arguments: str) -> None:
        self.log = log
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._first_line = ""
        self._has_line = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._first_line = self.process.stdout.readline()
        self._has_line.set()

    def ready(self) -> str:
        """Wait for the first line and give its second word."""
        assert self._has_line.wait(READY_SECONDS), f"not ready: {self.log.read_text()}"
        assert self._first_line.startswith("ready "), self.log.read_text()
        return self._first_line.split()[1]

    def wait_for_log(self, text: str) -> None:
        """Wait until the log holds a text."""
        wait_until(lambda: text in self.log.read_text(), text, READY_SECONDS, self.log)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; give the exit code and how many seconds it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code, time.monotonic() - began


class Peer:
    """A database with its worker."""

    def __init__(self, database: Database, directory: Path, hub_url: str) -> None:
        self.database = database
        self.identity = directory / f"{database.name}.json"
        self.log = directory / f"{database.name}.log"
        IdentityFile(self.identity).create(database.key)
        self.worker: Program | None = None
        self.run("INSERT INTO peer.hub (url) VALUES (%s)", hub_url)
        self.run("UPDATE peer.config SET hub_id = (SELECT min(id) FROM peer.hub)")

    @property
    def peer_id(self) -> str:
        return self.database.peer_id

    def run(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *arguments: object) -> Any:
        return self.run(query, *arguments)[0][0]

    def start(self, *options: str) -> Program:
        self.launch(*options).ready()
        assert self.worker is not None
        return self.worker

    def launch(self, *options: str) -> Program:
        self.worker = Program(self.log, "worker_program.py", self.database.dsn, str(self.identity), *options)
        return self.worker

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        assert self.worker is not None
        worker, self.worker = self.worker, None
        return worker.end(number)

    def wait_until(self, query: str, *arguments: object, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a query gives true."""
        wait_until(lambda: bool(self.value(query, *arguments)), f"{query} {arguments}", seconds, self.log)

    def join(self, other: Peer, bundle: str = "atlas") -> None:
        """Join a bundle of another peer and wait until it is filled."""
        link = other.value("SELECT peer.invite(%s)", bundle)
        self.value("SELECT peer.join(%s)", link)
        self.wait_until(
            "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined' AND bundle = %s)", bundle
        )

    def account(self) -> str:
        """Tell how it stands: for the report of a test that failed."""
        lines = [self.database.name]
        for query in (
            "SELECT * FROM peer.connection",
            "SELECT * FROM peer.problem",
            "SELECT kind, phase FROM peer.event LIMIT 0",
            "SELECT at, kind, connection_id, phase, code, detail FROM peer.event ORDER BY id DESC LIMIT 30",
        ):
            lines += [query, *(f"    {row}" for row in self.run(query))]
        return "\n".join(lines)

    def state_hash(self, bundle: str = "atlas") -> str:
        return str(self.value("SELECT peer.state_hash(%s)", bundle))


def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS, *logs: Path) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            tails = (
                "\n".join([log.name, *log.read_text().splitlines()[-30:]]) for log in logs if log.exists()
            )
            raise AssertionError("\n".join([f"not within {seconds} s: {what}", *tails]))
        time.sleep(0.05)


def wait_until_equal(*peers: Peer, bundle: str = "atlas", seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until all peers have the same rows and nothing uncommitted."""

    def are_equal() -> bool:
        return len({peer.state_hash(bundle) for peer in peers}) == 1 and not any(
            peer.value("SELECT EXISTS (SELECT FROM peer.status(%s))", bundle) for peer in peers
        )

    try:
        wait_until(are_equal, "equal states", seconds, *(peer.log for peer in peers))
    except AssertionError as error:
        for peer in peers:
            error.add_note(peer.account())
        raise
