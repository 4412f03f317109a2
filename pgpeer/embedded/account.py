"""Which account runs the server: PostgreSQL refuses the superuser, so we drop to another one."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pgpeer.errors import EmbeddedError

_CANDIDATES: Final = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of this machine, for the children of a superuser process."""

    name: str
    uid: int
    gid: int

    def spawn_arguments(self) -> dict[str, Any]:
        """The arguments of `subprocess` functions that make the child run as this account alone."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, access: str, path: Path) -> bool:
        """Tells whether this account has `access` (one of `r`, `w`, `x`) to `path`, all parents included."""
        test = ["/bin/sh", "-c", f'test -{access} "$1"', "sh", str(path)]
        return subprocess.run(test, cwd="/", check=False, **self.spawn_arguments()).returncode == 0


def unprivileged_account(preferred: str | None = None) -> Account | None:
    """The account that must run the server; None when this process is no superuser and runs it itself.

    Args:
        preferred: an account name to use instead of `postgres` or `nobody`.

    Raises:
        EmbeddedError: the process is the superuser and none of the accounts exists, or `preferred` does not.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    for name in (preferred,) if preferred else _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    wanted = preferred or " or ".join(_CANDIDATES)
    raise EmbeddedError(
        f"PostgreSQL does not run as the superuser, and there is no unprivileged account {wanted} to run it.",
        remedy="Set PGPEER_PG_USER to an account that exists, or start pgpeer as an ordinary user.",
    )
