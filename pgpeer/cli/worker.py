"""`pgpeer worker`: serves a database."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from pgpeer.cli.identity import choose_identity
from pgpeer.cli.options import Dsn, Identity, required_dsn
from pgpeer.cli.serving import WithParent, run_until_stopped
from pgpeer.config import Settings


class LogLevel(StrEnum):
    """The least important messages that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    dsn: Dsn = None,
    identity: Identity = None,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="The least important messages to write.")
    ] = LogLevel.INFO,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Wait while another worker serves the database, and take over when it dies or hangs.",
        ),
    ] = False,
    with_parent: WithParent = False,
) -> None:
    """Serve a database.

    Commits its changes, exchanges commits with other peers and merges theirs. Prints one line "ready PEER_ID"
    when it serves; logs go to standard error. One worker serves a database; with --standby it waits for its
    turn. Stops within 5 seconds on SIGTERM or Ctrl-C; whatever happens to it, nothing is half applied.
    """
    # Takes a second, which other commands need not wait.
    from pgpeer.worker.run import WorkerSettings, configure_logs, serve

    address = required_dsn(dsn)
    settings = WorkerSettings(address, choose_identity(address, identity, Settings.read()), standby)
    configure_logs(log_level.value)

    def announce(peer_id: str) -> None:
        typer.echo(f"ready {peer_id}")

    async def serve_database(stop: asyncio.Event) -> None:
        await serve(settings, ready=announce, stop=stop)

    run_until_stopped(serve_database, with_parent=with_parent)
