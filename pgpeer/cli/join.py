"""`pgpeer join`: follows an invite."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from pgpeer.cli.database import WORKER_RUNS, Database, open_database, worker_runs
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import Row, console, print_json, print_lines, tell
from pgpeer.errors import StoreError

_LOOK_SECONDS: Final = 0.25
_START_SECONDS: Final = 1.5
"""A worker that was started a moment ago needs so long until it holds its lock."""
_PATIENCE_SECONDS: Final = 15.0
"""After so long without a sign of the inviter it is said what is waited for, for who sees no status line."""

_EVENTS: Final = """
    SELECT e.* FROM peer.event AS e
     WHERE e.id > %(after)s AND (e.bundle = %(bundle)s OR e.peer_id = %(inviter)s) ORDER BY e.id
"""
_PROGRESS: Final = """
    SELECT coalesce(sum(s.row_count) FILTER (WHERE s.data IS NOT NULL), 0) AS here,
           coalesce(sum(s.row_count), 0) AS wanted
      FROM peer_internal.section AS s JOIN peer_internal.commit AS c USING (commit_no)
     WHERE c.bundle_id = %(bundle_id)s
"""


def run(
    link: Annotated[str, typer.Argument(metavar="LINK", help="The whole pgpeer:// link of an invite.")],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the tables are here and filled.")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait.")
    ] = 300.0,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Join a bundle by an invite.

    Its tables are created here and filled; then they follow every change. The worker of this database does
    the work; without one the request waits for it.
    """
    with open_database(required_dsn(dsn)) as database:
        last_event = database.value("SELECT coalesce(max(e.id), 0) FROM peer.event AS e")
        request = database.rows("SELECT * FROM peer.join(%(link)s)", {"link": link})[0]
        query = """SELECT j.bundle_id, j.bundle_name, peer_internal.peer_id(j.inviter_key) AS inviter
                     FROM peer_internal.join_request AS j
                    WHERE j.request_id = %(join)s"""
        asked = database.rows(query, request)[0]
        if not worker_runs(database, _START_SECONDS):
            tell("note: no worker runs for this database; the request waits for one: pgpeer worker")
        if not wait:
            _tell_result(request, f"Asked to join {asked['bundle_name']}.", as_json)
            return
        seconds = time.monotonic()
        try:
            event = _wait_for_end(database, asked, last_event, timeout)
        except KeyboardInterrupt:
            tell("note: the request stays with the worker; pgpeer doctor tells what it waits for")
            raise
        seconds = time.monotonic() - seconds
    _tell_result(request | event, f"Joined {asked['bundle_name']} in {seconds:.1f} s.", as_json)


def _wait_for_end(database: Database, asked: Row, after: int, timeout: float) -> Row:
    """Follows the events of one request until it is done.

    Raises:
        StoreError: it failed, or the time is over; in that case the worker goes on trying.
    """
    deadline = time.monotonic() + timeout
    bundle = asked["bundle_name"]
    words, trouble = "asked; looking for the inviter", ""
    patience = time.monotonic() + _PATIENCE_SECONDS
    with console(sys.stderr).status(f"join {bundle}: {words}") as status:
        while True:
            for event in database.rows(_EVENTS, asked | {"after": after, "bundle": bundle}):
                after = event["id"]
                match event["kind"]:
                    case "joined":
                        return event
                    case "join-failed":
                        raise _failure(event)
                    case "connect-failed":
                        why = (event["detail"] or event["code"] or "").rstrip(".")
                        trouble = f"; the last attempt to connect failed: {why}"
                    case "connected":
                        words, trouble = "connected", ""
                    case "join-accepted":
                        words, trouble = "accepted", ""
            progress = database.rows(_PROGRESS, asked)[0]
            received = f", {progress['here']} of {progress['wanted']} rows here" if progress["wanted"] else ""
            status.update(f"join {bundle}: {words}{received}{trouble}")
            if time.monotonic() >= deadline:
                raise _overdue(database, bundle, timeout, trouble)
            if time.monotonic() >= patience and not progress["wanted"]:
                patience = deadline
                tell(f"note: still {words}{trouble}; Ctrl-C leaves it to the worker")
            time.sleep(_LOOK_SECONDS)


def _failure(event: Row) -> StoreError:
    return StoreError(
        f"The bundle {event['bundle']} was not joined: {event['detail'] or event['code']}",
        remedy=event["hint"] or "Ask for a new invite.",
        code=event["code"] or "join_failed",
    )


def _overdue(database: Database, bundle: str, timeout: float, trouble: str) -> StoreError:
    problems = [f"{row['detail']} {row['remedy']}" for row in database.rows("SELECT * FROM peer.problem")]
    if not problems and not database.value(WORKER_RUNS):
        problems = ["No worker runs for this database: start one with 'pgpeer worker'."]
    return StoreError(
        f"The bundle {bundle} is not joined after {timeout:g} s; the worker goes on trying{trouble}.",
        remedy=" ".join(problems) or "Check that the inviter's worker runs; peer.event tells how it goes on.",
        code="timeout",
        retryable=True,
    )


def _tell_result(document: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_lines([sentence])
