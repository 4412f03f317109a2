"""Installs pgpeer in a database or upgrades it, in one transaction."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import sqlalchemy
from alembic.config import Config
from sqlalchemy.pool import NullPool

from alembic import command
from pgpeer.errors import ConfigError, StoreError
from pgpeer.store.extension import extension_version, provide_extension
from pgpeer.store.preconditions import check_preconditions
from pgpeer.store.revisions import VERSION_SCHEMA, VERSION_TABLE, read_revisions
from pgpeer.store.script import LOCK
from pgpeer.store.sources import SqlSources, migration_directory
from pgpeer.store.transaction import connect, one, refusals, run_file
from pgpeer.store.uninstall import UninstallReport, uninstall

__all__ = ["InstallReport", "UninstallReport", "install", "uninstall"]

_LONGEST_LABEL: Final = 200


@dataclass(frozen=True, slots=True)
class InstallReport:
    """What `install` found and did.

    Attributes:
        database: the name of the database.
        state: `installed`, `upgraded`, or `unchanged` when the same version was there already.
        schema_version: the migration that the database now stands at.
        peer_id: who the database is among peers; None while it has no identity.
        hub: the address of the hub in use; None without one.
        actions: what was done, one sentence each.
    """

    database: str
    state: str
    schema_version: str
    peer_id: str | None
    hub: str | None
    actions: tuple[str, ...]


def install(
    dsn: str,
    *,
    hub: str | None = None,
    public_key: bytes | None = None,
    label: str | None = None,
    sources: SqlSources | None = None,
    as_extension: bool = False,
) -> InstallReport:
    """Installs pgpeer or brings it up to date; running it again changes nothing.

    A database that has pgpeer as an extension keeps it that way: the extension is updated.

    Args:
        dsn: the database, as libpq takes it. The role becomes the owner of pgpeer.
        hub: the WebSocket address of the signalling hub to use; None leaves the choice as it is.
        public_key: 32 bytes, the identity of this database among peers; None leaves it as it is.
        label: the name that other peers see; None leaves it as it is.
        sources: the SQL files, by default those of this package.
        as_extension: make it an extension, for which the server must have the files.

    Raises:
        StoreError: the database cannot be reached or used, or pgpeer is there already and not as the
            extension that was asked for; nothing was changed.
        ConfigError: an argument cannot be used; nothing was changed.
    """
    if hub is not None:
        _check_hub(hub)
    if label is not None:
        _check_label(label)
    files = sources if sources is not None else SqlSources.read()
    with refusals(), _transaction_for_alembic(dsn) as outer:
        connection = outer.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")  # whatever the role's own one is
        connection.execute(f"SELECT {LOCK}")
        was_installed = check_preconditions(connection)
        before = _standing(connection) if was_installed else None
        actions = [_provide(outer, connection, files, before, as_extension)]
        after = _standing(connection)
        if public_key is not None:
            _set_identity(connection, public_key, label, actions)
        elif label is not None:
            connection.execute("UPDATE peer.config SET label = %s", [label])
        if hub is not None:
            _set_hub(connection, hub, actions)
        state = "installed" if before is None else "unchanged" if before == after else "upgraded"
        return InstallReport(
            database=connection.info.dbname,
            state=state,
            schema_version=after[1],
            peer_id=_peer_id(connection),
            hub=_hub(connection),
            actions=tuple(actions),
        )


@contextmanager
def _transaction_for_alembic(dsn: str) -> Iterator[sqlalchemy.Connection]:
    """A transaction of SQLAlchemy, inside which the psycopg connection may be used as well."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connect(dsn), poolclass=NullPool, use_native_hstore=False
    )
    with engine.begin() as outer:
        yield outer


def _provide(
    outer: sqlalchemy.Connection,
    connection: psycopg.Connection,
    sources: SqlSources,
    before: tuple[str | None, str] | None,
    as_extension: bool,
) -> str:
    """Installs or upgrades, as the extension or by migrations; tells what was done."""
    if before is not None and before[0] is None and as_extension:
        raise StoreError(
            f"In the database {connection.info.dbname} pgpeer is there already, and not as an extension.",
            remedy="Leave out --extension: pgpeer init upgrades it as it is. "
            "To make it an extension, its history would have to go first: pgpeer uninstall.",
            code="not_an_extension",
        )
    if as_extension or (before is not None and before[0] is not None):
        return provide_extension(connection)
    present = None if before is None else before[1]
    _refuse_newer(connection, sources, present)
    _migrate(outer, sources)
    _renew_functions(connection, sources)
    return _describe(present, _schema_version(connection))


def _migrate(outer: sqlalchemy.Connection, sources: SqlSources) -> None:
    """Runs the outstanding migrations inside the open transaction."""
    outer.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}")
    config = Config()
    config.set_main_option("script_location", str(migration_directory()).replace("%", "%%"))
    config.attributes.update(connection=outer, sources=sources)
    command.upgrade(config, "head")


def _renew_functions(connection: psycopg.Connection, sources: SqlSources) -> None:
    """Runs the re-runnable files; a function may name another one that comes later in them."""
    connection.execute("SET LOCAL check_function_bodies = off")
    for path in sources.functions:
        run_file(connection, path)


def _refuse_newer(connection: psycopg.Connection, sources: SqlSources, present: str | None) -> None:
    known = read_revisions(sources)[-1].number
    if present is not None and present > known:
        raise StoreError(
            f"The database {connection.info.dbname} stands at schema version {present}, "
            f"and this pgpeer knows no newer one than {known}.",
            remedy="Use a newer pgpeer: pip install --upgrade pgpeer",
            code="newer_schema",
        )


def _standing(connection: psycopg.Connection) -> tuple[str | None, str]:
    """The version of the extension, if it is one, and that of the schema."""
    return extension_version(connection), _schema_version(connection)


def _schema_version(connection: psycopg.Connection) -> str:
    return str(one(connection, f"SELECT version_num FROM {VERSION_SCHEMA}.{VERSION_TABLE}"))


def _describe(before: str | None, after: str) -> str:
    if before is None:
        return f"Installed pgpeer, schema version {after}."
    if before == after:
        return f"pgpeer is already installed, schema version {after}; its functions were renewed."
    return f"Upgraded pgpeer from schema version {before} to {after}."


def _set_identity(
    connection: psycopg.Connection, public_key: bytes, label: str | None, actions: list[str]
) -> None:
    before = _peer_id(connection)
    connection.execute("SELECT peer_internal.set_identity(%s, %s)", [public_key, label])
    after = _peer_id(connection)
    if before != after:
        actions.append(f"Set the identity {after}.")


def _set_hub(connection: psycopg.Connection, hub: str, actions: list[str]) -> None:
    if _hub(connection) == hub:
        return
    connection.execute("INSERT INTO peer.hub (url) VALUES (%s) ON CONFLICT (url) DO NOTHING", [hub])
    connection.execute("UPDATE peer.hub SET enabled = true WHERE url = %s AND NOT enabled", [hub])
    connection.execute("UPDATE peer.config SET hub_id = (SELECT id FROM peer.hub WHERE url = %s)", [hub])
    actions.append(f"Set the hub {hub}.")


def _check_hub(hub: str) -> None:
    parts = urllib.parse.urlsplit(hub)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigError(
            f"{hub!r} is not the address of a hub.",
            remedy="Give an address such as wss://hub.example.org or ws://127.0.0.1:8765.",
        )


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= _LONGEST_LABEL:
        raise ConfigError(
            f"A label has 1 to {_LONGEST_LABEL} characters.",
            remedy="Give a short name by which other peers know this one, such as --label paris.",
        )


def _peer_id(connection: psycopg.Connection) -> str | None:
    query = "SELECT peer_internal.peer_id(public_key) FROM peer_internal.identity"
    found = one(connection, query)
    return None if found is None else str(found)


def _hub(connection: psycopg.Connection) -> str | None:
    found = one(connection, "SELECT h.url FROM peer.config AS c JOIN peer.hub AS h ON h.id = c.hub_id")
    return None if found is None else str(found)
