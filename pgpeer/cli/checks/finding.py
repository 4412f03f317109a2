"""What one check of `pgpeer doctor` found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from pgpeer.errors import PgpeerError

State = Literal["ok", "warn", "fail"]
"""`ok`: all is well. `warn`: works, or was not checked. `fail`: stands in the way."""

_NO_REMEDY: Final = "Read the detail; then try again."


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: the name of the check, such as `hub`; several findings may come from one.
        state: see `State`.
        kind: what was found, in snake_case: the check's name when all is well.
        detail: one sentence.
        remedy: what to do about it; empty when all is well.
        milliseconds: how long an answer took, where the check measured one.
    """

    check: str
    state: State
    kind: str
    detail: str
    remedy: str = ""
    milliseconds: float | None = None

    def document(self) -> dict[str, str | float | None]:
        """The finding as a JSON object."""
        return asdict(self)


def well(check: str, detail: str, seconds: float | None = None) -> Finding:
    """All is well."""
    return Finding(check, "ok", check, detail, milliseconds=_milliseconds(seconds))


def failed(check: str, error: PgpeerError) -> Finding:
    """A refusal became a finding."""
    return Finding(check, "fail", error.code, str(error), error.remedy or _NO_REMEDY)


def unchecked(check: str, reason: str, remedy: str) -> Finding:
    """The check could not be made."""
    return Finding(check, "warn", "not_checked", f"Not checked: {reason}", remedy)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
