"""What stands in the database and beside it: server, rights, tables, identity, worker, problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pgpeer.cli.checks.clocks import clock_finding
from pgpeer.cli.checks.finding import Finding, failed, well
from pgpeer.cli.database import WORKER_RUNS, Database
from pgpeer.cli.identity import choose_identity
from pgpeer.config import Settings
from pgpeer.errors import IdentityError, PgpeerError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.preconditions import check_preconditions

_TABLE_RIGHTS: Final = """
    SELECT r.relation::text AS relation, current_user AS role
      FROM peer_internal.relation AS r
     WHERE r.is_tracked AND NOT (pg_catalog.has_table_privilege(r.relation, 'SELECT')
                                 AND pg_catalog.has_table_privilege(r.relation, 'INSERT')
                                 AND pg_catalog.has_table_privilege(r.relation, 'UPDATE')
                                 AND pg_catalog.has_table_privilege(r.relation, 'DELETE'))
     ORDER BY 1
"""

Check = Callable[[Database], Iterator[Finding]]


def inside_checks(database: Database, dsn: str, identity: Path | None) -> Iterator[Finding]:
    """Runs these checks; one that PostgreSQL refuses becomes a finding, and the others go on."""

    def identities(database: Database) -> Iterator[Finding]:
        yield _identity(database, dsn, identity)

    named: dict[str, Check] = {
        "server": _server,
        "rights": _rights,
        "tables": _table_rights,
        "installed": _schema,
        "identity": identities,
        "worker": _worker,
        "clock": _clock,
    }
    for name, check in named.items():
        yield from guarded(name, check, database)


def guarded(name: str, check: Check, database: Database) -> Iterator[Finding]:
    """Gives the findings of a check, of which the last one may say that it was refused."""
    try:
        yield from check(database)
    except PgpeerError as error:
        yield failed(name, error)


def problems(database: Database) -> Iterator[Finding]:
    """What is listed in peer.problem."""
    for row in database.rows("SELECT p.* FROM peer.problem AS p ORDER BY p.since"):
        yield Finding("problem", "fail", row["kind"], row["detail"], row["remedy"])


def _server(database: Database) -> Iterator[Finding]:
    version = database.value("SHOW server_version")
    yield well("server", f"PostgreSQL {version}, database {database.connection.info.dbname}.")


def _rights(database: Database) -> Iterator[Finding]:
    with database.transaction():
        check_preconditions(database.connection)
    role = database.value("SELECT current_user")
    yield well("rights", f"The role {role} has every right that pgpeer needs.")


def _table_rights(database: Database) -> Iterator[Finding]:
    for row in database.rows(_TABLE_RIGHTS):
        yield Finding(
            "tables",
            "fail",
            "missing_right",
            f"The role {row['role']} may not read and write {row['relation']}.",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {row['relation']} TO {row['role']};",
        )


def _schema(database: Database) -> Iterator[Finding]:
    version = database.value("SELECT v.version_num FROM peer_internal.schema_version AS v")
    bundles = database.value("SELECT count(*) FROM peer_internal.bundle")
    relations = database.value("SELECT count(*) FROM peer_internal.relation AS r WHERE r.is_tracked")
    yield well(
        "installed", f"pgpeer schema version {version}: bundles {bundles}, tracked tables {relations}."
    )


def _identity(database: Database, dsn: str, given: Path | None) -> Finding:
    peer_id = database.value("SELECT peer.identity()")
    if peer_id is None:
        return Finding(
            "identity", "fail", "no_identity", "This database has no identity yet.", "Run: pgpeer init"
        )
    try:
        path = choose_identity(dsn, given, Settings.read())
        key = IdentityFile(path).load()
    except IdentityError as error:
        return failed("identity", error)
    if key.peer_id != peer_id:
        return Finding(
            "identity",
            "fail",
            "identity_mismatch",
            f"The database is {peer_id}, but {path} is the key of {key.peer_id}.",
            "Name the right file with --identity, or run 'pgpeer init' to let the database be this peer.",
        )
    return well("identity", f"This database is {peer_id}; its key is {path}.")


def _worker(database: Database) -> Iterator[Finding]:
    if database.value(WORKER_RUNS):
        yield well("worker", "A worker runs.")
    else:
        detail = "No worker runs: nothing is exchanged."
        yield Finding("worker", "warn", "worker", detail, "Start one: pgpeer worker")


def _clock(database: Database) -> Iterator[Finding]:
    before = datetime.now(UTC)
    server = database.value("SELECT pg_catalog.clock_timestamp()")
    after = datetime.now(UTC)
    skew = max(0.0, (server - after).total_seconds()) or min(0.0, (server - before).total_seconds())
    yield clock_finding("the database server", skew)
