"""Whom the worker may link with, and what of grants and friendship waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Trust:
    """A part of the view.

    Attributes:
        accept: who may connect besides members: 'invited', 'friends' or 'open'.
        friends: peer ids that are friends.
        blocked: peer ids that may never connect.
        grants: how many grants of each bundle are known.
        unread: bundles of which some are not read into the roster.
        enforced: bundles whose members are those of the roster.
        left: bundles of which this database is no member any more.
        has_requests: whether roles wait to be signed.
        has_notices: whether peers shall be told of friendship.
        owner: the id of the owner's key; empty without one.
        devices: peer ids of the other devices of that owner.
        device_words: changes with everything that the owner has said of devices.
        link_count_max: so many links may there be at once.
    """

    accept: str = "invited"
    friends: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    grants: dict[UUID, int] = field(default_factory=dict)
    unread: tuple[UUID, ...] = ()
    enforced: frozenset[UUID] = frozenset()
    left: frozenset[UUID] = frozenset()
    has_requests: bool = False
    has_notices: bool = False
    owner: str = ""
    devices: frozenset[str] = frozenset()
    device_words: str = "0"
    link_count_max: int = 256

    def admits(self, peer_id: str) -> bool:
        """Whether a peer may connect without sharing a bundle or having an invite."""
        if peer_id in self.blocked:
            return False
        return (
            self.accept == "open"
            or peer_id in self.devices
            or (self.accept == "friends" and peer_id in self.friends)
        )


def read_trust(found: dict[str, Any]) -> Trust:
    """Read what peer_internal.worker_trust gave."""
    return Trust(
        accept=found["accept"],
        friends=frozenset(found["friends"]),
        blocked=frozenset(found["blocked"]),
        grants={UUID(bundle): count for bundle, count in found["grants"].items()},
        unread=tuple(UUID(bundle) for bundle in found["unread"]),
        enforced=frozenset(UUID(bundle) for bundle in found["enforced"]),
        left=frozenset(UUID(bundle) for bundle in found["left"]),
        has_requests=found["requests"],
        has_notices=found["notices"],
        owner=found["owner"] or "",
        devices=frozenset(found["devices"]),
        device_words=found["device_words"],
        link_count_max=found["link_count_max"],
    )
