"""One measured figure: repetitions, a reference from the same run, and how to print both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, once per repetition.

    Attributes:
        section: the part of the run that it belongs to.
        name: what it is, for people.
        unit: the unit of `values` and `reference`.
        values: pgpeer's value in each repetition.
        reference: what it is compared with, measured in the same repetitions; empty without one.
        reference_name: what the reference is.
        reach: what DESIGN wants, as text; empty where it names nothing.
    """

    section: str
    name: str
    unit: str
    values: tuple[float, ...]
    reference: tuple[float, ...] = ()
    reference_name: str = ""
    reach: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Value to reference, repetition by repetition; empty without a reference."""
        if not self.reference:
            return ()
        return tuple(a / b for a, b in zip(self.values, self.reference, strict=True))

    def document(self) -> dict[str, Any]:
        """The figure for JSON."""
        found: dict[str, Any] = {
            "section": self.section,
            "name": self.name,
            "unit": self.unit,
            "values": list(self.values),
            "median": statistics.median(self.values),
        }
        if self.reference:
            found |= {
                "reference_name": self.reference_name,
                "reference": list(self.reference),
                "reference_median": statistics.median(self.reference),
                "ratios": list(self.ratios),
                "ratio": statistics.median(self.ratios),
            }
        if self.reach:
            found["reach"] = self.reach
        return found

    def line(self) -> str:
        """The figure as one row of a Markdown table with the columns of `HEADER`."""
        cells = [self.name, self.unit, spread(self.values)]
        if self.reference:
            cells += [f"{spread(self.reference)} {self.reference_name}", f"{spread(self.ratios)}x"]
        else:
            cells += ["", ""]
        return "| " + " | ".join([*cells, self.reach]) + " |"


HEADER = "| what | unit | pgpeer | reference | ratio | reach |\n|---|---|---|---|---|---|"


def spread(values: Sequence[float]) -> str:
    """Median, least and greatest: `1.20 (1.10..1.90)`; a single value stands alone."""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}..{number(max(values))})"


def number(value: float) -> str:
    """Three figures and no more: noise has no decimals."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
