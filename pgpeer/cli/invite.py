"""`pgpeer invite`: a link that lets another database join a bundle."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pgpeer.cli.database import WORKER_RUNS, chosen_bundle, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines, tell


class Role(StrEnum):
    """What a member may do."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"


def run(
    bundle: Bundle = None,
    role: Annotated[Role, typer.Option("--role", help="What the new member may do.")] = Role.WRITER,
    expires: Annotated[
        str, typer.Option("--expires", metavar="INTERVAL", help="How long it is good, as in SQL.")
    ] = "7 days",
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How many databases may use it.")] = 1,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Print a link that lets another database join.

    Whoever has the link may use it: send it on a private way.
    """
    with open_database(required_dsn(dsn)) as database:
        parameters = {
            "bundle": chosen_bundle(database, bundle),
            "role": role.value,
            "expires": expires,
            "uses": uses,
        }
        query = "SELECT * FROM peer.invite(%(bundle)s, %(role)s, %(expires)s::interval, %(uses)s)"
        rows = database.rows(query, parameters)
        worker_runs = database.value(WORKER_RUNS)
    if as_json:
        print_json(rows[0])
    else:
        print_lines([rows[0]["invite"]])
    if not worker_runs:
        tell("note: no worker runs for this database; the link can be followed once one does: pgpeer worker")
