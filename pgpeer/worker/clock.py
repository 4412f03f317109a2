"""The time of day, for what other machines compare with theirs."""

from __future__ import annotations

from datetime import UTC, datetime


def unix_time() -> float:
    """Give the seconds since 1970."""
    return datetime.now(UTC).timestamp()
