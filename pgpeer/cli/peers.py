"""`pgpeer peers`: with whom this database exchanges what, and how well."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from pgpeer.cli.database import WORKER_RUNS, Database, notified, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import Row, console, print_json
from pgpeer.cli.peer_table import peer_rows, peer_table

_EVERY_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.2
"""Many events come together; the table is drawn once for all of them."""


def run(
    bundle: Bundle = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Print the table once; so it is too when the output is no terminal."),
    ] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Watch the other peers.

    A live table of members, friends and linked peers: the path to each, round-trip time, goodput, and how far
    it is behind (commits that it has not acknowledged) or ahead. Drawn anew with every event and each second;
    Ctrl-C ends it.
    """
    with open_database(required_dsn(dsn)) as database:
        if bundle is not None:
            database.value("SELECT peer_internal.bundle_id(%(bundle)s)", {"bundle": bundle})
        if as_json:
            print_json(peer_rows(database, bundle))
        elif once or not sys.stdout.isatty():
            console().print(_page(database, bundle, peer_rows(database, bundle), whole_ids=True))
        else:
            _watch(database, bundle)


def _watch(database: Database, bundle: str | None) -> None:
    """Draws until interrupted, which is the way to end it and no failure."""

    def draw() -> RenderableType:
        return _page(database, bundle, peer_rows(database, bundle), whole_ids=False)

    try:
        with (
            Live(draw(), console=console(), auto_refresh=False) as live,
            notified(database, "peer_event") as wait,
        ):
            while True:
                live.update(draw(), refresh=True)
                if wait(_EVERY_SECONDS):
                    time.sleep(_PAUSE_SECONDS)
    except KeyboardInterrupt:
        return


def _page(database: Database, bundle: str | None, rows: list[Row], *, whole_ids: bool) -> RenderableType:
    own = database.rows("SELECT peer.identity() AS peer_id, c.label FROM peer.config AS c")[0]
    problems = database.value("SELECT count(*) FROM peer.problem")
    lines: list[RenderableType] = []
    if own["peer_id"] is None:
        lines.append("This database is nobody yet: run pgpeer init.")
    else:
        lines.append(f"This database is {own['label']}, {own['peer_id']}.")
    if not database.value(WORKER_RUNS):
        lines.append("No worker runs: nothing is exchanged. Start one: pgpeer worker")
    if rows:
        lines += [peer_table(rows, datetime.now(UTC), whole_ids=whole_ids)]
    else:
        of = f" of {bundle}" if bundle else ""
        lines.append(f"There are no other members{of}. Invite one: pgpeer invite")
    if problems:
        lines.append(f"Problems: {problems}. Look at them with: pgpeer doctor")
    return Group(*lines)
