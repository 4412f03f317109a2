"""Socket directories: one short private folder per data directory, the same at every start."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from pgpeer.embedded.account import Account
from pgpeer.errors import EmbeddedError

_PREFIX: Final = "pgpeer-"
_LONGEST_PATH: Final = 103
"""Bytes that a Unix socket path may have everywhere (107 on Linux, 103 on macOS)."""


def socket_directory(root: Path, data_directory: Path, account: Account | None, port: int) -> Path:
    """Makes the folder for the sockets of `data_directory` below `root` and returns it.

    The name follows from the data directory, so that a connection string stays right across restarts. Only
    the server's account (and the superuser) may enter the folder: whoever can reach the socket is let in.

    Raises:
        EmbeddedError: the path would be too long, or somebody else owns a folder of that name.
    """
    owner = account.uid if account is not None else os.geteuid()
    mark = hashlib.sha256(f"{owner}:{data_directory}".encode()).hexdigest()[:16]
    directory = root / f"{_PREFIX}{mark}"
    longest = len(os.fsencode(directory / f".s.PGSQL.{port}"))
    if longest > _LONGEST_PATH:
        raise EmbeddedError(
            f"The socket path in {directory} would have {longest} bytes; the system allows {_LONGEST_PATH}.",
            remedy="Set PGPEER_SOCKET_ROOT to a short path, for example /tmp.",
        )
    try:
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
    except FileExistsError:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner:
            raise EmbeddedError(
                f"{directory} exists and belongs to somebody else.",
                remedy="Remove it, or set PGPEER_SOCKET_ROOT to a folder of your own.",
            ) from None
        directory.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(
            f"The socket directory {directory} cannot be made: {error.strerror}.",
            remedy="Set PGPEER_SOCKET_ROOT to a short path that you may write to.",
        ) from error
    return directory


def sweep(root: Path, account: Account | None) -> list[Path]:
    """Removes socket directories below `root` that a crash left behind; returns them.

    Touched are only folders of our name and of the server's account which hold nothing but the socket and
    lock file of a server that is no longer running.
    """
    owner = account.uid if account is not None else os.geteuid()
    swept = []
    for directory in root.glob(_PREFIX + "?" * 16):
        try:
            status = directory.lstat()
            entries = list(directory.iterdir()) if stat.S_ISDIR(status.st_mode) else []
        except (FileNotFoundError, PermissionError):  # swept by another process meanwhile, or somebody else's
            continue
        if status.st_uid != owner:
            continue
        locks = [entry for entry in entries if entry.name.endswith(".lock")]
        ours = all(entry.name.startswith(".s.PGSQL.") for entry in entries)
        if locks and ours and not any(_is_alive(lock) for lock in locks):
            # One by one: what a server that starts at this moment puts there stays.
            with contextlib.suppress(OSError):
                for entry in entries:
                    entry.unlink(missing_ok=True)
                directory.rmdir()
                swept.append(directory)
    return swept


def _is_alive(lock: Path) -> bool:
    """Tells whether the process named in a socket lock file still runs; in doubt it does."""
    try:
        os.kill(int(lock.read_text().splitlines()[0]), 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    except (OSError, IndexError, ValueError):
        return True
    return True
