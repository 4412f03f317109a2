"""The most memory that processes had meanwhile."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

import psutil
from system.processes import Peer

LOOKS_APART_SECONDS: Final = 0.1
BACKENDS_SECONDS: Final = 1.0
"""Listing the processes of a machine costs much more than asking some how they are."""


class Peaks:
    """Watches workers and the backends of their server for the length of a block.

    A backend is measured without the memory that it shares: how much of the server's buffers it has touched so
    far says nothing about what it needs (where the system does not tell that part, it is counted in).

    Attributes:
        worker_bytes: the most that one worker had.
        backend_bytes: the most that one backend had for itself.
        backend_query: the statement that it ran then.
    """

    def __init__(self, server_pid: int, *peers: Peer) -> None:
        self.worker_bytes = 0
        self.backend_bytes = 0
        self.backend_query = ""
        self._server = psutil.Process(server_pid)
        self._workers = [psutil.Process(peer.worker.pid) for peer in peers if peer.worker is not None]
        self._backends: list[psutil.Process] = []
        self._listed_at = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOKS_APART_SECONDS):
            self._look()

    def _look(self) -> None:
        for worker in self._workers:
            self.worker_bytes = max(self.worker_bytes, _own_bytes(worker, is_shared_counted=True))
        if time.monotonic() > self._listed_at + BACKENDS_SECONDS:
            self._backends, self._listed_at = self._server.children(), time.monotonic()
        for backend in self._backends:
            taken = _own_bytes(backend, is_shared_counted=False)
            if taken > self.backend_bytes:
                self.backend_bytes, self.backend_query = taken, _title(backend)


def _own_bytes(process: psutil.Process, *, is_shared_counted: bool) -> int:
    try:
        memory = process.memory_info()
    except psutil.Error:  # it has ended
        return 0
    return int(memory.rss) - (0 if is_shared_counted else int(getattr(memory, "shared", 0)))


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
