"""`pgpeer track` and `pgpeer untrack`: which tables are in a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines

Relations = Annotated[list[str], typer.Argument(metavar="TABLE", help="Tables, written as in SQL.")]


def track(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name of the bundle.")],
    relations: Relations,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Put tables into a bundle.

    Existing rows become a commit, changes are captured from now on. All tables or none. Put a table after
    those that its foreign keys name.
    """
    with open_database(required_dsn(dsn)) as database, database.transaction():
        for relation in relations:
            parameters = {"bundle": bundle, "relation": relation}
            database.value("SELECT peer.track(%(bundle)s, %(relation)s::pg_catalog.regclass)", parameters)
    _tell(
        [{"bundle": bundle, "relation": relation} for relation in relations], "Tracked {relation}.", as_json
    )


def untrack(relations: Relations, dsn: Dsn = None, as_json: Json = False) -> None:
    """Take tables out of a bundle, in this database.

    They are no longer captured and merged; their rows stay, and other members go on.
    """
    with open_database(required_dsn(dsn)) as database, database.transaction():
        for relation in relations:
            database.value("SELECT peer.untrack(%(relation)s::pg_catalog.regclass)", {"relation": relation})
    _tell([{"relation": relation} for relation in relations], "No longer tracks {relation}.", as_json)


def _tell(rows: list[dict[str, str]], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_lines(sentence.format_map(row) for row in rows)
