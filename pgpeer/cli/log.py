"""`pgpeer log`: the commits of a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.database import chosen_bundle, open_database
from pgpeer.cli.graph import Glyphs, graph_lines
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import Row, moment, print_json, print_lines, print_rows, short_id

_LOG = "SELECT * FROM peer.log(%(bundle)s)"


def run(
    bundle: Bundle = None,
    graph: Annotated[bool, typer.Option("--graph", help="Draw which commit has seen which.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Show the newest N commits.")
    ] = None,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """List the commits of a bundle.

    Newest first. The shown part of an id is enough to name a commit.
    """
    with open_database(required_dsn(dsn)) as database:
        name = chosen_bundle(database, bundle)
        query = _LOG if limit is None else f"{_LOG} LIMIT {limit}"
        rows = database.rows(query, {"bundle": name})
    if as_json:
        print_json(rows)
    elif graph:
        print_lines(graphed(rows))
    else:
        columns = ["commit_id", "author_label", "seq", "committed_at", "row_count", "signed", "message"]
        print_rows([_readable(row) for row in rows], columns, empty=f"There are no commits in {name} yet.")


def graphed(rows: list[Row]) -> list[str]:
    """The commits as a drawing; `rows` as peer.log gives them."""
    commits = [(row["commit_id"], row["parents"], _headline(row)) for row in rows]
    return list(graph_lines(commits, Glyphs.for_standard_output()))


def _headline(row: Row) -> str:
    words = [
        short_id(row["commit_id"]),
        moment(row["committed_at"]),
        _author(row),
        f"{row['row_count']} rows",
    ]
    if row["message"]:
        words.append(row["message"].splitlines()[0])
    if not row["signed"]:
        words.append("(not signed yet)")
    return "  ".join(words)


def _readable(row: Row) -> Row:
    return row | {
        "commit_id": short_id(row["commit_id"]),
        "author_label": _author(row),
        "committed_at": moment(row["committed_at"]),
        "message": (row["message"] or "").partition("\n")[0],
    }


def _author(row: Row) -> str:
    return str(row["author_label"] or row["author"][:12])
