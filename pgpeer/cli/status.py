"""`pgpeer status`: what is not committed yet."""

from __future__ import annotations

from pgpeer.cli.database import chosen_bundle, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import print_json, print_rows


def run(bundle: Bundle = None, dsn: Dsn = None, as_json: Json = False) -> None:
    """Show what is not committed, row by row."""
    with open_database(required_dsn(dsn)) as database:
        name = chosen_bundle(database, bundle)
        rows = database.rows("SELECT * FROM peer.status(%(bundle)s)", {"bundle": name})
    if as_json:
        print_json(rows)
    else:
        columns = ["operation", "relation", "key", "columns"]
        print_rows(rows, columns, empty=f"Nothing has changed in {name} since its last commit.")
