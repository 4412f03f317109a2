"""`pgpeer doctor`: looks for everything that could stand in the way."""

from __future__ import annotations

import sys

import typer

from pgpeer.cli.checks import Finding, checks
from pgpeer.cli.options import Dsn, Identity, Json, required_dsn
from pgpeer.cli.output import console, print_json

_FAILED = 1
_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run(dsn: Dsn = None, identity: Identity = None, as_json: Json = False) -> None:
    """Look for everything that stands in the way.

    Checks rights, identity, worker, clocks, hubs, STUN and TURN servers, the NAT, and the path to every peer;
    lists every problem with its remedy. Changes nothing and takes ten seconds at most, two as a rule. Exit
    code 1 when something fails; warnings alone are no failure.
    """
    findings = []
    out = console()
    with console(sys.stderr).status("asking the database, hubs, STUN and TURN servers …"):
        for finding in checks(required_dsn(dsn), identity):
            findings.append(finding)
            if not as_json:
                out.print(f"[{_STYLE[finding.state]}]{finding.state:4}[/] {finding.check:10}", end=" ")
                out.print(_line(finding), markup=False, soft_wrap=True)
    if as_json:
        print_json([finding.document() for finding in findings])
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(_FAILED)


def _line(finding: Finding) -> str:
    time = "" if finding.milliseconds is None else f" ({finding.milliseconds:.1f} ms)"
    remedy = f"\n{' ' * 16}{finding.remedy}" if finding.remedy else ""
    return f"{finding.detail}{time}{remedy}"
