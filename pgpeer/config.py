"""The settings of one process: the only file that reads the environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from pgpeer.errors import ConfigError

PREFIX: Final = "PGPEER_"
"""Every environment variable that pgpeer reads begins with this."""

_APPLICATION: Final = "pgpeer"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, read once.

    Attributes:
        dsn: `PGPEER_DSN`, the database to work on; None when not given.
        state_directory: `PGPEER_STATE_DIRECTORY`, where identity files are kept.
        data_directory: `PGPEER_DATA_DIRECTORY`, where embedded databases are kept.
        cache_directory: `PGPEER_CACHE_DIRECTORY`, what can be made again at any time.
        socket_root: `PGPEER_SOCKET_ROOT`, where the socket directories of embedded databases are made; paths
            of Unix sockets are limited to 107 bytes, so this must be short.
        postgres_bindir: `PGPEER_PG_BIN`, the directory of `postgres` and `initdb`; None searches for one.
        postgres_user: `PGPEER_PG_USER`, the account that runs embedded databases for a superuser process.
    """

    dsn: str | None
    state_directory: Path
    data_directory: Path
    cache_directory: Path
    socket_root: Path
    postgres_bindir: Path | None
    postgres_user: str | None

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads the settings from `environment`, by default that of the process.

        Raises:
            ConfigError: a directory is not given as an absolute path.
        """
        variables = process_environment() if environment is None else environment
        superuser = os.name == "posix" and os.geteuid() == 0
        # The superuser's home is closed to the account that runs PostgreSQL; system directories are not.
        system = {"data": Path("/var/lib/pgpeer"), "cache": Path("/var/cache/pgpeer")}
        data = system["data"] if superuser else platformdirs.user_data_path(_APPLICATION)
        cache = system["cache"] if superuser else platformdirs.user_cache_path(_APPLICATION)
        state = platformdirs.user_state_path(_APPLICATION)
        return cls(
            dsn=variables.get(PREFIX + "DSN") or None,
            state_directory=_directory(variables, "STATE_DIRECTORY") or state,
            data_directory=_directory(variables, "DATA_DIRECTORY") or data,
            cache_directory=_directory(variables, "CACHE_DIRECTORY") or cache,
            socket_root=_directory(variables, "SOCKET_ROOT") or Path(tempfile.gettempdir()),
            postgres_bindir=_directory(variables, "PG_BIN"),
            postgres_user=variables.get(PREFIX + "PG_USER") or None,
        )


def process_environment() -> dict[str, str]:
    """A copy of the environment of this process."""
    return dict(os.environ)  # noqa: TID251 - this is the one place


def server_environment() -> dict[str, str]:
    """The environment for a PostgreSQL server: ours without the variables that would change its behaviour."""
    kept = {
        name: value
        for name, value in process_environment().items()
        if not name.startswith(("PG", "LC_", "LANG")) or name.startswith(PREFIX)
    }
    return kept | {"TZ": "UTC"}


def _directory(variables: Mapping[str, str], name: str) -> Path | None:
    text = variables.get(PREFIX + name)
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ConfigError(
            f"{PREFIX}{name} is {text!r}, which is not an absolute path.",
            remedy=f"Set {PREFIX}{name} to a path that begins with '/', or unset it.",
        )
    return path
