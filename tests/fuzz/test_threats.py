"""SECURITY.md promises nothing that no test proves, and names every threat that is not countered as such."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THREATS = re.findall(
    r"^\*\*(\d+)\. .*?(?=^\*\*\d|^## |\Z)", (ROOT / "SECURITY.md").read_text(), re.MULTILINE | re.DOTALL
)
PARAGRAPHS = [
    text for text in (ROOT / "SECURITY.md").read_text().split("\n\n") if re.match(r"\*\*\d+\. ", text)
]


def test_every_threat_of_the_list_is_there_once() -> None:
    assert [int(number) for number in THREATS] == list(range(1, 16))


@pytest.mark.parametrize("paragraph", PARAGRAPHS, ids=[text[2:40] for text in PARAGRAPHS])
def test_every_threat_has_a_state_and_tests_that_exist(paragraph: str) -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"^(?:async )?def (test_\w+)", tests, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", paragraph))
    state = re.search(r"State: (countered|in part|open)\b", paragraph)
    assert state is not None
    assert named <= existing, named - existing
    assert bool(named) is (state[1] != "open")
    assert ("Missing:" in paragraph) is (state[1] == "in part")


def test_every_file_that_is_named_is_there() -> None:
    files = re.findall(r"`((?:pgpeer|docs|sql)/[\w/.]+)`", (ROOT / "SECURITY.md").read_text())
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []
