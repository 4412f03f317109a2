"""The files of the extension, its releases and its revisions agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import pgpeer
from pgpeer.errors import StoreError
from pgpeer.store.extension import EARLIER_RELEASES, write_extension
from pgpeer.store.sources import migration_directory

ROOT = Path(__file__).resolve().parents[2]


def test_the_files_are_readable_by_the_server_and_hold_no_mark(tmp_path: Path) -> None:
    paths = write_extension(tmp_path / "extension")
    assert [path.name for path in paths if path.suffix == ".control"] == ["pgpeer.control"]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in paths)
    assert "@VERSION@" not in (tmp_path / "extension" / "pgpeer.control").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        write_extension(tmp_path / "file" / "extension")
    assert caught.value.remedy


def test_every_migration_has_its_text_beside_it() -> None:
    """Otherwise the extension and the plain file would not know of it."""
    scripts = sorted((migration_directory() / "versions").glob("[0-9]*.py"))
    texts = sorted((migration_directory() / "versions").glob("[0-9]*.sql"))
    assert [path.stem for path in scripts[1:]] == [path.stem for path in texts]
    for path in scripts[1:]:
        assert 'with_suffix(".sql")' in path.read_text()


def test_every_release_of_the_changelog_can_be_updated_from() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    headings = [line.removeprefix("## ").split()[0].strip("[]") for line in lines if line.startswith("## ")]
    released = [heading for heading in headings if heading != "Unreleased"]
    assert sorted(EARLIER_RELEASES) == sorted(
        released[1:] if released and released[0] == pgpeer.__version__ else released
    )
