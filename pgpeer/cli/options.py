"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgpeer.config import Settings

Dsn = Annotated[
    str | None,
    typer.Option("--dsn", metavar="DSN", help="The database, as psql takes it; default: $PGPEER_DSN."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; keys are the SQL column names.")]
Bundle = Annotated[
    str | None,
    typer.Argument(metavar="BUNDLE", help="Name of the bundle; may be left out if there is one."),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="The identity file; default: one per database in the user's state folder.",
    ),
]


def required_dsn(given: str | None) -> str:
    """The database that was named by option or environment; wrong usage when neither names one."""
    dsn = given if given is not None else Settings.read().dsn
    if not dsn:
        raise typer.BadParameter(
            "name the database with --dsn or PGPEER_DSN, for example postgresql://me@localhost/atlas",
            param_hint="--dsn",
        )
    return dsn
