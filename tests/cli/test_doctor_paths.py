"""What `pgpeer doctor` says about the path to each peer, and why it is that one."""

from __future__ import annotations

import socket

import pytest
from cli.conftest import Run
from cli.neighbours import enter, examine
from fixtures.databases import Database

from pgpeer.cli.checks.paths import Ways, why_relayed


def link(database: Database, label: str, path: str, seconds: float, *candidates: str) -> str:
    """A member with a link, as the worker lists it; its peer id."""
    connection = database.connect()
    key = label.encode().ljust(32, b".")
    bundle = connection.execute("SELECT peer_internal.bundle_id('atlas')").fetchone()
    assert bundle is not None
    connection.execute("SELECT peer_internal.add_member(%s, %s, 'writer', %s)", [bundle[0], key, label])
    if path:
        connection.execute(
            "INSERT INTO peer_internal.connection (connection_id, author_id, direction, path, engine, state, local_candidate, remote_candidate, rtt, since)"
            " VALUES (gen_random_uuid(), peer_internal.author_id(%s), 'outgoing', %s, 'x', 'open', %s, %s, '5 ms', clock_timestamp() - make_interval(secs => %s))",
            [key, path, *(candidates or (None, None)), seconds],
        )
    return label


def test_every_path_is_told_with_the_reason_for_it(run: Run, cities: Database) -> None:
    worker = cities.connect()
    assert worker.execute("SELECT peer_internal.try_worker_lock()").fetchone() == (True,)
    for label, path, seconds, *candidates in (
        ("a", "webrtc", 99, "host 10.0.0.1:1/udp", "host 10.0.0.2:2/udp"),
        ("b", "webrtc", 99, "host 10.0.0.1:1/udp", "prflx 192.0.2.2:2/udp"),
        ("c", "webrtc", 99, "relay 192.0.2.3:1/udp", "host 10.0.0.2:2/udp"),
        ("d", "tls", 99),
        ("e", "relay", 1),
        ("f", "relay", 99),
        ("g", "", 0),
    ):
        link(cities, label, path, seconds, *candidates)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as blocked:
        blocked.bind(("127.0.0.1", 0))
        enter(cities, "stun_server", url=f"stun:127.0.0.1:{blocked.getsockname()[1]}")
        found = examine(run, cities)
    told = {one["detail"].partition(" ")[0]: one for one in found["path"]}
    assert [(label, one["state"], one["kind"]) for label, one in sorted(told.items())] == [
        ("a", "ok", "path"),
        ("b", "ok", "path"),
        ("c", "ok", "path"),
        ("d", "ok", "path"),
        ("e", "ok", "path"),
        ("f", "warn", "relayed"),
        ("g", "warn", "not_linked"),
    ]
    for label, words in {
        "a": "each other's own addresses",
        "b": "the NATs in between let it through",
        "c": "over a TURN server",
        "d": "tls:",
        "e": "a better path may follow",
        "f": "(relay): UDP is blocked (STUN did not answer)",
        "g": "no hub answers",
    }.items():
        assert words in told[label]["detail"]
    assert told["a"]["milliseconds"] == told["f"]["milliseconds"] == 5.0


def test_without_a_worker_no_link_is_believed(run: Run, cities: Database) -> None:
    link(cities, "a", "webrtc", 99)
    (found,) = examine(run, cities)["path"]
    assert "no worker runs here" in found["detail"]


@pytest.mark.parametrize(
    ("ways", "reason"),
    [
        (Ways("blocked", False, "", True, True), "UDP is blocked (STUN did not answer)"),
        (Ways(None, False, "", True, True), "no STUN server is set"),
        (Ways(None, False, "turn credentials", True, True), "TURN fails (turn credentials)"),
        (Ways("symmetric", False, "", True, True), "symmetric and there is no TURN server"),
        (Ways("symmetric", False, "turn unreachable", True, True), "symmetric and TURN fails"),
        (Ways("symmetric", True, "", True, True), "on the way to that peer or on its side"),
        (Ways("endpoint_independent", False, "", True, True), "the other side's NAT is symmetric"),
        (Ways("none", True, "", True, True), "on the way to that peer or on its side"),
    ],
)
def test_what_the_network_checks_found_tells_why_a_link_is_relayed(ways: Ways, reason: str) -> None:
    told, remedy = why_relayed(ways)
    assert reason in told
    assert remedy
