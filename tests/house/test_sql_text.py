"""Rules of the SQL files that can be seen in their text."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pglast import ast, parse_sql
from pglast.parser import scan

from pgpeer.store.sources import SqlSources

SQL = Path(__file__).resolve().parents[2] / "sql"
FILES = sorted(SQL.rglob("*.sql"))

# Called once per value: the planner can put these into the calling statement only if they set nothing.
INLINED = {"escape_field", "unescape_field", "split_line", "key_text", "sees"}


def name_of(path: Path) -> str:
    return str(path.relative_to(SQL))


def functions(path: Path) -> list[ast.CreateFunctionStmt]:
    statements = (raw.stmt for raw in parse_sql(path.read_text()))
    return [statement for statement in statements if isinstance(statement, ast.CreateFunctionStmt)]


def last_name(statement: ast.CreateFunctionStmt) -> str:
    return str(statement.funcname[-1].sval)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_says_language_volatility_parallel_and_search_path(path: Path) -> None:
    for function in functions(path):
        said = {option.defname for option in function.options}
        wanted = {"language", "volatility", "parallel"}
        assert wanted <= said, f"{last_name(function)} does not say {wanted - said}"
        pinned = [
            [value.val.sval for value in option.arg.args]
            for option in function.options
            if option.defname == "set" and option.arg.name == "search_path"
        ]
        if last_name(function) in INLINED:
            assert pinned == []
        else:
            assert pinned == [["pg_catalog", "pg_temp"]], f"{last_name(function)} does not pin search_path"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_an_inlined_function_is_plain_sql_with_the_rights_of_its_caller(path: Path) -> None:
    for function in functions(path):
        if last_name(function) in INLINED:
            options = {option.defname: option.arg for option in function.options}
            assert options["language"].sval == "sql"
            assert "security" not in options
            assert options["volatility"].sval in {"immutable", "stable"}


def literals(text: str) -> Iterator[str]:
    """The string literals of SQL text, those inside dollar-quoted bodies too."""
    for token in scan(text):
        if token.name == "SCONST":
            literal = text[token.start : token.end + 1]
            if literal.startswith("$"):
                tag = literal[: literal.index("$", 1) + 1]
                yield from literals(literal[len(tag) : -len(tag)])
            else:
                yield literal


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_literal_with_a_backslash_says_so(path: Path) -> None:
    """Bodies are parsed in the user's session, where standard_conforming_strings may be off."""
    for function in functions(path):
        for option in function.options:
            if option.defname == "as":
                for literal in literals(option.arg[-1].sval):
                    assert literal[0] in "eE" or "\\" not in literal, f"{last_name(function)}: {literal}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_reserved_words_are_upper_case(path: Path) -> None:
    assert lower_case_words(path.read_text()) == []


def lower_case_words(text: str) -> list[str]:
    """Reserved words in lower case, in bodies too; after a dot: names, `true` and `= on`: values."""
    found = []
    before = ""
    for token in scan(text):
        word = text[token.start : token.end + 1]
        if token.name == "SCONST" and word.startswith("$"):
            mark = word[: word.index("$", 1) + 1]
            found += lower_case_words(word[len(mark) : -len(mark)])
        elif token.kind == "RESERVED_KEYWORD" and word not in {word.upper(), "true", "false"}:
            found += [word] if before not in {".", "="} else []
        before = word
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_line_ends_in_blanks_and_the_file_begins_with_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- ")
    assert text.endswith("\n")
    assert re.findall(r"[ \t]+$|\t", text, re.MULTILINE) == []


def test_pgspot_finds_no_way_to_hijack_a_function(tmp_path: Path) -> None:
    read = SqlSources.read(SQL)
    # The installer pins search_path, and refuses schemas that somebody else made (PS010).
    text = ["SET search_path = pg_catalog, pg_temp;"]
    text += [path.read_text() for path in (*read.tables, *read.functions)]
    whole = tmp_path / "whole.sql"
    whole.write_text("\n".join(text))
    command = [str(Path(sys.executable).parent / "pgspot"), "--ignore", "PS010", str(whole)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Errors: 0 " in result.stdout, result.stdout + result.stderr
    warnings = [line for line in result.stdout.splitlines() if re.match(r"PS\d{3}", line)]
    # An inlined function works in the search_path of the statement it becomes part of; callers pin theirs.
    inlined = {
        line.rpartition(" at line ")[2]
        for line in warnings
        if any(f"search_path: peer_internal.{name}(" in line for name in INLINED)
    }
    assert [line for line in warnings if line.rpartition(" at line ")[2] not in inlined] == []
