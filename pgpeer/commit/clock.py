"""The hybrid logical clock: one bigint, milliseconds since 1970 shifted left by 16 bits, plus a counter."""

from __future__ import annotations

from typing import Final

COUNTER_BITS: Final = 16
DRIFT_LIMIT_MS: Final = 300_000
"""A commit dated further ahead than this waits until its time has come."""


def next_hlc(last: int, now_ms: int) -> int:
    """Give the next stamp after `last`, the greatest one seen; it never goes back, as wall clocks do."""
    return max(last + 1, now_ms << COUNTER_BITS)


def hlc_to_milliseconds(hlc: int) -> int:
    """Give the wall-clock part in milliseconds since 1970."""
    return hlc >> COUNTER_BITS


def hlc_to_unix_seconds(hlc: int) -> float:
    """Give the wall-clock part in seconds since 1970."""
    return hlc_to_milliseconds(hlc) / 1000


def is_too_far_ahead(hlc: int, now_ms: int, limit_ms: int = DRIFT_LIMIT_MS) -> bool:
    """Whether a stamp lies more than `limit_ms` after `now_ms` (milliseconds since 1970)."""
    return hlc_to_milliseconds(hlc) > now_ms + limit_ms
