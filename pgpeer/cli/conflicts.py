"""`pgpeer conflicts`: where two peers wrote different values at the same time."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import Row, cell, print_json, print_rows

_CONFLICTS = """
    SELECT x.* FROM peer.conflict AS x
     WHERE (%(bundle)s::text IS NULL OR x.bundle = %(bundle)s) AND (NOT %(open)s OR x.state = 'open')
     ORDER BY x.detected_at DESC, x.conflict_id
"""
_COLUMNS = ["conflict_id", "state", "relation", "key", "column_name", "winning_value", "losing_value", "kind"]


def run(
    bundle: Bundle = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that wait for a person.")] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """List conflicts.

    Concurrent writes of different values to one cell, with the value that lost. Work goes on meanwhile; every
    member lists the same conflicts under the same ids.
    """
    with open_database(required_dsn(dsn)) as database:
        if bundle is not None:
            database.value("SELECT peer_internal.bundle_id(%(bundle)s)", {"bundle": bundle})
        rows = database.rows(_CONFLICTS, {"bundle": bundle, "open": only_open})
    if as_json:
        print_json(rows)
    else:
        print_rows([_readable(row) for row in rows], _COLUMNS, empty="There are no conflicts.")


def _readable(row: Row) -> Row:
    values = {name: _value(row[name]) for name in ("winning_value", "losing_value")}
    return row | values | {"column_name": row["column_name"] or "(the row)"}


def _value(value: object) -> str:
    return "NULL" if value is None else cell(value)
