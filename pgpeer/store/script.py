"""pgpeer as SQL text that installs or upgrades it: one plain file, and the scripts of the extension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pgpeer
from pgpeer.store.guards import ABLE, NOT_AN_EXTENSION, ONLY_AN_EXTENSION
from pgpeer.store.revisions import VERSION_COMMENT, VERSION_SCHEMA, VERSION_TABLE, Revision, read_revisions
from pgpeer.store.sources import SqlSources

LOCK: Final = "pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgpeer/v1/install', 0))"
"""The call that lets one installation after the other into a database; it ends with the transaction."""

_SETTINGS: Final = """\
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
-- A function may name another one that comes later in this file.
SET LOCAL check_function_bodies = off;
"""

_VERSION: Final = f"{VERSION_SCHEMA}.{VERSION_TABLE}"
_BOOK: Final = f"""\
BEGIN
    IF to_regclass('{_VERSION}') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA};
        CREATE TABLE {_VERSION} (
            version_num varchar(32) NOT NULL,
            CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num)
        );
        {VERSION_COMMENT};
    END IF;
END"""

# pg_dump leaves out the rows of an extension's tables unless they are marked. The script makes the rows of
# the two tables that are not; the worker makes the unlogged ones.
_CONFIGURATION: Final = """\
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT c.oid
          FROM pg_class AS c
          JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                             AND d.refclassid = 'pg_extension'::regclass
          JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE e.extname = 'pgpeer' AND c.relkind IN ('r', 'S') AND c.relpersistence = 'p'
           AND c.oid NOT IN ('peer_internal.schema_version'::regclass, 'peer_internal.worker'::regclass)
         ORDER BY c.oid
    LOOP
        PERFORM pg_extension_config_dump(relation, '');
    END LOOP;
END"""


def plain_script(sources: SqlSources | None = None, *, revisions: Sequence[Revision] | None = None) -> str:
    """One file that installs pgpeer or brings it up to date, in one transaction of its own.

    It works with psql and with any driver that sends several statements at once; running it again changes
    nothing. A database that got pgpeer by `pgpeer init` can be upgraded by it, and the other way round.

    Args:
        sources: the SQL files, by default those of this package.
        revisions: the schema to arrive at, by default the newest.

    Raises:
        StoreError: the SQL files are incomplete.
    """
    head = (
        f"-- pgpeer {pgpeer.__version__}: installs it or brings it up to date, in one transaction. Run:\n"
        "--   psql -X -v ON_ERROR_STOP=1 -f FILE DATABASE\n"
        "-- then give the database its identity and its hub: pgpeer init --hub URL\n"
    )
    parts = [head, "BEGIN;\n", *_body(sources, revisions, NOT_AN_EXTENSION), "COMMIT;\n"]
    return "\n".join(parts)


def extension_script(
    sources: SqlSources | None = None, *, revisions: Sequence[Revision] | None = None, updates: bool = False
) -> str:
    """The script of CREATE EXTENSION, or with `updates` that of ALTER EXTENSION UPDATE from any version.

    Raises:
        StoreError: the SQL files are incomplete.
    """
    statement = "ALTER EXTENSION pgpeer UPDATE" if updates else "CREATE EXTENSION pgpeer"
    head = (
        f"-- pgpeer {pgpeer.__version__} as an extension.\n"
        f'\\echo Use "{statement}" to load this file. \\quit\n'
    )
    return "\n".join([head, *_body(sources, revisions, ONLY_AN_EXTENSION), _do(_CONFIGURATION)])


def _body(sources: SqlSources | None, revisions: Sequence[Revision] | None, guard: str) -> Iterable[str]:
    files = sources if sources is not None else SqlSources.read()
    steps = revisions if revisions is not None else read_revisions(files)
    yield _SETTINGS
    yield _do(f"BEGIN\n    PERFORM {LOCK};\nEND")
    yield _do(guard)
    yield _do(ABLE)
    yield _do(_BOOK)
    yield _do(_not_newer(steps[-1]))
    for step in steps:
        yield _do(_once(step), mark=f"pgpeer_{step.number}")
    for path in files.functions:
        yield path.read_text(encoding="utf-8")


def _do(block: str, mark: str = "pgpeer") -> str:
    return f"DO ${mark}$\n{block}\n${mark}$;\n"


def _not_newer(last: Revision) -> str:
    return f"""\
DECLARE
    present text := (SELECT v.version_num FROM {_VERSION} AS v);
BEGIN
    IF present > '{last.number}' THEN
        RAISE EXCEPTION 'The database % stands at schema version %; this pgpeer knows none after %.',
            current_database(), present, '{last.number}'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Use a newer pgpeer.';
    END IF;
END"""


def _once(revision: Revision) -> str:
    return f"""\
BEGIN
    IF EXISTS (SELECT FROM {_VERSION} AS v WHERE v.version_num >= '{revision.number}') THEN
        RETURN;
    END IF;
    EXECUTE $pgpeer_text$
{revision.text}
    $pgpeer_text$;
    DELETE FROM {_VERSION};
    INSERT INTO {_VERSION} (version_num) VALUES ('{revision.number}');
END"""
