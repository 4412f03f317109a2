"""How changes of rows are printed: shared by `diff` and `show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from rich.text import Text

from pgpeer.cli.output import Row, console

_STYLE: Final = {"INSERT": "green", "UPDATE": "yellow", "DELETE": "red"}
_SIGN: Final = {"INSERT": "+", "UPDATE": "~", "DELETE": "-"}


def print_changes(rows: Sequence[Row], *, empty: str) -> None:
    """Prints changed rows as peer.diff and peer.show give them, the cells of one row together."""
    out = console()
    for line in _lines(rows):
        out.print(line, soft_wrap=True)
    if not rows:
        out.print(empty, markup=False)


def _lines(rows: Sequence[Row]) -> Iterator[Text]:
    for _, group in groupby(
        rows, key=lambda row: (row["relation"], json.dumps(row["key"]), row["operation"])
    ):
        cells = list(group)
        first = cells[0]
        operation = first["operation"]
        head = f"{_SIGN[operation]} {first['relation']} {_value(first['key'])}"
        yield Text(head, style=_STYLE[operation])
        for row in cells:
            if row["column_name"] is not None:
                yield Text(
                    f"    {row['column_name']}: {_value(row['old_value'])} → {_value(row['new_value'])}"
                )
            else:
                whole = row["new_value"] if operation == "INSERT" else row["old_value"]
                for name, value in (whole or {}).items():
                    if name not in row["key"]:
                        yield Text(f"    {name}: {_value(value)}")


def _value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, ensure_ascii=False)
