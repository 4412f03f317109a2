"""The checks of `pgpeer doctor`: inside the database, outside on the network, and what follows for paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pgpeer.cli.checks.finding import Finding, failed
from pgpeer.cli.checks.inside import guarded, inside_checks, problems
from pgpeer.cli.checks.paths import NOTHING_KNOWN, path_findings
from pgpeer.cli.database import open_database
from pgpeer.errors import PgpeerError

__all__ = ["Finding", "checks"]

_STATEMENT_SECONDS: Final = 10.0
"""A question to the database takes no longer, whatever locks it meets."""


def checks(dsn: str, identity: Path | None) -> Iterator[Finding]:
    """Runs all checks and gives each finding as soon as it is there.

    A database that cannot be reached, or has no pgpeer, is one finding, and nothing else can be checked then.
    """
    try:
        with open_database(dsn) as database:
            database.value(
                "SELECT pg_catalog.set_config('statement_timeout', %(limit)s, false)",
                {"limit": f"{_STATEMENT_SECONDS * 1000:.0f}ms"},
            )
            yield from inside_checks(database, dsn, identity)
            from pgpeer.cli.checks.outside import outside_checks  # takes half a second, with aiortc

            try:
                findings, ways = outside_checks(database)
            except PgpeerError as error:
                findings, ways = [failed("network", error)], NOTHING_KNOWN
            yield from findings
            yield from guarded("path", lambda one: path_findings(one, ways), database)
            yield from guarded("problem", problems, database)
    except PgpeerError as error:
        yield failed("server", error)
