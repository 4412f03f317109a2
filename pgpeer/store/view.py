"""The present view of a database: everything that its worker acts on, in one query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pgpeer.errors import ConfigError
from pgpeer.identity.peer_id import peer_id_from_public_key
from pgpeer.store.database import Connection
from pgpeer.store.reachability import IceEntry, Reachability, read_ice, read_reachability
from pgpeer.store.trust import Trust, read_trust


@dataclass(frozen=True, slots=True)
class BundleState:
    """A bundle as the worker sees it.

    Attributes:
        is_auto: whether the worker commits its changes.
        has_changes: whether uncommitted changes wait for the worker.
        has_unsigned: whether commits wait for their signature.
        has_due: whether commits may wait for a merge.
        is_joining: whether it is not filled yet.
    """

    bundle_id: UUID
    name: str
    is_auto: bool
    has_changes: bool
    has_unsigned: bool
    has_due: bool
    is_joining: bool


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """An invite that this database follows; `expires` in unix seconds."""

    request_id: UUID
    invite_id: UUID
    bundle_id: UUID
    name: str
    inviter: str
    secret: str
    expires: float

    def __repr__(self) -> str:
        return f"JoinRequest({self.request_id}, {self.name!r}, {self.inviter})"


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the worker acts on, as it was at one moment; times in seconds.

    Attributes:
        members: peer id → bundle → role, of active members other than this database.
        has_invites: whether strangers may come with an invite.
        clock: the server's time in unix seconds.
        clock_drift_limit: so many seconds ahead of others a commit may be dated.
        trust: whom the worker may link with.
        reach: how.
    """

    label: str = ""
    connect_timeout: float = 20.0
    reconnect_delay_max: float = 30.0
    hubs: tuple[str, ...] = ()
    ice: tuple[IceEntry, ...] = ()
    bundles: dict[UUID, BundleState] = field(default_factory=dict)
    members: dict[str, dict[UUID, str]] = field(default_factory=dict)
    joins: tuple[JoinRequest, ...] = ()
    has_invites: bool = False
    clock: float = 0.0
    clock_drift_limit: float = 300.0
    trust: Trust = field(default_factory=Trust)
    reach: Reachability = field(default_factory=Reachability)

    def shared_with(self, peer_id: str) -> dict[UUID, str]:
        """The bundles that a peer may exchange with this database, with its role; none when it is blocked."""
        if peer_id in self.trust.blocked:
            return {}
        shared = self.members.get(peer_id, {})
        return {
            bundle_id: role
            for bundle_id, role in shared.items()
            if bundle_id in self.bundles and bundle_id not in self.trust.left
        }

    def joins_at(self, peer_id: str) -> list[JoinRequest]:
        """The open requests to join that this peer must answer; none when it is blocked."""
        if peer_id in self.trust.blocked:
            return []
        return [join for join in self.joins if join.inviter == peer_id]

    def may_come(self, peer_id: str) -> bool:
        """Whether a peer may connect: as member, inviter, friend or guest, or perhaps with an invite."""
        return bool(
            self.shared_with(peer_id)
            or self.joins_at(peer_id)
            or self.trust.admits(peer_id)
            or (self.has_invites and peer_id not in self.trust.blocked)
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """The counters of one connection; `rtt` in seconds, the rates in bytes per second."""

    connection_id: UUID
    bytes_sent: int
    bytes_received: int
    rtt: float | None
    sent_rate: int = 0
    received_rate: int = 0


async def look(connection: Connection, traffic: Sequence[Traffic]) -> View:
    """Store the counters of connections and give the present view."""
    counters = [
        {
            "connection_id": str(one.connection_id),
            "bytes_sent": one.bytes_sent,
            "bytes_received": one.bytes_received,
            "rtt": one.rtt,
            "bytes_sent_per_second": one.sent_rate,
            "bytes_received_per_second": one.received_rate,
        }
        for one in traffic
    ]
    text = await connection.value(
        "SELECT peer_internal.worker_look($1::jsonb)", json.dumps(counters) if counters else None
    )
    return _view(json.loads(text))


def _view(found: dict[str, Any]) -> View:
    config = found["config"]
    if config is None:
        raise ConfigError("peer.config has no row.", remedy="INSERT INTO peer.config DEFAULT VALUES;")
    members: dict[str, dict[UUID, str]] = {}
    for item in found["members"]:
        members.setdefault(item["peer_id"], {})[UUID(item["bundle"])] = item["role"]
    bundles = [
        BundleState(
            UUID(item["id"]),
            item["name"],
            item["mode"] == "auto",
            item["changed"],
            item["unsigned"],
            item["due"],
            item["joining"],
        )
        for item in found["bundles"]
    ]
    return View(
        label=config["label"],
        connect_timeout=float(config["connect_timeout"]),
        reconnect_delay_max=float(config["reconnect_delay_max"]),
        hubs=tuple(found["hubs"]),
        ice=tuple(read_ice(item) for item in found["ice"]),
        bundles={bundle.bundle_id: bundle for bundle in bundles},
        members=members,
        joins=tuple(_join(item) for item in found["joins"]),
        has_invites=found["invites"],
        clock=found["clock"] / 1000,
        clock_drift_limit=float(config["clock_drift_limit"]),
        trust=read_trust(found["trust"]),
        reach=read_reachability(found["reach"]),
    )


def _join(item: dict[str, Any]) -> JoinRequest:
    return JoinRequest(
        UUID(item["request"]),
        UUID(item["invite"]),
        UUID(item["bundle"]),
        item["name"],
        peer_id_from_public_key(bytes.fromhex(item["inviter"])),
        item["secret"] or "",
        float(item["expires"]),
    )
