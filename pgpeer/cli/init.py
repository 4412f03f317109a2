"""`pgpeer init`: prepares a database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pgpeer.cli.database import open_database
from pgpeer.cli.identity import choose_identity
from pgpeer.cli.options import Dsn, Identity, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines
from pgpeer.config import Settings
from pgpeer.errors import IdentityError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.preconditions import IS_INSTALLED

_IS_COPY = """
    SELECT EXISTS (SELECT
                     FROM peer_internal.identity AS i, pg_catalog.pg_control_system() AS s
                    WHERE i.system_identifier <> s.system_identifier
                       OR i.database_oid <> (SELECT d.oid FROM pg_catalog.pg_database AS d
                                              WHERE d.datname = pg_catalog.current_database()))
"""


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
    extension: Annotated[
        bool,
        typer.Option("--extension", help="Install it as an extension; the server must have its files."),
    ] = False,
    write_extension: Annotated[
        Path | None,
        typer.Option(
            "--write-extension",
            metavar="DIR",
            help="Only write the files of the extension into a folder, for a server.",
        ),
    ] = None,
    print_sql: Annotated[
        bool,
        typer.Option("--print-sql", help="Only print the SQL that installs or upgrades pgpeer, for psql."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Install pgpeer in a database or upgrade it.

    Running it again is harmless. Makes an identity file (the private key of this database among peers, mode
    0600) unless there is one. The key never enters the database. No table of yours is touched.
    """
    if print_sql or write_extension is not None:
        _hand_out(write_extension, print_sql, as_json)
        return
    from pgpeer.store.install import install  # takes half a second, which other commands need not wait

    address = required_dsn(dsn)
    if identity is None:
        _refuse_copy(address)
    path = choose_identity(address, identity, Settings.read())
    file = IdentityFile(path)
    made = not file.exists()
    key = file.create() if made else file.load()
    try:
        report = install(address, hub=hub, public_key=key.public_key, label=label, as_extension=extension)
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


def _hand_out(directory: Path | None, print_sql: bool, as_json: bool) -> None:
    """Gives the SQL away instead of running it; no database is needed."""
    if directory is not None and print_sql:
        raise typer.BadParameter("ask for one of the two", param_hint="--print-sql / --write-extension")
    if directory is None:
        from pgpeer.store.script import plain_script

        text = plain_script()
        if as_json:
            print_json({"sql": text})
        else:
            typer.echo(text, nl=False)
        return
    from pgpeer.store.extension import write_extension

    paths = [str(path) for path in write_extension(directory)]
    if as_json:
        print_json({"files": paths})
    else:
        print_lines(f"Wrote {path}." for path in paths)


def _refuse_copy(dsn: str) -> None:
    """A copy must not quietly become a second bearer of the original's identity.

    Raises:
        IdentityError: the database is a copy of the one whose identity it carries.
        StoreError: the database cannot be reached, or belongs to another role.
    """
    with open_database(dsn, needs_pgpeer=False) as database:
        if not database.value(IS_INSTALLED) or not database.value(_IS_COPY):
            return
        name, owner = database.connection.info.dbname, database.value("SELECT peer.identity()")
    raise IdentityError(
        f"The database {name} is a copy of another one and carries its identity {owner}.",
        remedy="If both shall live: pgpeer init --identity NEWFILE makes this one a peer of its own. "
        "If the other is gone for good: pgpeer init --identity FILE, with the file of that identity, "
        "puts this one in its place.",
        code="copied_database",
    )
