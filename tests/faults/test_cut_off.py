"""A worker that is cut off from its database: its connections stay open, but nothing comes through."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fixtures.databases import Database
from system.processes import Peer, Program, wait_until_equal

from faults.site import surprises

Make = Callable[..., Peer]

TAKEOVER_SECONDS = 10.0
NOTICED_SECONDS = 30.0
"""The hub tells of the successor; then the database does not answer."""


class Wire:
    """Passes bytes between the clients of a socket and a server, until it is cut."""

    def __init__(self, database: Database) -> None:
        words = parse_qs(urlsplit(database.dsn).query)
        self._server = f"{words['host'][0]}/.s.PGSQL.{words['port'][0]}"
        self._folder = Path(tempfile.mkdtemp(prefix="pgpeer-wire-"))
        self.address = f"postgresql://postgres@/{database.name}?host={self._folder}&port=5432"
        self._open = threading.Event()
        self._open.set()
        self._sockets = [socket.socket(socket.AF_UNIX)]
        self._sockets[0].bind(f"{self._folder}/.s.PGSQL.5432")
        self._sockets[0].listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.mend()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(self._server)
                self._start(self._pass, client, server)
                self._start(self._pass, server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)
        self._open.wait()
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire() -> Iterator[Callable[[Database], Wire]]:
    made: list[Wire] = []

    def make(database: Database) -> Wire:
        made.append(Wire(database))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.slow
@pytest.mark.skipif(
    "PGPEER_FAULT_KILLS" not in os.environ,
    reason="half a minute of waiting: part of make test-faults; tests/system/test_standby.py is the short form",
)
def test_a_worker_that_is_cut_off_is_replaced_and_gives_up_by_itself(
    atlas: Make, make_peer: Make, wire: Callable[[Database], Wire]
) -> None:
    ann, bob = atlas(), make_peer("bob")
    line = wire(bob.database)
    first = Program(bob.log, "worker_program.py", line.address, str(bob.identity))
    bob.worker = first
    first.ready()
    bob.join(ann)
    # on another machine: a copy of the key, and a ledger of its own
    copied = bob.identity.with_name("copied.json")
    shutil.copy2(bob.identity, copied)
    log = bob.log.with_suffix(".standby.log")
    second = Program(log, "worker_program.py", bob.database.dsn, str(copied), "standby")
    try:
        second.wait_for_log("standing by")
        ann.run("UPDATE public.city SET name = 'before' WHERE id = 1")
        bob.wait_until("SELECT name = 'before' FROM public.city WHERE id = 1")
        line.cut()
        began = time.monotonic()
        ann.run("UPDATE public.city SET name = 'during' WHERE id <= 20")
        bob.run("UPDATE public.city SET name = 'here' WHERE id > 480")
        assert second.ready() == bob.peer_id
        assert time.monotonic() - began < TAKEOVER_SECONDS
        while "not serving" not in first.log.read_text():
            assert time.monotonic() - began < NOTICED_SECONDS, first.log.read_text()
            time.sleep(0.1)
        bob.wait_until("SELECT count(*) = 20 FROM public.city WHERE name = 'during'")
        ann.wait_until("SELECT count(*) = 20 FROM public.city WHERE name = 'here'")
        line.mend()
        first.wait_for_log("standing by")
        wait_until_equal(ann, bob)
        assert ann.value("SELECT count(*) FROM peer.problem") == 0
        assert surprises(first.log.read_text()) == []
        assert surprises(log.read_text()) == []
    finally:
        os.kill(second.pid, signal.SIGKILL)
        second.end()
