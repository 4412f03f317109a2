"""The hub and the workers of the demo: processes of their own, started by the same command as anywhere."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgpeer.errors import PgpeerError

_READY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 6.0
_SHOWN_LOG: Final = 1500


@dataclass(slots=True)
class Served:
    """A `pgpeer` process that has said that it is ready.

    Attributes:
        name: what it is called in messages.
        process: the process.
        told: what stood after the word `ready`: the URL of a hub, the peer id of a worker.
        log: the file with what it wrote to standard error.
    """

    name: str
    process: subprocess.Popen[str]
    told: str
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self.process.kill()
        self._collect()

    def stop(self) -> None:
        """Asks it to end, and makes it end when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._collect()

    def release(self) -> None:
        """Lets it run on by itself."""
        _close(self.process)
        self.process.returncode = 0  # nobody waits for it any more

    def _collect(self) -> None:
        self.process.wait()
        _close(self.process)


def start_served(name: str, words: list[str], log: Path, *, outlives_parent: bool) -> Served:
    """Starts `pgpeer` with these words and waits until it is ready.

    Raises:
        PgpeerError: it ended, or was not ready in time; it no longer runs then.
    """
    command = [sys.executable, "-P", "-m", "pgpeer.cli", *words]
    if not outlives_parent:
        command.append("--with-parent")
    with log.open("a") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if outlives_parent else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo alone, which then stops everything in order
        )
    assert process.stdout is not None
    watchdog = threading.Timer(_READY_SECONDS, process.kill)
    watchdog.start()
    try:
        word, _, told = process.stdout.readline().strip().partition(" ")
    except BaseException:
        process.kill()
        process.wait()
        _close(process)
        raise
    finally:
        watchdog.cancel()
    if word != "ready":
        process.kill()
        process.wait()
        _close(process)
        raise PgpeerError(
            f"The {name} did not start: {log.read_text()[-_SHOWN_LOG:].strip() or 'it said nothing.'}",
            remedy=f"Its log was {log}.",
        )
    return Served(name, process, told, log)


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
