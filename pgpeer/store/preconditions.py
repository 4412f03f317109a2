"""What a database must be before pgpeer is installed in it; each lack has a sentence and a remedy."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from pgpeer.errors import StoreError

OLDEST_VERSION: Final = 140000
_FIRST_PARAMETER_GRANTS: Final = 150000
_INSUFFICIENT_PRIVILEGE: Final = "42501"

# Not to_regclass: that is refused to a role that may not enter the schema, and must be told who owns it.
IS_INSTALLED: Final = """
    SELECT EXISTS (SELECT
                     FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'peer_internal' AND c.relname = 'schema_version')
"""
"""A query that tells whether pgpeer is installed in the database."""

_FACTS: Final = f"""
    SELECT pg_catalog.current_setting('server_encoding') AS encoding,
           pg_catalog.pg_is_in_recovery() AS is_standby,
           pg_catalog.current_database() AS database,
           current_user AS role,
           pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
           ({IS_INSTALLED}) AS is_installed,
           (SELECT n.nspname FROM pg_catalog.pg_namespace AS n
             WHERE n.nspname IN ('peer', 'peer_internal') ORDER BY 1 LIMIT 1) AS taken,
           (SELECT pg_catalog.pg_get_userbyid(n.nspowner) FROM pg_catalog.pg_namespace AS n
             WHERE n.nspname = 'peer_internal') AS owner,
           (SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE') FROM pg_catalog.pg_namespace AS n
             WHERE n.nspname = 'peer_internal') AS owns
"""


def check_preconditions(connection: psycopg.Connection) -> bool:
    """Refuses a database in which pgpeer cannot work; changes nothing.

    Args:
        connection: an open transaction of the role that will own pgpeer.

    Returns:
        Whether pgpeer is installed there already.

    Raises:
        StoreError: says what is wrong and, when rights are short, which GRANT is missing.
    """
    number = connection.info.server_version
    if number < OLDEST_VERSION:
        raise StoreError(
            f"This is PostgreSQL {number // 10000}; pgpeer needs version {OLDEST_VERSION // 10000} or newer.",
            remedy="Upgrade the server.",
            code="unsupported_version",
        )
    row = connection.execute(_FACTS.encode()).fetchone()
    assert row is not None
    encoding, is_standby, database, role, may_create, is_installed, taken, owner, owns = row
    if encoding != "UTF8":
        raise StoreError(
            f"The database {database} is encoded in {encoding}; pgpeer needs UTF8.",
            remedy="Make a database with ENCODING 'UTF8' and move the tables there.",
            code="unsupported_encoding",
        )
    if is_standby:
        raise StoreError(
            f"The server of the database {database} is a standby and cannot be written.",
            remedy="Give the address of the primary server.",
            code="standby",
        )
    if taken is not None and not is_installed:
        raise StoreError(
            f"The database {database} has a schema {taken} that is not pgpeer's.",
            remedy=f"Rename it: ALTER SCHEMA {taken} RENAME TO another_name.",
            code="schema_taken",
        )
    if is_installed and not owns:
        raise StoreError(
            f"pgpeer in the database {database} belongs to the role {owner}, not to {role}.",
            remedy=f"Connect as {owner}, or: {_statement(connection, 'GRANT {} TO {};', owner, role)}",
            code="missing_right",
            sqlstate=_INSUFFICIENT_PRIVILEGE,
        )
    missing = []
    if not may_create:
        missing.append(_statement(connection, "GRANT CREATE ON DATABASE {} TO {};", database, role))
    if not _may_set_replication_role(connection):
        if number >= _FIRST_PARAMETER_GRANTS:
            grant = "GRANT SET ON PARAMETER session_replication_role TO {};"
            missing.append(_statement(connection, grant, role))
        else:
            missing.append(_statement(connection, "ALTER ROLE {} SUPERUSER;", role) + " (before version 15)")
    if missing:
        raise StoreError(
            f"The role {role} lacks rights that pgpeer needs in the database {database}.",
            remedy="As a superuser run: " + " ".join(missing),
            code="missing_right",
            sqlstate=_INSUFFICIENT_PRIVILEGE,
        )
    return bool(is_installed)


def _may_set_replication_role(connection: psycopg.Connection) -> bool:
    """Tries it: the rule differs between versions and between providers."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _statement(connection: psycopg.Connection, template: str, *names: str) -> str:
    identifiers = [sql.Identifier(name) for name in names]
    return sql.SQL(template).format(*identifiers).as_string(connection)
