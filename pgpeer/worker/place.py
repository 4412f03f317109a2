"""Where a worker serves: which machine, which address. A copy of a database is served from another place."""

from __future__ import annotations

import hashlib
import os.path
import uuid
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

_MACHINE_ID: Final = Path("/etc/machine-id")
"""Set when a system is installed (machine-id(5)); copies of data folders do not carry it."""


def place(dsn: str) -> str:
    """Give a text that is the same whenever a database is served from one machine at one address.

    It tells neither: it is a hash of them.
    """
    words = conninfo_to_dict(dsn)
    host = str(words.get("hostaddr") or words.get("host") or "")
    if host.startswith("/"):
        host = os.path.realpath(host)
    address = f"{host}:{words.get('port') or ''}/{words.get('dbname') or ''}"
    return hashlib.sha256(f"{_machine()} {address}".encode()).hexdigest()


def _machine() -> str:
    try:
        return _MACHINE_ID.read_text().strip() or f"{uuid.getnode():x}"
    except OSError:
        return f"{uuid.getnode():x}"
