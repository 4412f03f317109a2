"""What commands print: tables for people, one JSON document for programs, refusals on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pgpeer.errors import PgpeerError

_UNLIMITED: Final = 10_000
_SHORT: Final = 12
COMMIT_PREFIX: Final = "bafyrei"
"""How the id of every commit begins."""

Row = dict[str, Any]
"""One row of a result; the keys are the SQL column names."""


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream (default: standard output); in a pipe or file its lines are never cut."""
    target = stream if stream is not None else sys.stdout
    return Console(file=target, highlight=False, width=None if target.isatty() else _UNLIMITED)


def print_json(document: object) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, empty: str) -> None:
    """Prints some columns of rows as a table, or a sentence when there are none."""
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = any(isinstance(row[column], int) and not isinstance(row[column], bool) for row in rows)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row[column])) for column in columns))
    console().print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines as they are."""
    for line in lines:
        typer.echo(line)


def cell(value: object) -> str:
    """A value as people read it in a table."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case list() if all(isinstance(item, str) for item in value):
            return ", ".join(value)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def short_id(commit_id: str) -> str:
    """The part of a commit id that people read and type."""
    return commit_id.removeprefix(COMMIT_PREFIX)[:_SHORT]


def moment(text: str | None) -> str:
    """A timestamp of PostgreSQL's JSON without fractions of a second."""
    if text is None:
        return ""
    date, _, rest = text.partition("T")
    zone = rest[-6:] if rest[-6:-5] in {"+", "-"} else ""
    return f"{date} {rest[:8]}{zone}"


def tell_refusal(error: PgpeerError) -> None:
    """Says on standard error what could not be done, and what to do about it."""
    on_error = console(sys.stderr)
    on_error.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    if error.remedy:
        on_error.print(f"[bold]remedy:[/] {escape(error.remedy)}", soft_wrap=True)


def tell(sentence: str) -> None:
    """Says something on standard error that is no part of the result."""
    typer.echo(sentence, err=True)
