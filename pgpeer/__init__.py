"""pgpeer: version control and peer-to-peer exchange for the rows of ordinary PostgreSQL tables.

This module stays light: the names below are loaded when they are used first. The README lists the rooms;
programs use the SQL functions of schema `peer`, the command `pgpeer`, these names, or the rooms themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgpeer.client.connection import PeerConnection as PeerConnection
    from pgpeer.client.errors import ConnectionEnded as ConnectionEnded
    from pgpeer.client.peers import PeerConnectionManager as PeerConnectionManager
    from pgpeer.client.peers import PeerInfo as PeerInfo

__version__ = "0.1.0"

_HOMES = {
    "ConnectionEnded": "pgpeer.client.errors",
    "PeerConnection": "pgpeer.client.connection",
    "PeerConnectionManager": "pgpeer.client.peers",
    "PeerInfo": "pgpeer.client.peers",
}

__all__ = ["ConnectionEnded", "PeerConnection", "PeerConnectionManager", "PeerInfo", "__version__"]


def __getattr__(name: str) -> object:
    """Load one of the names above (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pgpeer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
