"""The revisions of the schema as SQL text, for every way in which pgpeer gets into a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgpeer.errors import StoreError
from pgpeer.store.sources import SqlSources, migration_directory

VERSION_SCHEMA: Final = "peer_internal"
VERSION_TABLE: Final = "schema_version"
VERSION_COMMENT: Final = (
    f"COMMENT ON TABLE {VERSION_SCHEMA}.{VERSION_TABLE} IS 'The migration that this database stands at.'"
)
FIRST: Final = "0001"


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema; it runs once in a database, after those with lesser numbers.

    Attributes:
        number: four digits, the name of the Alembic migration that runs the same text.
        text: SQL statements.
    """

    number: str
    text: str


def read_revisions(sources: SqlSources) -> tuple[Revision, ...]:
    """Every revision, oldest first: the table files are the first, each later one has a file of its own.

    Raises:
        StoreError: a number is missing or there twice.
    """
    first = "\n".join(path.read_text(encoding="utf-8") for path in sources.tables)
    files = sorted((migration_directory() / "versions").glob("[0-9]*.sql"))
    later = [Revision(path.name[:4], path.read_text(encoding="utf-8")) for path in files]
    revisions = (Revision(FIRST, first), *later)
    wanted = [f"{number:04}" for number in range(1, len(revisions) + 1)]
    found = [revision.number for revision in revisions]
    if found != wanted:
        raise StoreError(
            f"The SQL files of the revisions are not numbered from {FIRST} on: {', '.join(found)}.",
            remedy="Install pgpeer again, or restore the files from version control.",
        )
    return revisions
