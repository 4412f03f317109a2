"""Every number of application connections; sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_DATA_BYTES: Final = 256 * 1024
"""The largest text of one message, in UTF-8."""

MAX_FRAME_BYTES: Final = MAX_DATA_BYTES + 64
"""The largest encoded message between two peers."""

MESSAGE_COST_BYTES: Final = 100
"""What a message counts beside its text, so that many small ones are bounded too."""

WINDOW_BYTES: Final = 512 * 1024
"""Cost of messages that may be under way on one connection in one direction."""

MAX_CONNECTIONS: Final = 32
"""Connections with one peer at once."""

MAX_CODE_BYTES: Final = 64
MAX_DETAIL_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Timing:
    """When patience ends, in seconds; each phase first becomes slow and then fails.

    Attributes:
        slow: without progress for so long, a connection is slow.
        connect: a connection that was asked for must be open.
        answer: an acknowledgement or another answer must have come.
        link: a broken link must be there again.
        stall: a full inbox on the other side must have room again.
        stall_slow: a full inbox makes a connection slow.
    """

    slow: float = 3.0
    connect: float = 20.0
    answer: float = 30.0
    link: float = 60.0
    stall_slow: float = 30.0
    stall: float = 180.0
