"""The page of events and problems names the kinds that the code uses, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SQL = "\n".join(path.read_text() for path in sorted((ROOT / "sql").rglob("*.sql")))
PYTHON = "\n".join(path.read_text() for path in sorted((ROOT / "pgpeer").rglob("*.py")))
VIEWS = (ROOT / "sql" / "90_public" / "views.sql").read_text()
PAGE = (ROOT / "docs" / "reference" / "events.md").read_text()


def listed(heading: str) -> list[str]:
    section = PAGE.split(f"## Kinds of `{heading}`")[1].split("\n## ")[0]
    return re.findall(r"^\| `([a-z_-]+)` \|", section, re.MULTILINE)


def test_every_kind_of_event_is_on_the_page() -> None:
    used = set(re.findall(r"announce\(\s*'([a-z-]+)'", SQL))
    used |= set(re.findall(r"(?:\.event|\.failure)\(\s*\"([a-z-]+)\"", PYTHON))
    used |= set(re.findall(r"announce\(\s*[\w.]+,\s*\"([a-z-]+)\"", PYTHON))
    assert {"joined", "connected", "peer-failed", "epoch-renewed"} <= used
    assert sorted(listed("peer.event")) == sorted(used)


def test_every_kind_of_problem_is_on_the_page() -> None:
    used = set(re.findall(r"\.problem\(\s*\"([a-z_]+)\"", PYTHON))
    used |= set(re.findall(r"report_problem\(\s*[\w.]+,\s*\"([a-z_]+)\"", PYTHON))
    used |= set(re.findall(r"report_problem\(\s*'([a-z_]+)'", SQL))
    for call in re.findall(r"PERFORM peer_internal\.hold\(c\.commit_no,(.*?)\);", SQL, re.DOTALL):
        used |= set(re.findall(r"'([a-z]+(?:_[a-z]+)+)'", call))
    used |= set(
        re.findall(r"^SELECT (?:now\(\)|c\.recorded_at|min\([\w.]+\)), '([a-z_]+)',", VIEWS, re.MULTILINE)
    )
    assert {"hub_unreachable", "future_commit", "held_commit", "copied_database"} <= used
    assert sorted(listed("peer.problem")) == sorted(used)


def test_every_kind_says_what_it_means() -> None:
    for row in re.findall(r"^\| `.*$", PAGE, re.MULTILINE):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3, row
        assert cells[1].endswith("."), row
    problems = PAGE.split("## Kinds of `peer.problem`")[1]
    assert not re.findall(r"^\| `[^|]*\|[^|]*\| *\|$", problems, re.MULTILINE)
