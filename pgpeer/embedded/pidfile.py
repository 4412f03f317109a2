"""What `postmaster.pid` says: which process serves a data directory, and whether it is ready."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_READY_LINE: Final = 7


@dataclass(frozen=True, slots=True)
class PidFile:
    """The content of a data directory's `postmaster.pid`.

    Attributes:
        path: the file.
        pid: the process that wrote it.
        ready: whether that process accepts connections.
    """

    path: Path
    pid: int
    ready: bool

    @classmethod
    def read(cls, data_directory: Path) -> PidFile | None:
        """Reads the file; None when there is none or it is not yet written."""
        path = data_directory / "postmaster.pid"
        try:
            lines = path.read_text().splitlines()
            pid = abs(int(lines[0]))
        except (OSError, IndexError, ValueError):
            return None
        ready = len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"
        return cls(path, pid, ready)

    def is_served(self) -> bool:
        """Tells whether the process still runs and is a server on this data directory.

        A number in a file that a crash left behind may meanwhile belong to another process. PostgreSQL itself
        refuses to start then if that process is of the same account.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        process = Path("/proc") / str(self.pid)
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                return False
            return (process / "cwd").resolve(strict=True) == self.path.parent.resolve()
        except OSError:  # no /proc, or not ours to look at: believe the file
            return True
