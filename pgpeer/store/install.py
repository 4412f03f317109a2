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
from pgpeer.errors import ConfigError
from pgpeer.store.preconditions import check_preconditions
from pgpeer.store.sources import SqlSources, migration_directory
from pgpeer.store.transaction import connect, one, refusals, run_file
from pgpeer.store.uninstall import UninstallReport, uninstall

__all__ = ["InstallReport", "UninstallReport", "install", "uninstall"]

VERSION_SCHEMA: Final = "peer_internal"
VERSION_TABLE: Final = "schema_version"

_LOCK: Final = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgpeer/v1/install', 0))"


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
) -> InstallReport:
    """Installs pgpeer or brings it up to date; running it again changes nothing.

    Args:
        dsn: the database, as libpq takes it. The role becomes the owner of pgpeer.
        hub: the WebSocket address of the signalling hub to use; None leaves the choice as it is.
        public_key: 32 bytes, the identity of this database among peers; None leaves it as it is.
        label: the name that other peers see; None leaves it as it is.
        sources: the SQL files, by default those of this package.

    Raises:
        StoreError: the database cannot be reached or used; nothing was changed.
        ConfigError: an argument cannot be used; nothing was changed.
    """
    if hub is not None:
        _check_hub(hub)
    files = sources if sources is not None else SqlSources.read()
    with refusals(), _transaction_for_alembic(dsn) as outer:
        connection = outer.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")  # whatever the role's own one is
        connection.execute(_LOCK)
        was_installed = check_preconditions(connection)
        before = _schema_version(connection) if was_installed else None
        _migrate(outer, files)
        after = _schema_version(connection)
        _renew_functions(connection, files)
        actions = [_describe(before, after)]
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
            schema_version=after,
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


def _peer_id(connection: psycopg.Connection) -> str | None:
    query = "SELECT peer_internal.peer_id(public_key) FROM peer_internal.identity"
    found = one(connection, query)
    return None if found is None else str(found)


def _hub(connection: psycopg.Connection) -> str | None:
    found = one(connection, "SELECT h.url FROM peer.config AS c JOIN peer.hub AS h ON h.id = c.hub_id")
    return None if found is None else str(found)
