"""How peers are reached: the part of the view about addresses, STUN servers, and where to listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class IceEntry:
    """A row of peer.stun_server."""

    url: str
    username: str | None
    credential: str | None


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """Where a peer may be reached, and who said so (see `peer.address`)."""

    address: str
    source: str


@dataclass(frozen=True, slots=True)
class Reachability:
    """A part of the view.

    Attributes:
        listen: host:port at which to take direct connections; None: nowhere.
        public: host:port that others are told instead; None: that of `listen`.
        ice: the STUN or TURN server of single relationships, by peer id.
        addresses: by peer id, best first, of peers that may be dialled; at most eight each.
        records: changes with every new peer record.
    """

    listen: str | None = None
    public: str | None = None
    ice: dict[str, IceEntry] = field(default_factory=dict)
    addresses: dict[str, tuple[KnownAddress, ...]] = field(default_factory=dict)
    records: str = "0"


def read_reachability(found: dict[str, Any]) -> Reachability:
    """Read what peer_internal.worker_reach gave."""
    return Reachability(
        listen=found["listen"],
        public=found["public"],
        ice={peer_id: read_ice(item) for peer_id, item in found["ice"].items()},
        addresses={
            peer_id: tuple(KnownAddress(address, source) for address, source in known)
            for peer_id, known in found["addresses"].items()
        },
        records=found["records"],
    )


def read_ice(item: dict[str, Any]) -> IceEntry:
    """Read a row of peer.stun_server."""
    return IceEntry(item["url"], item["username"], item["credential"])
