"""`pgpeer commit`: makes the changes of a bundle part of its history."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.database import chosen_bundle, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines


def run(
    bundle: Bundle = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="What changed and why.")] = None,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Commit what has changed in a bundle.

    Prints the commit id; says so when nothing changed. Works with no worker running.
    """
    with open_database(required_dsn(dsn)) as database:
        name = chosen_bundle(database, bundle)
        parameters = {"bundle": name, "message": message}
        rows = database.rows("SELECT * FROM peer.commit(%(bundle)s, %(message)s)", parameters)
    if as_json:
        print_json(rows[0])
    elif rows[0]["commit"] is None:
        print_lines([f"Nothing has changed in {name}."])
    else:
        print_lines([rows[0]["commit"]])
