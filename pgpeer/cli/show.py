"""`pgpeer show`: one commit."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.changes import print_changes
from pgpeer.cli.database import open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import Row, moment, print_json, print_lines

_FULL_ID = """
    SELECT c.commit_id FROM peer_internal.commit AS c
     WHERE c.commit_no = peer_internal.resolve_commit(peer_internal.bundle_id(%(bundle)s), %(commit)s)
"""
_NEWEST = "SELECT * FROM peer.log(%(bundle)s) LIMIT 1"
_ONE = "SELECT * FROM peer.log(%(bundle)s) AS l WHERE l.commit_id = %(full_id)s"


def run(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name of the bundle.")],
    commit: Annotated[
        str, typer.Argument(metavar="COMMIT", help="A commit id, a unique part of one, or HEAD.")
    ] = "HEAD",
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Show what a commit wrote.

    Who, when, why, and every changed cell.
    """
    with open_database(required_dsn(dsn)) as database, database.transaction():
        parameters = {"bundle": bundle, "commit": commit}
        rows = database.rows("SELECT * FROM peer.show(%(bundle)s, %(commit)s)", parameters)
        if commit == "HEAD":  # the newest one, as in peer.show
            headers = database.rows(_NEWEST, parameters)
        else:
            parameters["full_id"] = database.value(_FULL_ID, parameters)
            headers = database.rows(_ONE, parameters)
    if as_json:
        print_json(rows)
        return
    for header in headers:
        print_lines(_header(header))
    print_changes(rows, empty="It wrote no rows.")


def _header(row: Row) -> list[str]:
    label = f"{row['author_label']} " if row["author_label"] else ""
    lines = [
        f"commit   {row['commit_id']}",
        f"author   {label}({row['author']})",
        f"date     {moment(row['committed_at'])}",
        f"rows     {row['row_count']}",
        *(f"parent   {parent}" for parent in row["parents"]),
    ]
    if not row["signed"]:
        lines.append("not signed yet: it leaves this database once the worker has signed it")
    if row["message"]:
        lines += ["", *(f"    {line}" for line in row["message"].splitlines())]
    return [*lines, ""]
