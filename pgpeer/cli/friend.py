"""`pgpeer friend`: the peers that people here know, bundles or not."""

from __future__ import annotations

from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import moment, print_json, print_lines, print_rows

app = typer.Typer(help="Ask, accept, block, end, introduce.", no_args_is_help=True)

PeerId = Annotated[str, typer.Argument(metavar="PEER_ID", help="As 'pgpeer identity show' tells it there.")]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="A word to them, at most 500 characters.")
]

_LIST = """
    SELECT f.peer_id, f.label, f.state, f.is_incoming, f.note, f.added_at, NULL AS introduced_by
      FROM peer.friend AS f
    UNION ALL
    SELECT s.peer_id, s.label, 'suggested', NULL, s.note, s.suggested_at, s.introduced_by
      FROM peer.suggestion AS s
     ORDER BY 6, 1
"""


def _call(
    dsn: str | None, as_json: bool, statement: str, parameters: dict[str, str | None], done: str
) -> None:
    with open_database(required_dsn(dsn)) as database:
        database.value(f"SELECT {statement}", parameters)
    if as_json:
        print_json(parameters)
    else:
        print_lines([done])


@app.command("list")
def list_friends(dsn: Dsn = None, as_json: Json = False) -> None:
    """List friends, requests, blocked peers and suggestions."""
    with open_database(required_dsn(dsn)) as database:
        rows = database.rows(_LIST)
    if as_json:
        print_json(rows)
        return
    shown = [row | {"added_at": moment(row["added_at"])} for row in rows]
    print_rows(
        shown,
        ["label", "peer_id", "state", "is_incoming", "note", "introduced_by", "added_at"],
        empty="There are no friends yet. pgpeer friend add PEER_ID asks somebody.",
    )


@app.command("add")
def add(peer_id: PeerId, note: Note = None, dsn: Dsn = None, as_json: Json = False) -> None:
    """Ask a peer to be a friend, or accept when it has asked."""
    parameters = {"peer_id": peer_id, "note": note}
    _call(
        dsn, as_json, "peer.befriend(%(peer_id)s, %(note)s)", parameters, "Asked. The worker tells that peer."
    )


@app.command("accept")
def accept(peer_id: PeerId, dsn: Dsn = None, as_json: Json = False) -> None:
    """Accept a peer that has asked."""
    _call(dsn, as_json, "peer.accept(%(peer_id)s)", {"peer_id": peer_id}, "You are friends now.")


@app.command("block")
def block(peer_id: PeerId, dsn: Dsn = None, as_json: Json = False) -> None:
    """End all links with a peer and refuse it from now on."""
    _call(dsn, as_json, "peer.block(%(peer_id)s)", {"peer_id": peer_id}, "Blocked.")


@app.command("remove")
def remove(peer_id: PeerId, dsn: Dsn = None, as_json: Json = False) -> None:
    """End a friendship, take back or turn down a request, lift a block, or dismiss a suggestion."""
    _call(dsn, as_json, "peer.unfriend(%(peer_id)s)", {"peer_id": peer_id}, "Removed.")


@app.command("introduce")
def introduce(
    peer_id: PeerId,
    to_peer_id: Annotated[str, typer.Argument(metavar="TO_PEER_ID", help="The other friend.")],
    note: Note = None,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Tell two friends of each other; each of them decides."""
    parameters = {"peer_id": peer_id, "to_peer_id": to_peer_id, "note": note}
    statement = "peer.introduce(%(peer_id)s, %(to_peer_id)s, %(note)s)"
    _call(dsn, as_json, statement, parameters, "Introduced. The worker tells both.")
