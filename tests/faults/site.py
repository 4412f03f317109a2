"""A peer for faults: a PostgreSQL server of its own, its worker, and people who write all the time."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from fixtures.databases import Databases, server_root
from fixtures.versions import DEFAULT, bindir_of
from system.processes import Peer, Program

from pgpeer.embedded import Cluster

HERE = Path(__file__).parent
SHARED_ROWS = 5
ENDS = {"fast": signal.SIGINT, "quit": signal.SIGQUIT, "kill": signal.SIGKILL}
"""How a server is ended: by a shutdown that asks nobody to wait, at once, or without a chance to clean up."""

TABLES = """
    CREATE TABLE public.note (id text PRIMARY KEY, body text NOT NULL);
    CREATE TABLE public.remark (id text PRIMARY KEY, note text NOT NULL REFERENCES public.note, body text NOT NULL);
    CREATE TABLE public.counter (id text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE public.shared (id int PRIMARY KEY, value text);
"""


def surprises(log: str) -> list[str]:
    """The tracebacks and warnings in a log that come from pgpeer's own code, not from a library's."""
    parts = re.split(r"\n(?=\{|Task exception|Traceback)", log)
    marks = ("Traceback", "never awaited", "never retrieved")
    return [part for part in parts if "/pgpeer/" in part and any(mark in part for mark in marks)]


@dataclass
class Ledger:
    """What one writer was told: the truth that an audit compares the databases with.

    Attributes:
        here: notes whose insert was acknowledged, and that nobody tried to delete.
        gone: notes whose delete was acknowledged.
        pairs: notes that were written with a remark in one transaction.
        counted: the last acknowledged value of the writer's counter.
        tried: the last value that was tried.
    """

    here: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    pairs: set[str] = field(default_factory=set)
    counted: int = 0
    tried: int = 0

    @property
    def size(self) -> int:
        return len(self.here) + len(self.gone) + self.counted


class Writer:
    """Writes to one database in a thread, whatever happens to the server, and keeps its ledger."""

    def __init__(self, dsn: str, name: str, seed: int) -> None:
        self.ledger = Ledger()
        self.refusals: list[str] = []
        self._dsn = dsn
        self._name = name
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._number = 0
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
                    while not self._over.wait(self._random.uniform(0.0, 0.02)):
                        self._write(connection)
            except psycopg.OperationalError:
                self._over.wait(0.05)  # the server was killed; what was under way may have happened or not
            except psycopg.Error as error:
                self.refusals.append(
                    f"{error.sqlstate} {error}"
                )  # nothing may stop a writer; the audit tells
                self._over.wait(0.05)

    def _write(self, connection: psycopg.Connection) -> None:
        ledger, self._number = self.ledger, self._number + 1
        note = f"{self._name}-{self._number}"
        match self._random.randrange(6):
            case 0 | 1:
                connection.execute("INSERT INTO public.note VALUES (%s, %s)", [note, "body " * 10])
                ledger.here.add(note)
            case 2:
                with connection.transaction():
                    connection.execute("INSERT INTO public.note VALUES (%s, 'with a remark')", [note])
                    connection.execute("INSERT INTO public.remark VALUES (%s, %s, 'remark')", [note, note])
                ledger.here.add(note)
                ledger.pairs.add(note)
            case 3:
                ledger.tried += 1
                connection.execute(
                    "INSERT INTO public.counter VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
                    [self._name, ledger.tried],
                )
                ledger.counted = ledger.tried
            case 4:
                connection.execute(
                    "UPDATE public.shared SET value = %s WHERE id = %s",
                    [note, self._random.randint(1, SHARED_ROWS)],
                )
            case _:
                plain = sorted(ledger.here - ledger.pairs)
                if plain:
                    chosen = self._random.choice(plain)
                    ledger.here.discard(chosen)
                    connection.execute("DELETE FROM public.note WHERE id = %s", [chosen])
                    ledger.gone.add(chosen)


class Site:
    """A server, a peer on it, and its writer."""

    def __init__(self, databases: Databases, directory: Path, name: str, hub_url: str, seed: int) -> None:
        root, _ = server_root()
        self.name = name
        self.data = root / f"pgpeer-fault-{os.getpid()}-{name}-{time.monotonic_ns()}"
        self.cluster = Cluster(self.data, persistent=True, bindir=bindir_of(DEFAULT))
        self.cluster.start()
        self.peer = Peer(databases.create(name, self.cluster), directory, hub_url)
        self.peer.run("UPDATE peer.config SET reconnect_delay_max = '2 s'")
        self.writer = Writer(self.peer.database.dsn, name, seed)
        self._workers: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer._thread.is_alive():
            self.writer.stop()
        for worker in self._workers:
            worker.end(signal.SIGKILL)
        self.cluster.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def surprises(self) -> list[str]:
        """What its workers have logged that nobody foresaw."""
        logs = self.peer.log.parent.glob(f"{self.peer.log.stem}*.log")
        return [found for log in logs for found in surprises(log.read_text())]

    def start_workers(self, count: int) -> None:
        """Start workers, the second and later ones as standbys."""
        for number in range(count):
            self._workers.append(self._launch(number, is_standby=number > 0))
            if number == 0:
                self._workers[0].ready()

    def end_workers(self, number: int) -> None:
        """End all of its workers."""
        for worker in self._workers:
            worker.end(number)
        self._workers.clear()

    def kill_worker(self, chance: random.Random) -> None:
        """Kill one of its workers, perhaps the one that serves, and start it again."""
        number = chance.randrange(len(self._workers))
        self._workers[number].end(signal.SIGKILL)
        self._workers[number] = self._launch(number, is_standby=len(self._workers) > 1)

    def freeze_worker(self, seconds: float) -> None:
        """Let the first of its workers hang for a while."""
        process = self._workers[0].process
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def kill_server(self, chance: random.Random) -> bool:
        """End the server in one of its ways, or one of its sessions so that it restarts itself.

        Returns:
            False when it was just restarting.
        """
        how = chance.choice([*ENDS, "session"])
        if how == "session":
            try:
                with psycopg.connect(self.cluster.dsn(), autocommit=True, connect_timeout=5) as connection:
                    rows = connection.execute(
                        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    ).fetchall()
                os.kill(chance.choice(rows)[0], signal.SIGKILL)
            except (psycopg.OperationalError, ProcessLookupError):
                return False
        else:
            os.kill(self.cluster.pid, ENDS[how])
            deadline = time.monotonic() + 30
            while self.cluster.is_running and time.monotonic() < deadline:
                time.sleep(0.01)
            self.cluster.start()
        return True

    def revive(self) -> None:
        """Start workers again that have ended by themselves, as a service manager would."""
        for number, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                worker.end(signal.SIGKILL)
                self._workers[number] = self._launch(number, is_standby=len(self._workers) > 1)

    def _launch(self, number: int, *, is_standby: bool) -> Program:
        return Program(
            self.peer.log.with_name(f"{self.peer.log.stem}.{number}.log"),
            "worker_program.py",
            self.peer.database.dsn,
            str(self.peer.identity),
            *(["standby"] if is_standby else []),
        )
