"""`pgpeer diff`: what differs between two states."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.changes import print_changes
from pgpeer.cli.database import chosen_bundle, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import print_json


def run(
    bundle: Bundle = None,
    from_commit: Annotated[
        str, typer.Argument(metavar="FROM", help="A commit id, a unique part of one, or HEAD.")
    ] = "HEAD",
    to_commit: Annotated[
        str, typer.Argument(metavar="TO", help="The same, or WORKING: with uncommitted changes.")
    ] = "WORKING",
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two states of a bundle.

    By default what is not committed yet: from HEAD to WORKING.
    """
    with open_database(required_dsn(dsn)) as database:
        name = chosen_bundle(database, bundle)
        parameters = {"bundle": name, "from": from_commit, "to": to_commit}
        rows = database.rows("SELECT * FROM peer.diff(%(bundle)s, %(from)s, %(to)s)", parameters)
    if as_json:
        print_json(rows)
    else:
        print_changes(rows, empty=f"{from_commit} and {to_commit} are equal in {name}.")
