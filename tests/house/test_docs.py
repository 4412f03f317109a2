"""The reference pages agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = re.compile(r"\bPG[A-Z][0-9]{2}\b")


def test_the_error_list_names_exactly_the_sqlstates_that_the_code_raises() -> None:
    raised = {state for path in (ROOT / "sql").rglob("*.sql") for state in STATE.findall(path.read_text())}
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|") and STATE.search(line)]
    listed = [STATE.findall(row)[0] for row in rows]
    assert raised
    assert sorted(listed) == sorted(raised)


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
