"""docs/requirements.md is whole: every row, phase, limit and time is there, with numbers of the code and tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from pgpeer.channel.limits import Timing
from pgpeer.errors import CODES, PHASES
from pgpeer.signaling.limits import HubLimits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
ROOMS = ("signaling", "protocol", "transport", "channel")
IN_SCOPE = [
    *(f"A{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)),
    *(f"B{number}" for number in range(1, 20)),
    *("D3", "D5", "D7", "D8", "D9", "D15", "D16"),
    *("E1", "E6", "E7", "E8", "E16", "E21"),
]
NUMBER = re.compile(r"`(pgpeer\.[\w.]+)` = (\S+?)(?=<br>| |$)")


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, each as its cells."""
    section = re.split(rf"^## {heading}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@cache
def existing() -> set[str]:
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", cell))


def value_of(name: str) -> float:
    """The number of the code: a constant of a module or class, or the default of a dataclass's field."""
    module, _, attribute = name.rpartition(".")
    if not module.rpartition(".")[2][0].isupper():
        return float(getattr(import_module(module), attribute))
    module, _, kind = module.rpartition(".")
    owner = getattr(import_module(module), kind)
    defaults = {one.name: one.default for one in fields(owner)} if is_dataclass(owner) else vars(owner)
    return float(defaults[attribute])


def constants() -> Iterator[str]:
    """Every number of seconds in the rooms."""
    for room in ROOMS:
        for path in sorted((ROOT / "pgpeer" / room).glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                name = ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else ""
                if name.endswith("_SECONDS"):
                    yield f"pgpeer.{room}.{path.stem}.{name}"
    yield from (
        f"pgpeer.signaling.limits.HubLimits.{one.name}"
        for one in fields(HubLimits)
        if one.name.endswith("_seconds")
    )
    yield from (f"pgpeer.channel.limits.Timing.{one.name}" for one in fields(Timing))


def test_every_row_in_scope_is_there_once() -> None:
    assert [row[0] for row in table("Rows")] == IN_SCOPE


@pytest.mark.parametrize("row", table("Rows"), ids=lambda row: row[0])
def test_every_row_has_a_state_and_tests_that_exist(row: list[str]) -> None:
    _, _, state, does, tests = row
    assert state in ("met", "in part", "not here")
    assert named(tests) <= existing(), named(tests) - existing()
    assert bool(named(tests)) is (state != "not here")
    assert ("Missing" in does) is (state == "in part")


def test_every_phase_is_there_with_codes_that_exist() -> None:
    rows = table("Phases")
    assert {row[0] for row in rows} == PHASES
    for _, _, slow, failed, codes, tests in rows:
        assert slow
        assert failed
        assert set(codes.split(", ")) <= CODES
        assert named(tests)
        assert named(tests) <= existing(), named(tests) - existing()


def test_every_limit_has_the_number_of_the_code_and_tests() -> None:
    seen = set()
    for what, numbers, tests in table("Limits"):
        found = NUMBER.findall(numbers)
        assert found, what
        for name, number in found:
            assert float(number) == value_of(name), name
            seen.add(name)
        assert named(tests), what
        assert named(tests) <= existing(), named(tests) - existing()
    prefix = "pgpeer.signaling.limits.HubLimits."
    assert {one.name for one in fields(HubLimits) if not one.name.endswith("_seconds")} == {
        name.removeprefix(prefix) for name in seen if name.startswith(prefix)
    }


def test_every_time_out_of_the_rooms_is_there_with_its_number_and_a_test() -> None:
    rows = table("Times")
    assert {row[0].strip("`") for row in rows} == set(constants())
    for name, number, tests in rows:
        assert float(number) == value_of(name.strip("`")), name
        assert named(tests), name
        assert named(tests) <= existing(), named(tests) - existing()


@pytest.mark.parametrize("heading", ["Adversaries", "The whole"])
def test_every_adversary_meets_a_test_that_exists(heading: str) -> None:
    rows = table(heading)
    assert rows
    for who, tests in rows:
        assert named(tests), who
        assert named(tests) <= existing(), named(tests) - existing()
