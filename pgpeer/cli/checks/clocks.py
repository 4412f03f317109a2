"""Clocks: of concurrent writes the later one wins, and what peers tell each other at hubs is dated."""

from __future__ import annotations

from typing import Final

from pgpeer.cli.checks.finding import Finding, well
from pgpeer.signaling.signal import CLOCK_LEEWAY_SECONDS

_NOTICED_SECONDS: Final = 2.0
_REMEDY: Final = "Let both follow a time server: of concurrent writes the later one wins."


def clock_finding(other: str, skew: float) -> Finding:
    """Judges a difference between this machine's clock and another; `skew` in seconds, ahead is positive."""
    if abs(skew) <= _NOTICED_SECONDS:
        return well("clock", f"The clocks of this machine and of {other} agree.")
    direction = "ahead of" if skew > 0 else "behind"
    detail = f"The clock of {other} is {abs(skew):.0f} s {direction} that of this machine"
    if abs(skew) > CLOCK_LEEWAY_SECONDS:
        so = "so if this one is wrong, no peer can be linked" if "hub" in other else "so commits may be held"
        return Finding("clock", "fail", "clock_drift", f"{detail}, {so}.", _REMEDY)
    return Finding("clock", "warn", "clock_drift", f"{detail}.", _REMEDY)
