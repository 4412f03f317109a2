"""Reading the JSON of a join payload: only what PostgreSQL's jsonb and UTF-8 can hold as well."""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

from pgpeer.errors import CommitError
from pgpeer.protocol.messages import Payload

MAX_DEPTH: Final = 64
"""Objects and arrays within each other; what pgpeer sends has fewer than ten."""


def read_payload(document: str) -> Payload:
    """Read a JSON object.

    Raises:
        CommitError: it is not one, it is nested deeper than `MAX_DEPTH`, or it holds a number that is not
            finite, a NUL or half a surrogate pair.
    """
    try:
        value = json.loads(document, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CommitError("A join payload is not JSON.", code="bad_message") from error
    if not isinstance(value, dict):
        _refuse("it is no object")
    _check(value)
    return value


def _check(document: object) -> None:
    level, depth = [document], 0
    while level:
        if depth > MAX_DEPTH:
            _refuse("it is nested too deeply")
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                _check_text(value)
            elif isinstance(value, float) and not math.isfinite(value):
                _refuse("a number is not finite")
        level, depth = below, depth + 1


def _check_text(value: str) -> None:
    if "\0" in value:
        _refuse("a text holds a NUL")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse("a text is not Unicode")


def _refuse(reason: str) -> NoReturn:
    raise CommitError(f"A join payload cannot be read: {reason}.", code="bad_message")
