"""`pgpeer join`: follows an invite."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from pgpeer.cli.database import Database, open_database
from pgpeer.cli.invite import WORKER_RUNS
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import Row, console, print_json, print_lines, tell
from pgpeer.errors import StoreError

_LOOK_SECONDS: Final = 0.25
_EVENTS: Final = """
    SELECT e.* FROM peer.event AS e
     WHERE e.id > %(after)s AND (e.bundle = %(bundle)s OR e.kind = 'connected') ORDER BY e.id
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
        query = """SELECT j.bundle_id, j.bundle_name FROM peer_internal.join_request AS j
                    WHERE j.request_id = %(join)s"""
        asked = database.rows(query, request)[0]
        if not database.value(WORKER_RUNS):
            tell("note: no worker runs for this database; the request waits for one: pgpeer worker")
        if not wait:
            _tell_result(request, f"Asked to join {asked['bundle_name']}.", as_json)
            return
        seconds = time.monotonic()
        event = _wait_for_end(database, asked, last_event, timeout)
        seconds = time.monotonic() - seconds
    _tell_result(request | event, f"Joined {asked['bundle_name']} in {seconds:.1f} s.", as_json)


def _wait_for_end(database: Database, asked: Row, after: int, timeout: float) -> Row:
    """Follows the events of one request until it is done.

    Raises:
        StoreError: it failed, or the time is over; in that case the worker goes on trying.
    """
    deadline = time.monotonic() + timeout
    bundle = asked["bundle_name"]
    words = "asked; looking for the inviter"
    with console(sys.stderr).status(f"join {bundle}: {words}") as status:
        while True:
            for event in database.rows(_EVENTS, {"after": after, "bundle": bundle}):
                after = event["id"]
                match event["kind"]:
                    case "joined":
                        return event
                    case "join-failed":
                        raise _failure(event)
                    case "connected":
                        words = "connected"
                    case "join-accepted":
                        words = "accepted"
            progress = database.rows(_PROGRESS, asked)[0]
            received = f", {progress['here']} of {progress['wanted']} rows here" if progress["wanted"] else ""
            status.update(f"join {bundle}: {words}{received}")
            if time.monotonic() >= deadline:
                raise _overdue(database, bundle, timeout)
            time.sleep(_LOOK_SECONDS)


def _failure(event: Row) -> StoreError:
    return StoreError(
        f"The bundle {event['bundle']} was not joined: {event['detail'] or event['code']}",
        remedy=event["hint"] or "Ask for a new invite.",
        code=event["code"] or "join_failed",
    )


def _overdue(database: Database, bundle: str, timeout: float) -> StoreError:
    problems = [f"{row['detail']} {row['remedy']}" for row in database.rows("SELECT * FROM peer.problem")]
    if not problems and not database.value(WORKER_RUNS):
        problems = ["No worker runs for this database: start one with 'pgpeer worker'."]
    return StoreError(
        f"The bundle {bundle} is not joined after {timeout:g} s; the worker goes on trying.",
        remedy=" ".join(problems) or "Check that the inviter's worker runs; peer.event tells how it goes on.",
        code="timeout",
        retryable=True,
    )


def _tell_result(document: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_lines([sentence])
