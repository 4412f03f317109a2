"""What a simulation met, counted: proof that the faults it is meant to try really happened."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class Tally:
    """Counts of one or of many simulations.

    Attributes:
        sessions: conversations begun. resumed: those that went on with a commit that was there in part.
        silent: those that ended because nothing was heard. replaced: links that gave way to another one.
        repeated: commits and sections that came by several ways. digests: vectors told by their digest.
        starved: moments when something waited to be sent and there was no credit.
        large: messages that took a turn of those that are too large to have many in memory.
    """

    sessions: int = 0
    resumed: int = 0
    silent: int = 0
    replaced: int = 0
    repeated: int = 0
    digests: int = 0
    starved: int = 0
    large: int = 0
    crashes: int = 0
    frames: int = 0
    commits: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Tally)))
