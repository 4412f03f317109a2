"""Where the SQL files and the migrations are: in a checkout at its root, in a wheel inside this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgpeer.errors import StoreError

FUNCTIONS_MARK: Final = "-- functions"
"""The line of `order.txt` after which the files are re-runnable."""

_HERE: Final = Path(__file__).resolve().parent
_BROKEN: Final = "Install pgpeer again, or restore the file from version control."


@dataclass(frozen=True, slots=True)
class SqlSources:
    """The SQL files in load order.

    Attributes:
        directory: the folder that holds them and `order.txt`.
        tables: files that run once, by the first migration.
        functions: files that can run again and again: functions, views, grants.
    """

    directory: Path
    tables: tuple[Path, ...]
    functions: tuple[Path, ...]

    @classmethod
    def read(cls, directory: Path | None = None) -> SqlSources:
        """Reads `order.txt` in `directory`, by default the one that belongs to this package.

        Raises:
            StoreError: the list is missing, names a file twice, or names one that does not exist.
        """
        root = directory if directory is not None else sql_directory()
        try:
            text = (root / "order.txt").read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise StoreError(f"{root / 'order.txt'} is missing.", remedy=_BROKEN) from error
        before, mark, after = (part.strip() for part in text.partition(f"\n{FUNCTIONS_MARK}\n"))
        if not mark:
            message = f"{root / 'order.txt'} has no line {FUNCTIONS_MARK!r} between tables and functions."
            raise StoreError(message, remedy=_BROKEN)
        tables, functions = _paths(root, before), _paths(root, after)
        listed = [*tables, *functions]
        missing = [path for path in listed if not path.is_file()]
        twice = sorted({path for path in listed if listed.count(path) > 1})
        for paths, fault in ((missing, "missing"), (twice, "twice in order.txt")):
            if paths:
                names = ", ".join(str(path.relative_to(root)) for path in paths)
                raise StoreError(f"These SQL files are {fault}: {names}.", remedy=_BROKEN)
        return cls(root, tuple(tables), tuple(functions))


def sql_directory() -> Path:
    """The folder of the SQL files."""
    return _beside_or_inside("sql")


def migration_directory() -> Path:
    """The folder of the migrations, for Alembic's `script_location`."""
    return _beside_or_inside("alembic")


def _paths(root: Path, listing: str) -> list[Path]:
    lines = (line.strip() for line in listing.splitlines())
    return [root / line for line in lines if line and not line.startswith("--")]


def _beside_or_inside(name: str) -> Path:
    inside = _HERE / name
    return inside if inside.is_dir() else _HERE.parents[1] / name
