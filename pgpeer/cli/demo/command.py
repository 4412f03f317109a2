"""The command `pgpeer demo`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

_LONG_CUT_SECONDS: Final = 17.0
"""Longer than the 15 s without a sign of life after which a link is given up: every time-out is over."""

_SHORT_CUT_SECONDS: Final = 2.0


def run(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    small: Annotated[
        bool, typer.Option("--small", help="Fewer rows and a shorter cut: a third of the time.")
    ] = False,
    stop: Annotated[
        Path | None, typer.Option("--stop", metavar="FOLDER", help="End a demo that was left running.")
    ] = None,
) -> None:
    """Show the main job with real data.

    Starts two PostgreSQL servers, a hub and two workers; replicates continents, countries and cities; lets
    both sides edit at once, also while the link is cut; prints what happened; cleans up. Needs the extra
    pgpeer[demo]. Takes less than a minute.
    """
    # Only here: these take a second to import, and most commands do without.
    from pgpeer.cli.demo.atlas import Atlas
    from pgpeer.cli.demo.report import Report
    from pgpeer.cli.demo.stage import Stage, stop_kept
    from pgpeer.cli.demo.story import edit_apart, edit_together, fill

    if stop is not None:
        stop_kept(stop)
        typer.echo(f"Stopped everything and removed {stop}.")
        return
    atlas = Atlas.read(small=small)
    with _terminable(), Report() as report, Stage(keep=keep) as stage:
        report.act("start two PostgreSQL servers, a hub and two workers")
        stage.build()
        report.stage(stage)
        paris, tokyo = stage.places
        report.act("paris puts three tables into a bundle; tokyo joins by an invite")
        report.filled(fill(paris, tokyo, atlas))
        report.act("both edit at once")
        report.together(edit_together(paris, tokyo, rounds=1 if small else 3))
        report.act("the link is cut, and both go on editing")
        cut = _SHORT_CUT_SECONDS if small else _LONG_CUT_SECONDS
        report.apart(edit_apart(paris, tokyo, cut_seconds=cut))
        report.outcome(paris, tokyo)
        report.how_to_connect(stage)
        if keep:
            stage.leave_running()


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM, and SIGINT however it is set, clean up like Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = [(number, signal.signal(number, interrupt)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
