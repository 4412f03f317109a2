"""The worker as a process: signals, logs, the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import structlog

from pgpeer.identity.keyfile import IdentityFile
from pgpeer.worker.caretaker import Caretaker


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What one worker needs to know.

    Attributes:
        dsn: its database, as libpq takes it.
        identity_path: the file with its key.
        is_standby: wait while another worker serves the database, instead of refusing to start.
    """

    dsn: str
    identity_path: Path
    is_standby: bool = False


async def serve(settings: WorkerSettings, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve a database until `stop` is set; returns within five seconds after that.

    A standby serves when no other worker does: within ten seconds after that one died or began to hang.

    Args:
        settings: which database with which key.
        ready: called once, with the peer id, when the worker serves.
        stop: ends it.

    Raises:
        IdentityError: the key cannot be used, is in use, or is not that of the database.
        StoreError: the database cannot be reached or used, or has a worker already.
    """
    identity = IdentityFile(settings.identity_path)
    await Caretaker(settings.dsn, identity, is_standby=settings.is_standby).run(ready, stop)


def main(settings: WorkerSettings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; raises as `serve`."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, ready=ready, stop=stop)

    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(until_signalled())


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop of libuv where it is installed, else the one of Python."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


def configure_logs(level: str = "info", *, as_json: bool | None = None) -> None:
    """Write logs to stderr: for people on a terminal, else as JSON lines.

    Args:
        level: the least level that is written.
        as_json: chooses the form whatever stderr is.
    """
    if as_json is None:
        as_json = not sys.stderr.isatty()
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
