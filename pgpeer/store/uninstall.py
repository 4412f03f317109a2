"""Takes pgpeer out of a database, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgpeer.errors import StoreError
from pgpeer.store.extension import extension_version
from pgpeer.store.preconditions import IS_INSTALLED
from pgpeer.store.transaction import one, transaction


@dataclass(frozen=True, slots=True)
class UninstallReport:
    """What `uninstall` found and did.

    Attributes:
        database: the name of the database.
        removed: False when pgpeer was not installed there.
        relations: the tables that were tracked; they stay, with all their rows.
    """

    database: str
    removed: bool
    relations: tuple[str, ...]


def uninstall(dsn: str, *, lock_seconds: float = 10.0) -> UninstallReport:
    """Removes pgpeer, its history included; the user's tables stay as they were, with all their rows.

    Args:
        dsn: the database, as libpq takes it.
        lock_seconds: how long to wait for transactions that use pgpeer or a tracked table.

    Raises:
        StoreError: the database cannot be reached, pgpeer is in use or belongs to somebody else, or objects
            of the user depend on it; nothing was changed.
    """
    with transaction(dsn) as connection:
        database = connection.info.dbname
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        if not one(connection, IS_INSTALLED):
            return UninstallReport(database, removed=False, relations=())
        dependents = [row[0] for row in connection.execute(_DEPENDENTS)]
        if dependents:
            raise StoreError(
                f"These objects depend on pgpeer and would be lost: {', '.join(dependents)}.",
                remedy="Drop or change them first.",
                code="dependent_objects",
            )
        relations = [row[0] for row in connection.execute(_TRIGGERED)]
        connection.execute(f"SET LOCAL lock_timeout = {round(lock_seconds * 1000)}")
        connection.execute("SET LOCAL client_min_messages = warning")
        if extension_version(connection) is not None:
            connection.execute("DROP EXTENSION pgpeer CASCADE")
        else:
            connection.execute("DROP SCHEMA peer, peer_internal CASCADE")
        return UninstallReport(database, removed=True, relations=tuple(relations))


_TRIGGERED: Final = """
    SELECT DISTINCT t.tgrelid::pg_catalog.regclass::text
      FROM pg_catalog.pg_trigger AS t
      JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
      JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
     WHERE p.pronamespace = 'peer_internal'::pg_catalog.regnamespace
       AND c.relnamespace NOT IN ('peer'::pg_catalog.regnamespace, 'peer_internal'::pg_catalog.regnamespace)
     ORDER BY 1
"""

# Everything of the user that DROP ... CASCADE would take along. Triggers on tracked tables are pgpeer's own.
_DEPENDENTS: Final = """
    WITH room AS (
        SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname IN ('peer', 'peer_internal')
    ), ours AS (
        SELECT c.tableoid AS classid, c.oid
          FROM pg_catalog.pg_class AS c JOIN room AS r ON r.oid = c.relnamespace
        UNION ALL
        SELECT p.tableoid, p.oid FROM pg_catalog.pg_proc AS p JOIN room AS r ON r.oid = p.pronamespace
        UNION ALL
        SELECT t.tableoid, t.oid FROM pg_catalog.pg_type AS t JOIN room AS r ON r.oid = t.typnamespace
    ), placed AS (
        SELECT c.tableoid AS classid, c.oid, c.relnamespace AS namespace FROM pg_catalog.pg_class AS c
        UNION ALL
        SELECT p.tableoid, p.oid, p.pronamespace FROM pg_catalog.pg_proc AS p
        UNION ALL
        SELECT t.tableoid, t.oid, t.typnamespace FROM pg_catalog.pg_type AS t
        UNION ALL
        SELECT s.tableoid, s.oid, s.connamespace FROM pg_catalog.pg_constraint AS s
        UNION ALL
        SELECT w.tableoid, w.oid, c.relnamespace
          FROM pg_catalog.pg_rewrite AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.ev_class
        UNION ALL
        SELECT a.tableoid, a.oid, c.relnamespace
          FROM pg_catalog.pg_attrdef AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.adrelid
        UNION ALL
        SELECT q.tableoid, q.oid, c.relnamespace
          FROM pg_catalog.pg_policy AS q JOIN pg_catalog.pg_class AS c ON c.oid = q.polrelid
    )
    SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
      FROM pg_catalog.pg_depend AS d
      JOIN ours AS o ON o.classid = d.refclassid AND o.oid = d.refobjid
      JOIN placed AS p ON p.classid = d.classid AND p.oid = d.objid
     WHERE p.namespace NOT IN (SELECT r.oid FROM room AS r)
       AND p.namespace <> 'pg_toast'::pg_catalog.regnamespace
     ORDER BY 1
"""
