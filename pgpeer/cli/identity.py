"""`pgpeer identity`: where the key of a database is, a copy of it, and a new one in its place."""

from __future__ import annotations

import time
import urllib.parse
from pathlib import Path
from typing import Annotated, Final

import typer

from pgpeer.cli import succession
from pgpeer.cli.database import WORKER_RUNS, Database, open_database
from pgpeer.cli.options import Dsn, Identity, Json, required_dsn
from pgpeer.cli.output import print_json, print_lines
from pgpeer.config import Settings
from pgpeer.errors import IdentityError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.rotation import install_next, next_file, prepare_next
from pgpeer.store.preconditions import IS_INSTALLED

app = typer.Typer(help="Show, back up and change the key of this database.", no_args_is_help=True)

_FOLDER: Final = "identities"
_ENDING: Final = ".identity"
_LISTEN_SECONDS: Final = 10.0

_PLACE: Final = """
    SELECT s.system_identifier::text || '-' || pg_catalog.current_database()
      FROM pg_catalog.pg_control_system() AS s
"""


def choose_identity(dsn: str, given: Path | None, settings: Settings) -> Path:
    """The identity file to use for a database: the one named, else the one that is or would be its own.

    By default there is one file per database, named after the server's system identifier and the database. A
    database that carries an identity already (it was restored or copied here) keeps it when its file lies in
    the same folder.

    Raises:
        IdentityError: the database has an identity whose file is not there.
        StoreError: the database cannot be reached.
    """
    if given is not None:
        return given.expanduser().absolute()
    with open_database(dsn, needs_pgpeer=False) as database:
        default = _default_path(database, settings)
        owner = _present_identity(database)
    if owner is None or default.exists():
        return default
    for path in sorted(default.parent.glob("*" + _ENDING)):
        if _peer_id(path) == owner:
            return path
    raise IdentityError(
        f"This database is the peer {owner}, but the file with its key is not in {default.parent}.",
        remedy="Name the file with --identity FILE, or put a copy back: pgpeer identity restore COPY. "
        "With 'pgpeer init --identity NEWFILE' it becomes another peer.",
        code="identity_file",
    )


def _default_path(database: Database, settings: Settings) -> Path:
    folder = settings.state_directory / _FOLDER
    return folder / (urllib.parse.quote(str(database.value(_PLACE)), safe="-") + _ENDING)


def _present_identity(database: Database) -> str | None:
    if not database.value(IS_INSTALLED):
        return None
    found = database.value("SELECT peer.identity()")
    return None if found is None else str(found)


def _peer_id(path: Path) -> str | None:
    """Whose key a file holds; None for a file that is no use."""
    try:
        return IdentityFile(path).load().peer_id
    except IdentityError:
        return None


@app.command("show")
def show(dsn: Dsn = None, identity: Identity = None, as_json: Json = False) -> None:
    """Tell the peer id of this database and where its key is."""
    address = required_dsn(dsn)
    file = IdentityFile(choose_identity(address, identity, Settings.read()))
    key = file.load()
    with open_database(address) as database:
        owner = _present_identity(database)
    found = {"peer_id": key.peer_id, "identity": str(file.path), "is_in_use": owner == key.peer_id}
    if as_json:
        print_json(found)
        return
    print_lines([f"peer id   {key.peer_id}", f"identity  {file.path}"])
    if owner != key.peer_id:
        print_lines([f"The database is {owner or 'nobody yet'}: this file is not its own."])


@app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; must not exist.")],
    dsn: Dsn = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Copy the identity file, readable by you alone (mode 0600).

    Whoever has the copy can act as this database: keep it where you keep passwords.
    """
    key = IdentityFile(choose_identity(required_dsn(dsn), identity, Settings.read())).load()
    copy = IdentityFile(target.expanduser().absolute())
    copy.create(key)
    if as_json:
        print_json({"peer_id": key.peer_id, "identity": str(copy.path)})
    else:
        print_lines([f"Copied the key of {key.peer_id} to {copy.path}."])


@app.command("restore")
def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'pgpeer identity backup' wrote.")],
    dsn: Dsn = None,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Put a copy of the identity file back in its place, after that was lost.

    The database goes on in a new epoch, because the copy does not know what the lost file has signed. Stop
    the worker first.
    """
    key = IdentityFile(backup_file.expanduser().absolute()).load()
    with open_database(required_dsn(dsn)) as database:
        owner = _present_identity(database)
        if owner != key.peer_id:
            present = owner or "nobody yet"
            raise IdentityError(
                f"The file {backup_file} is the key of {key.peer_id}; the database is {present}.",
                remedy="Find the right copy, or let it be another peer: pgpeer init --identity FILE.",
                code="identity_mismatch",
            )
        if database.value(WORKER_RUNS):
            raise IdentityError(
                "A worker runs for this database, so its identity file is there.",
                remedy="Stop the worker first if it shall use the copy.",
                code="identity_in_use",
            )
        default = _default_path(database, Settings.read())
        file = IdentityFile(default if identity is None else identity.expanduser().absolute())
        if file.exists():
            raise IdentityError(
                f"The identity file '{file.path}' exists already.",
                remedy="Use it as it is: it knows what it has signed. Move it away if it is damaged.",
                code="identity_exists",
            )
        database.value("SELECT peer_internal.renew_epoch()")  # before the file: harmless without it
        file.create(key)
    if as_json:
        print_json({"peer_id": key.peer_id, "identity": str(file.path)})
    else:
        print_lines([f"Put the key of {key.peer_id} back to {file.path}. Start the worker again."])


@app.command("rotate")
def rotate(
    dsn: Dsn = None,
    identity: Identity = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Also when no other member can hear of the new key now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Begin a new key; the old one names it as its successor and ends.

    Run it while the worker runs, so that it tells the other members; then stop the worker and run it again.
    It can be repeated at any point. The old file is kept beside the new one.
    """
    address = required_dsn(dsn)
    file = IdentityFile(choose_identity(address, identity, Settings.read()))
    with open_database(address) as database:
        _announce(database, file, alone=alone)
        with file.hold() as held:
            old, new = held.key, prepare_next(file)
            with database.transaction():
                label = database.value("SELECT c.label FROM peer.config AS c")
                database.value(
                    "SELECT peer_internal.set_identity(decode(%(key)s, 'hex'), %(label)s)",
                    {"key": new.public_key.hex(), "label": label},
                )
            retired = install_next(file)
    if as_json:
        print_json({"peer_id": new.peer_id, "former_peer_id": old.peer_id, "former_identity": str(retired)})
        return
    print_lines(
        [
            f"This database is {new.peer_id} now; it was {old.peer_id}.",
            f"The old key is kept in {retired}. Start the worker again.",
        ]
    )


def _announce(database: Database, file: IdentityFile, *, alone: bool) -> None:
    """Let the old key name the new one, and give the worker time to tell it."""
    old = file.load()
    owner = _present_identity(database)
    if next_file(file).exists() and owner == next_file(file).load().peer_id:
        return  # a former attempt ended after the database had changed
    if owner != old.peer_id:
        raise IdentityError(
            f"The file {file.path} is not the key of this database, which is {owner or 'nobody yet'}.",
            remedy="Name the right file with --identity, or run 'pgpeer init' first.",
            code="identity_file",
        )
    if next_file(file).exists() and succession.is_announced(database, old, next_file(file).load()):
        return
    deaf = succession.deaf_bundles(database)
    if deaf and not alone:
        raise IdentityError(
            f"No other member of {', '.join(deaf)} is linked now: nobody would know the new key.",
            remedy="Start the worker and wait for a link, or use --alone and let an admin invite this "
            "database again.",
            code="peer_offline",
        )
    new = prepare_next(file)
    if succession.announce(database, old, new):
        _wait_for_listeners(database)


def _wait_for_listeners(database: Database) -> None:
    """Members that have heard end their links with the old key."""
    give_up = time.monotonic() + _LISTEN_SECONDS
    while database.value(succession.LISTENING) and time.monotonic() < give_up:
        time.sleep(0.2)
