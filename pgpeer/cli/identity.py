"""Where the identity file of a database is."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Final

from pgpeer.cli.database import Database, open_database
from pgpeer.config import Settings
from pgpeer.errors import IdentityError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.preconditions import IS_INSTALLED

_FOLDER: Final = "identities"
_ENDING: Final = ".identity"

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
        folder = settings.state_directory / _FOLDER
        default = folder / (urllib.parse.quote(str(database.value(_PLACE)), safe="-") + _ENDING)
        owner = _present_identity(database)
    if owner is None or default.exists():
        return default
    for path in sorted(folder.glob("*" + _ENDING)):
        if _peer_id(path) == owner:
            return path
    raise IdentityError(
        f"This database is the peer {owner}, but the file with its key is not in {folder}.",
        remedy="Name the file with --identity FILE. A FILE that does not exist yet makes it another peer.",
        code="identity_file",
    )


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
