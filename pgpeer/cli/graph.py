"""Draws the history of a bundle: one line a commit, and lines from children to parents."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

Commit = tuple[str, Sequence[str], str]
"""Id, ids of the parents, and the text beside the commit."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that a drawing is made of."""

    commit: str = "●"
    lane: str = "│"
    branch: str = "├"
    line: str = "─"
    crossing: str = "┼"
    fork_end: str = "╮"
    fork_middle: str = "┬"
    join_end: str = "╯"
    join_middle: str = "┴"

    @classmethod
    def plain(cls) -> Self:
        """Those of ASCII."""
        return cls("*", "|", "|", "-", "+", ".", ".", "'", "'")

    @classmethod
    def for_standard_output(cls) -> Self:
        """Line characters where standard output can take them, else ASCII."""
        try:
            found = cls()
            found.commit.encode(sys.stdout.encoding or "ascii")
        except (UnicodeEncodeError, AttributeError):
            return cls.plain()
        return found


def graph_lines(commits: Sequence[Commit], glyphs: Glyphs) -> Iterator[str]:
    """The lines of the drawing.

    Args:
        commits: children before their parents. Parents that are not among them are drawn as open ends.
        glyphs: what to draw with.
    """
    lanes: list[str | None] = []  # the commit that each column waits for
    for commit, parents, text in commits:
        waiting = [column for column, awaited in enumerate(lanes) if awaited == commit]
        if waiting:
            here, others = waiting[0], waiting[1:]
        else:
            here, others = _take_column(lanes, commit), []
        if others:
            yield _connector(lanes, here, others, glyphs.join_middle, glyphs.join_end, glyphs)
            for column in others:
                lanes[column] = None
        marks = [_lane(awaited, glyphs) for awaited in lanes]
        marks[here] = glyphs.commit
        yield f"{' '.join(marks).rstrip()}  {text}"
        lanes[here] = parents[0] if parents else None
        new = [_take_column(lanes, parent) for parent in parents[1:]]
        if new:
            yield _connector(lanes, here, new, glyphs.fork_middle, glyphs.fork_end, glyphs)
        while lanes and lanes[-1] is None:
            lanes.pop()


def _take_column(lanes: list[str | None], commit: str) -> int:
    """Puts a commit in a new column at the right."""
    lanes.append(commit)
    return len(lanes) - 1


def _lane(awaited: str | None, glyphs: Glyphs) -> str:
    return " " if awaited is None else glyphs.lane


def _connector(
    lanes: Sequence[str | None], here: int, ends: Sequence[int], middle: str, end: str, glyphs: Glyphs
) -> str:
    """A line from column `here` to the columns `ends`, all of which are at its right."""
    last = max(ends)
    drawn = ""
    for column, awaited in enumerate(lanes):
        if column == here:
            mark = glyphs.branch
        elif column in ends:
            mark = end if column == last else middle
        elif here < column < last:
            mark = glyphs.line if awaited is None else glyphs.crossing
        else:
            mark = _lane(awaited, glyphs)
        drawn += mark + (glyphs.line if here <= column < last else " ")
    return drawn.rstrip()
