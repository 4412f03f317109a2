"""`pgpeer bundle`: the sets of tables that travel together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines, print_rows

app = typer.Typer(help="Create and list bundles.", no_args_is_help=True)

_LIST = """
    SELECT b.name, b.bundle_id, b.commit_mode,
           ARRAY(SELECT r.relation::text FROM peer_internal.relation AS r
                  WHERE r.bundle_id = b.bundle_id AND r.is_tracked ORDER BY 1) AS relations,
           (SELECT count(*) FROM peer_internal.commit AS c
             WHERE c.bundle_id = b.bundle_id AND c.state = 'merged') AS commits,
           (SELECT count(*) FROM peer.member AS m
             WHERE m.bundle = b.name AND m.state = 'active'
               AND m.peer_id IS DISTINCT FROM peer.identity()) AS other_members
      FROM peer_internal.bundle AS b ORDER BY b.name
"""


class CommitMode(StrEnum):
    """Who makes the commits of a bundle."""

    AUTO = "auto"
    MANUAL = "manual"


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new bundle.")],
    commit_mode: Annotated[
        CommitMode,
        typer.Option(
            "--commit-mode", help="auto: the worker commits as changes arrive; manual: people commit."
        ),
    ] = CommitMode.AUTO,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Create an empty bundle."""
    with open_database(required_dsn(dsn)) as database:
        parameters = {"name": name, "mode": commit_mode.value}
        rows = database.rows("SELECT * FROM peer.create_bundle(%(name)s, %(mode)s)", parameters)
    if as_json:
        print_json(rows[0])
    else:
        print_lines([f"Created bundle {name}. Put tables into it: pgpeer track {name} TABLE"])


@app.command("list")
def list_bundles(dsn: Dsn = None, as_json: Json = False) -> None:
    """List bundles and their tables."""
    with open_database(required_dsn(dsn)) as database:
        rows = database.rows(_LIST)
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "commit_mode", "commits", "other_members", "relations"]
        print_rows(rows, columns, empty="There are no bundles. Create one: pgpeer bundle create NAME")
