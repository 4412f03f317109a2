"""Invites, joining and looking at peers, by command; the worker's part is tested elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest
from cli.conftest import Outcome, Run, start
from fixtures.databases import Database

from pgpeer.identity.invite import parse_invite

Make = Callable[..., Database]


@pytest.fixture
def invite(run: Run, cities: Database) -> str:
    cities.connect().execute("INSERT INTO peer.hub (url) VALUES ('ws://127.0.0.1:9')")
    outcome = run(
        "invite", "atlas", "--role", "reader", "--expires", "1 hour", "--uses", "3", "--dsn", cities.dsn
    )
    assert outcome.code == 0
    assert "no worker runs" in outcome.err
    return outcome.out.strip()


def test_an_invite_is_a_link_that_says_what_was_asked_for(cities: Database, invite: str) -> None:
    parsed = parse_invite(invite)
    assert (parsed.bundle_name, parsed.role, parsed.inviter) == ("atlas", "reader", cities.peer_id)


def test_an_invite_without_a_hub_is_refused(run: Run, cities: Database) -> None:
    refused = run("invite", "--dsn", cities.dsn)
    assert refused.code == 1
    assert "no hub is set" in refused.err


def test_join_leaves_a_request_for_the_worker(run: Run, make_database: Make, invite: str) -> None:
    other = make_database("tokyo")
    outcome = run("join", invite, "--no-wait", "--dsn", other.dsn, "--json")
    assert list(outcome.json) == ["join"]
    assert "no worker runs" in outcome.err
    row = other.connect().execute("SELECT state, bundle_name FROM peer_internal.join_request").fetchone()
    assert row == ("requested", "atlas")


def test_join_that_takes_too_long_says_why_and_fails(run: Run, make_database: Make, invite: str) -> None:
    outcome = run("join", invite, "--timeout", "0.3", "--dsn", make_database("tokyo").dsn)
    assert outcome.code == 1
    assert "is not joined after 0.3 s" in outcome.err
    assert "pgpeer worker" in outcome.err


@pytest.mark.parametrize("kind", ["joined", "join-failed"])
def test_join_waits_for_the_event_that_ends_it(run: Run, make_database: Make, invite: str, kind: str) -> None:
    other = make_database("tokyo")
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(run("join", invite, "--timeout", "20", "--dsn", other.dsn))
    )
    thread.start()
    connection = other.connect()
    while connection.execute("SELECT FROM peer_internal.join_request").fetchone() is None:
        thread.join(0.05)
    query = "SELECT peer_internal.announce(%s, NULL, 'atlas', NULL, 'sync', 'used_invite', false, 'It was used.', 'Ask.')"
    connection.execute(query, [kind])
    thread.join(20)
    (outcome,) = outcomes
    if kind == "joined":
        assert outcome.code == 0
        assert outcome.out.startswith("Joined atlas in ")
    else:
        assert outcome.code == 1
        assert "The bundle atlas was not joined: It was used." in outcome.err
        assert "remedy: Ask." in outcome.err


def test_join_tells_why_the_inviter_was_not_reached(
    run: Run, make_database: Make, cities: Database, invite: str
) -> None:
    other = make_database("tokyo")
    process = start("join", invite, "--timeout", "6", "--dsn", other.dsn)
    connection = other.connect()
    while connection.execute("SELECT FROM peer_internal.join_request").fetchone() is None:
        assert process.poll() is None
        time.sleep(0.05)
    connection.execute(
        "SELECT peer_internal.announce('connect-failed', %s, NULL, NULL, 'ice', 'timeout', true, 'No way through.', 'Wait.')",
        [cities.peer_id],
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the last attempt to connect failed: No way through.\n" in err


def test_ctrl_c_leaves_a_join_to_the_worker_and_says_so(make_database: Make, invite: str) -> None:
    other = make_database("tokyo")
    process = start("join", invite, "--dsn", other.dsn)
    assert process.stderr is not None
    assert "no worker runs" in process.stderr.readline()  # it begins to wait now
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the request stays with the worker" in err
    assert "Traceback" not in err
    assert other.connect().execute("SELECT state FROM peer_internal.join_request").fetchone() == (
        "requested",
    )


@pytest.mark.parametrize("link", ["", "hello", "pgpeer://join/1/", "pgpeer://join/1/e30"])
def test_a_malformed_invite_is_refused(run: Run, database: Database, link: str) -> None:
    outcome = run("join", link, "--dsn", database.dsn)
    assert outcome.code == 1
    assert "not a whole pgpeer invite" in outcome.err
