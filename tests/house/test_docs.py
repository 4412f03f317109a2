"""The reference pages agree with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtures.databases import Database
from typer.main import get_command

from pgpeer.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
STATE = re.compile(r"\bPG[A-Z][0-9]{2}\b")


def test_the_error_list_names_exactly_the_sqlstates_that_the_code_raises() -> None:
    raised = {state for path in (ROOT / "sql").rglob("*.sql") for state in STATE.findall(path.read_text())}
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|") and STATE.search(line)]
    listed = [STATE.findall(row)[0] for row in rows]
    assert raised
    assert sorted(listed) == sorted(raised)


def test_every_promise_names_tests_that_exist() -> None:
    paragraphs = (ROOT / "docs" / "guarantees.md").read_text().split("\n\n")
    promises = [text for text in paragraphs if text.startswith("**")]
    assert promises
    for promise in promises:
        assert re.search(r"`test_\w+`", promise), promise
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"^(?:async )?def (test_\w+)", tests, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", "".join(paragraphs))) <= existing


def test_the_sql_page_names_every_public_function_and_table(database: Database) -> None:
    page = (ROOT / "docs" / "reference" / "sql.md").read_text()
    query = """
        SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'peer'::regnamespace
        UNION SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'peer'::regnamespace AND c.relkind IN ('r', 'v')
    """
    names = {name for (name,) in database.connect().execute(query)}
    documented = set(re.findall(r"^\*\*`peer\.(\w+)", page, re.MULTILINE))
    assert names
    assert documented == names


def test_the_sql_page_names_every_column_of_public_tables_and_views(database: Database) -> None:
    sections = re.split(r"\n\n", (ROOT / "docs" / "reference" / "sql.md").read_text())
    configuration = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    query = """
        SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'peer'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND a.attname <> 'one_row'
    """
    for relation, column in database.connect().execute(query):
        text = next(section for section in sections if section.startswith(f"**`peer.{relation}`**"))
        assert f"`{column}`" in (configuration if relation == "config" else text), f"{relation}.{column}"


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield " ".join(words), command


def test_the_command_page_names_every_command_with_all_its_options() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    headings = dict(
        re.findall(
            r"^\*\*`pgpeer ([a-z]+(?: (?:create|list|show|backup|restore|rotate|adopt|disown|revoke|add|accept|block|remove|introduce))?)( [^`]*)?`\*\*$",
            page,
            re.MULTILINE,
        )
    )
    known = dict(commands(get_command(app)))
    assert set(headings) == set(known)
    for name, command in known.items():
        visible = [option for option in command.params if not getattr(option, "hidden", False)]
        options = {
            word for option in visible for word in option.opts + option.secondary_opts if word[0] == "-"
        }
        written = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", headings[name]))
        assert written == options, name


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


def test_every_decision_record_is_in_the_index() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    records = [path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")]
    assert [name for name in records if f"({name})" not in index] == []
