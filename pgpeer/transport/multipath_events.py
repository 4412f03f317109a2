"""What a `PathSwitch` tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from pgpeer.errors import LinkClosed


@dataclass(frozen=True, slots=True)
class PathInUse:
    """From now on messages are sent on this path; None: on none, they wait."""

    path: int | None


@dataclass(frozen=True, slots=True)
class PathSuspect:
    """Nothing came on a path although something should have: better look for another one."""

    path: int


@dataclass(frozen=True, slots=True)
class PathTrusted:
    """Something came again on a path that was suspect."""

    path: int


@dataclass(frozen=True, slots=True)
class PathDropped:
    """The switch is done with a path and the owner should close it.

    Attributes:
        path: which one.
        is_dead: whether it carried nothing any more; otherwise a better one took its place.
    """

    path: int
    is_dead: bool


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over; the last event."""

    reason: LinkClosed


SwitchEvent = PathInUse | PathSuspect | PathTrusted | PathDropped | StreamEnded
