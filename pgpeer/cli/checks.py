"""The checks of `pgpeer doctor`, each of which gives findings."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pgpeer.cli.database import Database, open_database
from pgpeer.cli.identity import choose_identity
from pgpeer.cli.invite import WORKER_RUNS
from pgpeer.config import Settings
from pgpeer.errors import IdentityError, PgpeerError
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.store.preconditions import check_preconditions

_HUB_SECONDS: Final = 3.0
_CLOCK_LIMIT_SECONDS: Final = 2.0

_TABLE_RIGHTS: Final = """
    SELECT r.relation::text AS relation, current_user AS role
      FROM peer_internal.relation AS r
     WHERE r.is_tracked AND NOT (pg_catalog.has_table_privilege(r.relation, 'SELECT')
                                 AND pg_catalog.has_table_privilege(r.relation, 'INSERT')
                                 AND pg_catalog.has_table_privilege(r.relation, 'UPDATE')
                                 AND pg_catalog.has_table_privilege(r.relation, 'DELETE'))
     ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        state: `ok`, `warning` or `problem`.
        kind: which check, in snake_case.
        detail: one sentence.
        remedy: what to do about it; empty when all is well.
    """

    state: str
    kind: str
    detail: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """The finding as a JSON object."""
        return asdict(self)


def checks(dsn: str, identity: Path | None) -> Iterator[Finding]:
    """Runs all checks, one after the other; those that need what an earlier one missed are left out."""
    try:
        with open_database(dsn) as database:
            version = database.value("SHOW server_version")
            yield Finding(
                "ok", "server", f"PostgreSQL {version}, database {database.connection.info.dbname}."
            )
            yield _rights(database)
            yield from _table_rights(database)
            yield _schema(database)
            yield _identity(database, dsn, identity)
            yield _worker(database)
            yield from _hubs(database)
            yield _clock(database)
            yield from _problems(database)
    except PgpeerError as error:
        yield Finding("problem", error.code, str(error), error.remedy)


def _rights(database: Database) -> Finding:
    try:
        with database.transaction():
            check_preconditions(database.connection)
    except PgpeerError as error:
        return Finding("problem", error.code, str(error), error.remedy)
    role = database.value("SELECT current_user")
    return Finding("ok", "rights", f"The role {role} has every right that pgpeer needs.")


def _table_rights(database: Database) -> Iterator[Finding]:
    for row in database.rows(_TABLE_RIGHTS):
        yield Finding(
            "problem",
            "missing_right",
            f"The role {row['role']} may not read and write {row['relation']}.",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {row['relation']} TO {row['role']};",
        )


def _schema(database: Database) -> Finding:
    version = database.value("SELECT v.version_num FROM peer_internal.schema_version AS v")
    bundles = database.value("SELECT count(*) FROM peer_internal.bundle")
    relations = database.value("SELECT count(*) FROM peer_internal.relation AS r WHERE r.is_tracked")
    return Finding(
        "ok", "installed", f"pgpeer schema version {version}: bundles {bundles}, tracked tables {relations}."
    )


def _identity(database: Database, dsn: str, given: Path | None) -> Finding:
    peer_id = database.value("SELECT peer.identity()")
    if peer_id is None:
        return Finding("problem", "no_identity", "This database has no identity yet.", "Run: pgpeer init")
    try:
        path = choose_identity(dsn, given, Settings.read())
        key = IdentityFile(path).load()
    except IdentityError as error:
        return Finding("problem", error.code, str(error), error.remedy)
    if key.peer_id != peer_id:
        return Finding(
            "problem",
            "identity_mismatch",
            f"The database is {peer_id}, but {path} is the key of {key.peer_id}.",
            "Name the right file with --identity, or run 'pgpeer init' to let the database be this peer.",
        )
    return Finding("ok", "identity", f"This database is {peer_id}; its key is {path}.")


def _worker(database: Database) -> Finding:
    if database.value(WORKER_RUNS):
        return Finding("ok", "worker", "A worker runs.")
    return Finding("warning", "worker", "No worker runs: nothing is exchanged.", "Start one: pgpeer worker")


def _hubs(database: Database) -> Iterator[Finding]:
    hubs = database.rows("SELECT h.url FROM peer.hub AS h WHERE h.enabled ORDER BY h.id")
    if not hubs:
        yield Finding(
            "warning", "no_hub", "No hub is set: peers cannot find this one.", "pgpeer init --hub URL"
        )
    for row in hubs:
        yield _hub(row["url"])


def _hub(url: str) -> Finding:
    parts = urllib.parse.urlsplit(url)
    scheme = "https" if parts.scheme == "wss" else "http"
    address = urllib.parse.urlunsplit((scheme, parts.netloc, "/healthz", "", ""))
    try:
        # The scheme is one of two, both of HTTP; no proxy, as the worker uses none.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=_HUB_SECONDS):
            return Finding("ok", "hub", f"The hub {url} answers.")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding(
            "problem",
            "hub_unreachable",
            f"The hub {url} does not answer: {reason}.",
            "Start it (pgpeer hub), or correct its row in peer.hub. Connected peers go on meanwhile.",
        )


def _clock(database: Database) -> Finding:
    before = datetime.now(UTC)
    server = database.value("SELECT pg_catalog.clock_timestamp()")
    after = datetime.now(UTC)
    seconds = abs((server - (before + (after - before) / 2)).total_seconds())
    if seconds > _CLOCK_LIMIT_SECONDS:
        return Finding(
            "warning",
            "clock_drift",
            f"The clocks of this machine and of the server differ by {seconds:.0f} s.",
            "Let both follow a time server: of concurrent writes the later one wins.",
        )
    return Finding("ok", "clock", "The clocks of this machine and of the server agree.")


def _problems(database: Database) -> Iterator[Finding]:
    for row in database.rows("SELECT p.* FROM peer.problem AS p ORDER BY p.since"):
        yield Finding("problem", row["kind"], row["detail"], row["remedy"])
