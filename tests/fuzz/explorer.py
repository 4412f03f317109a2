"""The search: inputs that reach code which no input reached before are kept, and changed further.

Coverage is counted by the interpreter itself (sys.monitoring where there is one, sys.settrace before), so
that the same driver runs on every Python and system that pgpeer supports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import CodeType, FrameType
from typing import Any

Place = tuple[int, int]

LONGEST_INPUT = 20_000
_INTERESTING = (0, 1, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1F, 0x20, 0x7F, 0x80, 0x9F, 0xBF, 0xF6, 0xFF)


def _is_ours(code: CodeType) -> bool:
    return "/pgpeer/" in code.co_filename.replace("\\", "/")


class Tracer:
    """Collects the lines of pgpeer that run, each with how often, roughly."""

    def __init__(self) -> None:
        self._hits: dict[Place, int] = {}

    @contextmanager
    def watching(self) -> Iterator[dict[Place, int]]:
        self._hits = {}
        if hasattr(sys, "monitoring"):
            with self._monitoring():
                yield self._hits
        else:
            before = sys.gettrace()
            sys.settrace(self._on_call)
            try:
                yield self._hits
            finally:
                sys.settrace(before)

    def _count(self, code: CodeType, line: int) -> None:
        place = (id(code), line)
        self._hits[place] = self._hits.get(place, 0) + 1

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._on_line if _is_ours(frame.f_code) else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "line":
            self._count(frame.f_code, frame.f_lineno)
        return self._on_line

    @contextmanager
    def _monitoring(self) -> Iterator[None]:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        tool = monitoring.COVERAGE_ID if monitoring.get_tool(monitoring.COVERAGE_ID) is None else 4

        def on_line(code: CodeType, line: int) -> Any:
            if not _is_ours(code):
                return monitoring.DISABLE
            return self._count(code, line)

        monitoring.use_tool_id(tool, "pgpeer fuzz")
        monitoring.register_callback(tool, monitoring.events.LINE, on_line)
        monitoring.set_events(tool, monitoring.events.LINE)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)


def features_of(hits: dict[Place, int]) -> set[tuple[Place, int]]:
    """Where it went, and how often in powers of two."""
    return {(place, count.bit_length()) for place, count in hits.items()}


class Mutator:
    """Changes inputs as damage and malice would."""

    def __init__(self, random: Random, words: tuple[bytes, ...]) -> None:
        self._random = random
        self._words = words

    def change(self, data: bytes, other: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 4, 8))):
            changed = self._once(changed, other)
        return bytes(changed[:LONGEST_INPUT])

    def _once(self, data: bytearray, other: bytes) -> bytearray:
        random = self._random
        place = random.randrange(len(data) + 1)
        here = min(place, max(0, len(data) - 1))
        end = min(len(data), place + random.choice((1, 2, 4, 8, 32)))
        match random.randrange(10):
            case 0 if data:
                data[here] ^= 1 << random.randrange(8)
            case 1 if data:
                data[here] = random.choice(_INTERESTING)
            case 2 if data:
                data[here] = (data[here] + random.choice((-1, 1))) % 256
            case 3:
                del data[place:end]
            case 4:
                data[place:place] = random.randbytes(random.choice((1, 2, 4, 32)))
            case 5:
                data[place:place] = data[place:end] * random.choice((1, 2, 50))
            case 6 if other:
                start = random.randrange(len(other))
                data[place:] = other[start:]
            case 7 if self._words:
                data[place:end] = random.choice(self._words)
            case 8:
                del data[place:]
            case _:
                number = random.choice((0, 1, 127, 255, 65_535, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
                size = random.choice((1, 2, 4, 8))
                data[place : place + size] = (number % (1 << (8 * size))).to_bytes(size, "big")
        return data


def explore(
    run: Callable[[bytes], object],
    begin: list[bytes],
    words: tuple[bytes, ...],
    random: Random,
    goes_on: Callable[[int], bool],
) -> list[bytes]:
    """Search while `goes_on`, and give the inputs that reached something new, the first ones excepted.

    Whatever `run` raises comes through, with the input as a note.
    """
    tracer, mutator = Tracer(), Mutator(random, words)
    known: set[tuple[Place, int]] = set()
    pool: list[bytes] = []

    def attempt(data: bytes) -> bool:
        with tracer.watching() as hits:
            try:
                run(data)
            except Exception as error:
                error.add_note(f"the input was {data!r}")
                raise
        found = features_of(hits) - known
        known.update(found)
        if found:
            pool.append(data)
        return bool(found)

    for data in begin:
        attempt(data)
    kept: list[bytes] = []
    count = 0
    while goes_on(count):
        count += 1
        data = mutator.change(random.choice(pool or begin), random.choice(begin))
        if attempt(data):
            kept.append(data)
    return kept
