"""`pgpeer peers`: with whom this database exchanges what."""

from __future__ import annotations

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import Row, moment, print_json, print_lines, print_rows

_PEERS = """
    SELECT m.bundle, m.peer_id, m.label, m.role, m.state, m.last_seen, m.acknowledged,
           c.connection_id, c.path, c.engine, c.rtt, c.bytes_sent, c.bytes_received, c.since
      FROM peer.member AS m
      LEFT JOIN LATERAL (SELECT x.* FROM peer.connection AS x
                          WHERE x.peer_id = m.peer_id AND x.kind = 'link'
                          ORDER BY x.since DESC LIMIT 1) AS c ON true
     WHERE m.peer_id IS DISTINCT FROM peer.identity() AND (%(bundle)s::text IS NULL OR m.bundle = %(bundle)s)
     ORDER BY m.bundle, m.label, m.peer_id
"""
_COLUMNS = ["bundle", "label", "peer_id", "role", "connected", "path", "last_seen"]


def run(bundle: Bundle = None, dsn: Dsn = None, as_json: Json = False) -> None:
    """List the other members of bundles.

    Also the connections to them.
    """
    with open_database(required_dsn(dsn)) as database:
        if bundle is not None:
            database.value("SELECT peer_internal.bundle_id(%(bundle)s)", {"bundle": bundle})
        rows = database.rows(_PEERS, {"bundle": bundle})
        own = database.value("SELECT peer.identity()")
    if as_json:
        print_json(rows)
        return
    print_lines([f"This database is {own or 'nobody yet: run pgpeer init'}."])
    print_rows([_readable(row) for row in rows], _COLUMNS, empty="There are no other members.")


def _readable(row: Row) -> Row:
    return row | {"connected": row["connection_id"] is not None, "last_seen": moment(row["last_seen"])}
