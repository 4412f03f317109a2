"""The states of a connection, what the other side may say in each, and how long each phase may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgpeer.channel.limits import Timing
from pgpeer.channel.messages import MessageType


class State(Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    """Asked for here, not accepted yet."""
    ASKED = "asked"
    """Asked for by the other side, not answered yet."""
    OPEN = "open"
    CLOSING = "closing"
    """Being ended here: what was sent before is still delivered."""
    CLOSED = "closed"


_END: Final = frozenset({MessageType.CLOSE})

ACCEPTED: Final[Mapping[State, frozenset[MessageType]]] = {
    State.CONNECTING: _END | {MessageType.OPENED, MessageType.RESUME, MessageType.CLOSED},
    State.ASKED: _END | {MessageType.OPEN},
    State.OPEN: _END | {MessageType.OPEN, MessageType.DATA, MessageType.ACK, MessageType.RESUME},
    State.CLOSING: _END
    | {MessageType.OPEN, MessageType.DATA, MessageType.ACK, MessageType.RESUME, MessageType.CLOSED},
    State.CLOSED: frozenset(),
}
"""What the other side may say in each state; anything else ends the connection."""


class Phase(Enum):
    """What a connection waits for."""

    CONNECTING = "connecting"
    LINK = "link"
    RESUMING = "resuming"
    ANSWER = "answer"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a phase may take without progress, in seconds, and what is told then.

    Attributes:
        slow: then it is slow.
        fail: then it has failed.
        phase: a member of `pgpeer.errors.PHASES`.
        code: of the failure.
        waiting: what is waited for, for a sentence.
    """

    slow: float
    fail: float
    phase: str
    code: str
    waiting: str


def patience(phase: Phase, timing: Timing, *, has_link: bool) -> Patience:
    """Give the patience for a phase."""
    match phase:
        case Phase.CONNECTING if has_link:
            return Patience(timing.slow, timing.connect, "hello", "timeout", "the answer to the request")
        case Phase.CONNECTING:
            return Patience(timing.slow, timing.connect, "signalling", "timeout", "a link to the peer")
        case Phase.LINK:
            return Patience(timing.slow, timing.link, "signalling", "timeout", "a new link to the peer")
        case Phase.RESUMING:
            return Patience(timing.slow, timing.answer, "hello", "timeout", "the resumption")
        case Phase.ANSWER:
            return Patience(timing.slow, timing.answer, "transfer", "timeout", "an acknowledgement")
        case Phase.STALLED:
            return Patience(
                timing.stall_slow, timing.stall, "transfer", "target_overloaded", "room in the peer's inbox"
            )
