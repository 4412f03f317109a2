"""`pgpeer doctor`: looks for everything that could stand in the way."""

from __future__ import annotations

import typer

from pgpeer.cli.checks import Finding, checks
from pgpeer.cli.options import Dsn, Identity, Json, required_dsn
from pgpeer.cli.output import console, print_json

_FAILED = 1
_STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def run(dsn: Dsn = None, identity: Identity = None, as_json: Json = False) -> None:
    """Look for everything that stands in the way.

    Checks rights, versions, identity, worker, hubs and clocks, lists every problem with its remedy. Changes
    nothing. Exit code 1 when there is a problem; warnings alone are no failure.
    """
    findings = []
    out = console()
    for finding in checks(required_dsn(dsn), identity):
        findings.append(finding)
        if not as_json:
            out.print(f"[{_STYLE[finding.state]}]{finding.state:8}[/]", end=" ")
            out.print(_line(finding), markup=False, soft_wrap=True)
    if as_json:
        print_json([finding.document() for finding in findings])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(_FAILED)


def _line(finding: Finding) -> str:
    return f"{finding.detail}\n{' ' * 9}{finding.remedy}" if finding.remedy else finding.detail
