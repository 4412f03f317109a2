"""`pgpeer resolve`: settles a conflict by hand."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines
from pgpeer.errors import ConfigError, StoreError

_SIGNATURE = "peer.resolve(text, text, jsonb)"


class Choice(StrEnum):
    """Which value shall stand."""

    WINNER = "winner"
    LOSER = "loser"
    BASE = "base"
    VALUE = "value"


def run(
    conflict_id: Annotated[
        str, typer.Argument(metavar="CONFLICT", help="The id, as 'pgpeer conflicts' shows it.")
    ],
    choice: Annotated[Choice, typer.Argument(metavar="CHOICE", help="Which value shall stand.")],
    value: Annotated[
        str | None, typer.Option("--value", metavar="JSON", help="With choice 'value': the value, as JSON.")
    ] = None,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Settle a conflict by choice (not yet available).

    It comes with version control. Until then an ordinary UPDATE resolves a conflict.
    """
    if (choice is Choice.VALUE) != (value is not None):
        raise typer.BadParameter("goes together with the choice 'value'", param_hint="--value")
    if value is not None:
        _require_json(value)
    with open_database(required_dsn(dsn)) as database:
        if database.value("SELECT pg_catalog.to_regprocedure(%(name)s)", {"name": _SIGNATURE}) is None:
            raise StoreError(
                "Conflicts cannot be resolved by command in this version.",
                remedy="Write the value that shall stand with an ordinary UPDATE: it has seen both sides, "
                "so that the conflict counts as resolved.",
                code="not_available",
            )
        parameters = {"conflict": conflict_id, "choice": choice.value, "value": value}
        database.value("SELECT peer.resolve(%(conflict)s, %(choice)s, %(value)s::jsonb)", parameters)
    if as_json:
        print_json({"conflict_id": conflict_id, "choice": choice.value})
    else:
        print_lines([f"Resolved {conflict_id}."])


def _require_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not a JSON value.", remedy="""Write a text as '"text"' and a number as 42."""
        ) from error
