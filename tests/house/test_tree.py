"""Rules of the file tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpeer.store.sources import SqlSources

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("pgpeer", "sql", "alembic", "tests", "bench")
LONGEST_FILE = 400
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}


def sources(*endings: str) -> list[Path]:
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in endings]
    return [path for path in found if "__pycache__" not in path.parts]


def test_alembic_is_no_package_for_it_would_shadow_the_library() -> None:
    assert list((ROOT / "alembic").rglob("*.py"))
    assert list((ROOT / "alembic").rglob("__init__.py")) == []


def test_no_file_is_longer_than_one_idea() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources(".py", ".sql")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_module_has_a_vague_name() -> None:
    assert [path for path in sources(".py", ".sql") if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_every_sql_file_is_in_the_load_order_and_table_files_run_once() -> None:
    read = SqlSources.read(ROOT / "sql")
    listed = {*read.tables, *read.functions}
    assert sorted(set((ROOT / "sql").rglob("*.sql")) - listed) == []
    assert [path for path in read.tables if path.name != "tables.sql"] == []
    assert [path for path in read.functions if path.name == "tables.sql"] == []


def test_every_package_says_what_it_is_for() -> None:
    silent = [
        path for path in sorted((ROOT / "pgpeer").rglob("__init__.py")) if '"""' not in path.read_text()
    ]
    assert silent == []


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "Makefile", ".ci/run", "docs/glossary.md"])
def test_what_a_newcomer_looks_for_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
