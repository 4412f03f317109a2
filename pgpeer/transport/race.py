"""Which ways to a peer are tried when: everything at once, better ones again, worse ones when needed. No I/O.

All ways begin at t = 0, the relay among them, so that the first that works is used. A way is wanted while no
path at least as good is sound; so the better ones are tried again, ever more seldom, while a worse one
carries the stream, and the worse ones at once when the better one is doubted or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pgpeer.transport.base import PathKind

RANKS: Final[Mapping[PathKind, int]] = {"memory": 0, "relay": 1, "webrtc": 2, "tls": 3}
"""The higher, the better: TLS needs far less CPU than WebRTC, and a relay is somebody else's bandwidth."""

FIRST_DELAY_SECONDS: Final = 2.0
LONGEST_DELAY_SECONDS: Final = 60.0
"""A way that failed is tried again after about 2 s, 4 s, 8 s, … up to a minute."""

GRACE_SECONDS: Final = 1.5
"""So long the side that does not lead leaves the first try to the other one."""

STEADY_SECONDS: Final = 10.0
"""A path that held for so long was no failure, however it ended."""


@dataclass(slots=True)
class _Way:
    rank: int
    next_at: float
    failures: int = 0
    is_trying: bool = False
    open_since: float | None = None


class Race:
    """The plan for one stream.

    Args:
        kinds: the ways that this side can try.
        leads: whether this side tries at once; the other side waits for `GRACE_SECONDS`.
        now: seconds of a monotonic clock, the same for every other call.
    """

    def __init__(self, kinds: frozenset[PathKind], now: float, *, leads: bool) -> None:
        begin = now if leads else now + GRACE_SECONDS
        self._grace = 0.0 if leads else GRACE_SECONDS
        self._ways = {kind: _Way(RANKS[kind], begin) for kind in kinds}
        self._sound: dict[int, int] = {}

    def know(self, kinds: frozenset[PathKind], now: float) -> None:
        """These ways can be tried now: those that were not known before begin at once."""
        for kind in kinds - self._ways.keys():
            self._ways[kind] = _Way(RANKS[kind], now)

    def due(self, now: float) -> list[PathKind]:
        """Give the ways to try now, best first; each counts as under way until `failed` or `opened`."""
        found = [kind for kind, way in self._ways.items() if self._is_wanted(way) and way.next_at <= now]
        for kind in found:
            self._ways[kind].is_trying = True
        return sorted(found, key=lambda kind: -RANKS[kind])

    def next_deadline(self) -> float | None:
        """Give when `due` will give something; None while nothing is wanted."""
        return min((way.next_at for way in self._ways.values() if self._is_wanted(way)), default=None)

    def is_wanted(self, kind: PathKind) -> bool:
        """Whether a path of this kind would be better than what there is."""
        return RANKS[kind] > self._best()

    def failed(self, kind: PathKind, now: float, chance: float) -> None:
        """A try has failed.

        Args:
            kind: the way.
            now: the time.
            chance: a random number from 0 to 1, which spreads the next try.
        """
        way = self._ways.get(kind)
        if way is not None:
            way.is_trying = False
            self._put_off(way, now, chance)

    def opened(self, kind: PathKind, path: int, now: float) -> None:
        """A path of this kind is open, whoever opened it, and has authenticated."""
        self._sound[path] = RANKS[kind]
        way = self._ways.get(kind)
        if way is not None:
            way.is_trying = False
            way.open_since = now

    def doubted(self, path: int, now: float) -> None:
        """Nothing comes on a path any more: what is worse than it is wanted again, at once."""
        if self._sound.pop(path, None) is not None:
            self._hurry(now)

    def trusted(self, path: int, kind: PathKind) -> None:
        """A doubted path works again."""
        self._sound[path] = RANKS[kind]

    def lost(self, path: int, kind: PathKind, now: float, chance: float) -> None:
        """A path is gone: what is worse is tried at once, and so is its own way if the path held for long."""
        self._sound.pop(path, None)
        self._hurry(now)
        way = self._ways.get(kind)
        if way is None or way.open_since is None:
            return
        if now >= way.open_since + STEADY_SECONDS:
            way.failures = 0
            way.next_at = now + self._grace
        elif not way.is_trying:
            self._put_off(way, now, chance)
        way.open_since = None

    def closed(self, path: int) -> None:
        """A path was closed because a better one took its place."""
        self._sound.pop(path, None)

    def hurry(self, now: float) -> None:
        """Try everything again at once: the network changed, the machine woke up, or a hub is back."""
        for way in self._ways.values():
            way.failures = 0
            way.next_at = min(way.next_at, now)

    def _hurry(self, now: float) -> None:
        """With no sound path left no way waits for its turn; the side that does not lead waits a little."""
        if self._sound:
            return
        for way in self._ways.values():
            way.next_at = min(way.next_at, now + self._grace)

    def _put_off(self, way: _Way, now: float, chance: float) -> None:
        longest = min(FIRST_DELAY_SECONDS * 2.0**way.failures, LONGEST_DELAY_SECONDS)
        way.next_at = now + longest * (0.75 + chance / 2)
        way.failures = min(way.failures + 1, 16)

    def _best(self) -> int:
        return max(self._sound.values(), default=-1)

    def _is_wanted(self, way: _Way) -> bool:
        return not way.is_trying and way.rank > self._best()
