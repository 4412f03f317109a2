"""`pgpeer uninstall`: takes pgpeer out of a database."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines
from pgpeer.store.uninstall import uninstall


def run(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Remove pgpeer from a database.

    History and conflicts go, your tables stay as they are. The identity file stays, too. Asks first when
    somebody sits at the terminal.
    """
    address = required_dsn(dsn)
    if not yes and sys.stdin.isatty():
        typer.confirm("Remove pgpeer with its whole history from this database?", abort=True)
    report = uninstall(address)
    if as_json:
        print_json(asdict(report))
    elif not report.removed:
        print_lines([f"pgpeer is not installed in the database {report.database}; nothing was changed."])
    else:
        tables = f" These tables stay: {', '.join(report.relations)}." if report.relations else ""
        print_lines([f"Removed pgpeer from the database {report.database}.{tables}"])
