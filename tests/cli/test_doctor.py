"""`pgpeer doctor` at real hubs, STUN and TURN servers: good ones, dead ones, wrong ones and silent ones."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import psycopg
import pytest
from cli.conftest import Run
from cli.neighbours import (
    SECRET,
    coturn,
    enter,
    examine,
    free_port,
    hub,
    hub_behind_a_proxy,
    is_free,
    stun_server,
)
from fixtures.databases import Database

from pgpeer.cli.checks.thread import in_thread

__all__ = ["coturn"]


def test_what_is_well_is_said_and_costs_no_failure(
    run: Run, bare: str, coturn: str, tmp_path: Path, state_directory: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with hub("--turn-url", coturn, "--turn-secret-file", str(secret)) as url, stun_server() as stun_url:
        assert run("init", "--dsn", bare, "--hub", url).code == 0
        with psycopg.connect(bare, autocommit=True) as connection:
            connection.execute("INSERT INTO peer.stun_server (url) VALUES (%s)", [stun_url])
        outcome = run("doctor", "--dsn", bare, "--json")
        people = run("doctor", "--dsn", bare)
    assert outcome.code == 0, outcome.out
    found = {(one["check"], one["kind"]): one for one in outcome.json}
    assert {one["check"] for one in outcome.json if one["state"] != "ok"} == {"worker"}
    assert "namespaces, mailbox, relay circuits, TURN" in found["hub", "hub"]["detail"]
    assert 0 < found["first_byte", "first_byte"]["milliseconds"] < 4000
    assert sum(one["check"] == "clock" for one in outcome.json) == 2  # the server's and the hub's
    assert sum(one["check"] == "stun" for one in outcome.json) == 2  # a TURN server is a STUN server too
    assert found["nat", "nat"]["detail"].startswith("No NAT")
    assert re.search(r"relays at 127\.0\.0\.1:\d+", found["turn", "turn"]["detail"])
    assert found["turn", "turn"]["milliseconds"] > 0
    assert people.code == 0
    assert re.search(r"^ok   turn +The TURN server .* \(\d+\.\d ms\)$", people.out, re.MULTILINE)
    assert (
        "warn worker     No worker runs: nothing is exchanged.\n                Start one: pgpeer worker\n"
        in people.out
    )


def test_a_secret_that_the_turn_server_does_not_know_is_named(
    run: Run, database: Database, coturn: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("south wind")
    with hub("--turn-url", coturn, "--turn-secret-file", str(secret)) as url:
        enter(database, "hub", url=url)
        enter(database, "stun_server", url=coturn, username="me", credential="wrong")
        enter(database, "stun_server", url=coturn + "?transport=tcp")
        own, nameless, of_hub = examine(run, database)["turn"]
    assert [one["kind"] for one in (own, nameless, of_hub)] == ["turn_credentials"] * 3
    assert "refuses the name 'me' with this password" in own["detail"]
    assert "wants a name and a password" in nameless["detail"]
    assert "that the hub has just made" in of_hub["detail"]
    assert "--turn-secret-file" in of_hub["remedy"]


def test_the_allocation_of_the_check_is_given_back(
    run: Run, database: Database, coturn: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with hub("--turn-url", coturn, "--turn-secret-file", str(secret)) as url:
        enter(database, "hub", url=url)
        began = time.monotonic()
        (found,) = examine(run, database)["turn"]
        seconds = time.monotonic() - began
    assert found["state"] == "ok"
    address = re.search(r"127\.0\.0\.1:(\d+)\.$", found["detail"])
    assert address is not None
    assert seconds < 4
    deadline = time.monotonic() + 10  # one that is not given back stands for ten minutes
    while not is_free(int(address[1])):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_dead_and_silent_servers_are_named_and_hold_nobody_up(run: Run, database: Database) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        socket.socket() as mute,
        stun_server() as good,
    ):
        silent.bind(("127.0.0.1", 0))
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = silent.getsockname()[1]
        enter(database, "hub", url=f"ws://127.0.0.1:{mute.getsockname()[1]}")
        enter(database, "hub", url=f"ws://127.0.0.1:{free_port(socket.SOCK_STREAM)}")
        enter(database, "hub", url="wss://no-such.invalid")
        enter(database, "stun_server", url=good)
        enter(database, "stun_server", url=f"stun:127.0.0.1:{port}")
        enter(database, "stun_server", url="stun:no-such.invalid")
        enter(database, "stun_server", url="stun:::")
        enter(database, "stun_server", url=f"turn:127.0.0.1:{port}", username="me", credential="x")
        enter(
            database,
            "stun_server",
            url=f"turns:127.0.0.1:{free_port(socket.SOCK_STREAM)}",
            username="me",
            credential="x",
        )
        enter(database, "stun_server", url="turn:::", username="me", credential="x")
        began = time.monotonic()
        found = examine(run, database)
        seconds = time.monotonic() - began
    assert seconds < 12
    assert [one["kind"] for one in found["hub"]] == ["hub_unreachable"] * 3
    assert "no answer within 4 s" in found["hub"][0]["detail"]
    assert "Connection refused" in found["hub"][1]["detail"]
    assert "no-such.invalid has no address" in found["hub"][2]["detail"]
    assert [one["kind"] for one in found["stun"]] == [
        "stun_unreachable",
        "stun_url",
        "stun",
        "stun_unreachable",
    ]
    assert found["nat"][0]["state"] == "ok"
    assert sorted(one["kind"] for one in found["turn"]) == [
        "turn_unreachable",
        "turn_unreachable",
        "turn_url",
    ]
    assert "first_byte" not in found


def test_blocked_udp_is_called_so(run: Run, database: Database) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as blocked:
        blocked.bind(("127.0.0.1", 0))
        enter(database, "stun_server", url=f"stun:127.0.0.1:{blocked.getsockname()[1]}")
        (nat,) = examine(run, database)["nat"]
    assert (nat["state"], nat["kind"]) == ("warn", "udp_blocked")


def test_without_hub_and_servers_it_says_what_that_means(run: Run, database: Database) -> None:
    found = examine(run, database)
    assert found["hub"][0]["kind"] == "no_hub"
    assert "reached through the hub" in found["nat"][0]["detail"]
    assert "relay takes its place" in found["turn"][0]["detail"]
    assert found["server"][0]["state"] == found["rights"][0]["state"] == found["clock"][0]["state"] == "ok"
    assert found["identity"][0]["kind"] == "identity_file"


@pytest.mark.parametrize(("ahead", "state"), [(-30, "warn"), (3600, "fail")])
def test_a_hub_with_a_wrong_clock_is_named(run: Run, database: Database, ahead: float, state: str) -> None:
    with hub_behind_a_proxy(ahead) as url:
        enter(database, "hub", url=url)
        found = examine(run, database)
    assert found["hub"][0]["state"] == "ok"
    (clock,) = (one for one in found["clock"] if "the hub" in one["detail"])
    assert clock["state"] == state
    seconds = re.search(r"is (\d+) s (ahead of|behind)", clock["detail"])
    assert seconds is not None
    assert abs(int(seconds[1]) - abs(ahead)) <= 2
    assert seconds[2] == ("ahead of" if ahead > 0 else "behind")


def test_a_hub_that_does_not_know_its_public_name_refuses(run: Run, database: Database) -> None:
    with hub_behind_a_proxy(0, is_told=False) as url:
        enter(database, "hub", url=url)
        (found,) = examine(run, database)["hub"]
    assert (found["state"], found["kind"]) == ("fail", "identity_mismatch")
    assert "which is not this hub" in found["detail"]
    assert "--public-name" in found["remedy"]


def test_a_lock_on_a_table_of_pgpeer_does_not_hold_doctor_up(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpeer.cli.checks._STATEMENT_SECONDS", 0.5)
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE peer.hub, peer_internal.member")
        began = time.monotonic()
        found = examine(run, database)
        assert time.monotonic() - began < 10
    assert "statement timeout" in found["network"][0]["detail"]
    assert "lock" in found["network"][0]["remedy"]
    assert "statement timeout" in found["path"][0]["detail"]


def test_doctor_of_an_unreachable_database_fails_with_one_finding(run: Run) -> None:
    outcome = run("doctor", "--dsn", "postgresql://127.0.0.1:1/x", "--json")
    assert outcome.code == 1
    assert [(one["check"], one["state"], one["kind"]) for one in outcome.json] == [
        ("server", "fail", "unreachable")
    ]


async def test_a_call_that_hangs_is_given_up_in_time() -> None:
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await in_thread(release.wait, 0.1)
    assert time.monotonic() - began < 2
    release.set()
    assert await in_thread(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, 5)
