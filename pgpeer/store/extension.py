"""pgpeer as an extension: the files for a server, and what stands in a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

import pgpeer
from pgpeer.errors import StoreError
from pgpeer.store.revisions import Revision
from pgpeer.store.script import extension_script
from pgpeer.store.sources import SqlSources
from pgpeer.store.transaction import one

EARLIER_RELEASES: Final[tuple[str, ...]] = ()
"""Released versions before this one, from each of which ALTER EXTENSION pgpeer UPDATE leads here."""

_FIRST_CONTROL_PATH: Final = 180000
_EXTENSION_VERSION: Final = "SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'pgpeer'"


def extension_files(
    version: str = pgpeer.__version__,
    *,
    earlier: Sequence[str] = EARLIER_RELEASES,
    sources: SqlSources | None = None,
    revisions: Sequence[Revision] | None = None,
) -> dict[str, str]:
    """The files of the extension by name: control file, script, and an update from each `earlier` version.

    Raises:
        StoreError: the SQL files are incomplete.
    """
    files = sources if sources is not None else SqlSources.read()
    control = files.directory / "pgpeer.control"
    if not control.is_file():
        raise StoreError(f"{control} is missing.", remedy="Install pgpeer again.")
    made = {
        "pgpeer.control": control.read_text(encoding="utf-8").replace("@VERSION@", version),
        f"pgpeer--{version}.sql": extension_script(files, revisions=revisions),
    }
    for before in earlier:
        made[f"pgpeer--{before}--{version}.sql"] = extension_script(files, revisions=revisions, updates=True)
    return made


def write_extension(directory: Path) -> tuple[Path, ...]:
    """Writes the files of the extension into a folder, which is made when it is missing.

    Returns:
        The paths of the files, which everybody may read: the server does so under its own account.

    Raises:
        StoreError: the folder cannot be written.
    """
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in extension_files().items():
            path = directory / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
            written.append(path)
    except OSError as error:
        raise StoreError(
            f"The extension cannot be written to {directory}: {error.strerror or error}.",
            remedy="Name a folder that you may write to, or run the command as its owner.",
            code="not_writable",
        ) from error
    return tuple(written)


def extension_version(connection: psycopg.Connection) -> str | None:
    """The version of the extension in the database; None when pgpeer is not there as an extension."""
    found = one(connection, _EXTENSION_VERSION)
    return None if found is None else str(found)


def provide_extension(connection: psycopg.Connection, *, version: str = pgpeer.__version__) -> str:
    """Creates the extension or updates it to the version of this package, in the open transaction.

    Returns:
        What was done, as a sentence.

    Raises:
        StoreError: the server has no files of that version; nothing was changed.
        psycopg.Error: the script was refused, for example because pgpeer is there without the extension.
    """
    present = extension_version(connection)
    if present == version:
        return f"pgpeer {version} is already installed as an extension."
    offered = connection.execute(
        "SELECT FROM pg_catalog.pg_available_extension_versions WHERE name = 'pgpeer' AND version = %s",
        [version],
    ).fetchone()
    if offered is None:
        raise StoreError(
            f"The server has no files of the extension pgpeer {version}.",
            remedy=_where_to_put_files(connection.info.server_version),
            code="no_extension_files",
        )
    if present is None:
        connection.execute(sql.SQL("CREATE EXTENSION pgpeer VERSION {}").format(version))
        return f"Installed pgpeer {version} as an extension."
    connection.execute(sql.SQL("ALTER EXTENSION pgpeer UPDATE TO {}").format(version))
    return f"Upgraded the extension pgpeer from version {present} to {version}."


def _where_to_put_files(server: int) -> str:
    system = 'On the server run: pgpeer init --write-extension "$(pg_config --sharedir)/extension"'
    if server < _FIRST_CONTROL_PATH:
        return f"{system}, then try again."
    return (
        f"{system}; or write them to another folder, such as /opt/pgpeer/extension, and set "
        "extension_control_path = '/opt/pgpeer:$system'. Then try again."
    )
