"""Servers that have the files of the extension, and databases on them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Databases, server_root
from fixtures.versions import BOTH
from system.conftest import atlas, hub, make_peer

from pgpeer.embedded import Cluster
from pgpeer.store.extension import extension_files

__all__ = ["atlas", "hub", "make_peer"]

_FIRST_CONTROL_PATH = 18


@dataclass(slots=True)
class ExtensionServer:
    """A server whose folder of extensions the tests may write.

    Attributes:
        folder: where the files of extensions are looked for.
        control_path: for `extension_control_path`; None before PostgreSQL 18, which looks in one folder only.
    """

    cluster: Cluster
    folder: Path
    control_path: str | None
    databases: Databases
    _names: list[str] = field(default_factory=list)

    def offer(self, files: Mapping[str, str]) -> None:
        """Replaces the files of pgpeer that the server offers."""
        for old in self.folder.glob("pgpeer*"):
            old.unlink()
        for name, text in files.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o644)

    def bare(self) -> str:
        """The address of an empty database."""
        _, name = self.databases.bare(self.cluster)
        self._names.append(name)
        if self.control_path is not None:
            with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
                path = f"'{self.control_path}:$system'"
                connection.execute(f'ALTER DATABASE "{name}" SET extension_control_path = {path}'.encode())
        return self.cluster.dsn(name)

    def drop(self) -> None:
        for name in self._names:
            self.databases.drop_named(self.cluster, name)
        self._names.clear()


def open_folder() -> Path:
    """A new folder that the account of the server can read."""
    root, _ = server_root()
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="pgpeer-extension-", dir=root))
    folder.chmod(0o755)
    return folder


def private_copy(bindir: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of an installation: its programs find their files by relative path, and so those of the copy.

    Returns:
        The folder of the programs and that of the extensions.
    """
    if not bindir.is_relative_to("/usr"):  # a tree of its own, with share beside bin
        copy = folder / "copy"
        shutil.copytree(bindir.resolve().parent, copy, symlinks=True)
        (extensions,) = copy.glob("share/**/extension")
        return copy / bindir.resolve().name, extensions
    version = bindir.parent.name
    (folder / "lib" / "postgresql").mkdir(parents=True)
    (folder / "share" / "postgresql").mkdir(parents=True)
    no_bitcode = shutil.ignore_patterns("bitcode", "pgxs")
    shutil.copytree(bindir.parent, folder / "lib" / "postgresql" / version, ignore=no_bitcode)
    share = folder / "share" / "postgresql" / version
    shutil.copytree(Path("/usr/share/postgresql") / version, share)
    return folder / "lib" / "postgresql" / version / "bin", share / "extension"


@pytest.fixture(scope="session", params=BOTH)
def _extension_server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[ExtensionServer]:
    folder = open_folder()
    try:
        cluster = databases.cluster(request.param)
        if int(request.param) >= _FIRST_CONTROL_PATH:
            (folder / "extension").mkdir()
            yield ExtensionServer(cluster, folder / "extension", str(folder), databases)
        else:
            bindir, extensions = private_copy(cluster.bindir, folder)
            with Cluster(folder / "data", persistent=False, bindir=bindir) as own:
                yield ExtensionServer(own, extensions, None, databases)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def extension_server(_extension_server: ExtensionServer) -> Iterator[ExtensionServer]:
    """A server of each version that offers this version of the extension; its databases are dropped at the end."""
    _extension_server.offer(extension_files())
    yield _extension_server
    _extension_server.drop()


@pytest.fixture
def run() -> Callable[..., list[tuple[object, ...]]]:
    """A function that runs statements, each in a transaction of its own, and gives the rows of the last one."""

    def run_all(dsn: str, *statements: str) -> list[tuple[object, ...]]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return run_all
