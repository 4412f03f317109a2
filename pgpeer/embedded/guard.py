"""Ties a server to its owner: when the owner dies, however it dies, the server stops too.

The server is started by a small shell script that leaves a guard behind and then becomes the server (`exec`,
so the process id is the server's). The guard reads a pipe whose other end only the owner holds. A line on the
pipe dismisses the guard; the end of the pipe means that the owner is gone. Unlike the kernel's parent-death
signal this needs neither Linux nor code between fork and exec, and does not fire when merely the thread that
started the server ends.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = """
exec 3<&0
server=$$
signal=$1 doomed=$2 data=$3 sockets=$4
shift 4
# Started twice removed, so that the server never has a child which it does not know.
( (
    trap '' INT QUIT TERM HUP
    if read -r dismissed; then exit 0; fi
    kill -s "$signal" "$server" || exit 0
    rounds=0
    while kill -0 "$server" && [ -e "$data/postmaster.pid" ] && [ $((rounds += 1)) -lt 1200 ]; do
        sleep 0.05
    done
    # Only when empty: the next owner's server may have its socket there already.
    rmdir -- "$sockets"
    if [ "$doomed" = yes ]; then rm -rf -- "$data"; fi
) <&3 >/dev/null 2>&1 & )
exec "$@" </dev/null 3<&-
"""


@dataclass(slots=True)
class Leash:
    """The owner's end of the pipe.

    Attributes:
        child_end: the file descriptor to give the child as standard input; close it after the start.
    """

    child_end: int
    _owner_end: int

    @classmethod
    def make(cls) -> Leash:
        """Opens a pipe; neither end is inherited by other children."""
        child_end, owner_end = os.pipe()
        return cls(child_end, owner_end)

    def started(self) -> None:
        """Closes our copy of the child's end."""
        os.close(self.child_end)

    def dismiss(self) -> None:
        """Ends the guard without harm to the server. The leash is used up."""
        try:
            os.write(self._owner_end, b"dismissed\n")
        except BrokenPipeError:  # the guard is gone already
            pass
        finally:
            os.close(self._owner_end)


def guarded_command(command: list[str], *, data: Path, sockets: Path, doomed: bool) -> list[str]:
    """The command line that starts `command` with a guard.

    Args:
        command: the server's own command line.
        data: the data directory.
        sockets: the socket directory, removed, when empty, once the guard has stopped the server.
        doomed: whether the data directory is removed then, too.
    """
    how = ["QUIT", "yes"] if doomed else ["INT", "no"]
    return ["/bin/sh", "-c", _SCRIPT, "pgpeer-guard", *how, str(data), str(sockets), *command]
