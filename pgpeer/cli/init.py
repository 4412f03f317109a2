"""`pgpeer init`: prepares a database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pgpeer.cli.identity import choose_identity
from pgpeer.cli.options import Dsn, Identity, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines
from pgpeer.config import Settings
from pgpeer.identity.keyfile import IdentityFile


def run(
    dsn: Dsn = None,
    hub: Annotated[
        str | None,
        typer.Option("--hub", metavar="URL", help="The hub to meet other peers at (ws:// or wss://)."),
    ] = None,
    identity: Identity = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="The name that other peers see; default: the database's name."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Install pgpeer in a database or upgrade it.

    Running it again is harmless. Makes an identity file (the private key of this database among peers, mode
    0600) unless there is one. The key never enters the database. No table of yours is touched.
    """
    from pgpeer.store.install import install  # takes half a second, which other commands need not wait

    address = required_dsn(dsn)
    path = choose_identity(address, identity, Settings.read())
    file = IdentityFile(path)
    made = not file.exists()
    key = file.create() if made else file.load()
    try:
        report = install(address, hub=hub, public_key=key.public_key, label=label)
    except BaseException:
        if made:  # a database that refuses pgpeer leaves no file behind
            path.unlink()
        raise
    actions = list(report.actions)
    if made:
        actions.append(f"Made the identity file {path}. Keep it: it is this database's name among peers.")
    if as_json:
        print_json(asdict(report) | {"actions": actions, "identity": str(path)})
        return
    print_lines(actions)
    print_lines(
        [
            f"database  {report.database}",
            f"peer id   {report.peer_id}",
            f"identity  {path}",
            f"hub       {report.hub or 'none yet: pgpeer init --hub ws://… sets one'}",
        ]
    )
