"""Real workers with databases of their own behind real NATs: bundles arrive whatever the network does."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Database
from lab import PUBLIC, Lab, Program, Side
from system.processes import Peer, wait_until_equal

Build = Callable[..., Lab]

PATH = "SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND path = %s)"


class Household:
    """A laboratory with a hub, and a database with its worker on each side."""

    def __init__(self, lab: Lab, make_database: Callable[..., Database], folder: Path) -> None:
        self.lab = lab
        self.peers: dict[Side, Peer] = {
            "a": Peer(make_database("ann"), folder, lab.hub_url),
            "b": Peer(make_database("bob"), folder, lab.hub_url),
        }
        for peer in self.peers.values():
            peer.run("INSERT INTO peer.stun_server (url) VALUES (%s)", f"stun:{PUBLIC}:3478")
        ann = self.peers["a"]
        ann.run("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL, population bigint)")
        ann.run("INSERT INTO public.city SELECT n, 'city ' || n, n FROM generate_series(1, 500) AS n")
        ann.run("SELECT peer.create_bundle('atlas')")
        ann.run("SELECT peer.track('atlas', 'public.city')")

    def start(self, side: Side) -> Program:
        peer = self.peers[side]
        worker = self.lab.run(
            f"host-{side}", "lab_worker.py", dsn=peer.database.dsn, identity=str(peer.identity)
        )
        peer.log = worker.log  # which a wait that failed shows
        worker.hear("ready", 30)
        return worker

    def doctor(self, side: Side) -> dict[str, list[dict[str, str]]]:
        """What `pgpeer doctor` finds on a host, by the name of the check."""
        peer = self.peers[side]
        words = ("doctor", "--json", "--dsn", peer.database.dsn, "--identity", str(peer.identity))
        done = self.lab.call(f"host-{side}", sys.executable, "-m", "pgpeer.cli", *words)
        found: dict[str, list[dict[str, str]]] = {}
        for finding in json.loads(done.stdout):
            found.setdefault(finding["check"], []).append(finding)
        is_bad = any(one["state"] == "fail" for findings in found.values() for one in findings)
        assert done.returncode == (1 if is_bad else 0), done.stderr
        return found

    def wait_for_path(self, path: str, seconds: float = 90.0) -> None:
        for peer in self.peers.values():
            peer.wait_until(PATH, path, seconds=seconds)


class Writer:
    """Counts cities up, each in a transaction of its own, until it is stopped."""

    def __init__(self, peer: Peer, first: int) -> None:
        self.count = 0
        self._peer = peer
        self._first = first
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        with psycopg.connect(self._peer.database.dsn, autocommit=True) as connection:
            while not self._stopped.wait(0.05):
                connection.execute(
                    "UPDATE public.city SET population = population + 1 WHERE id = %s",
                    [self._first + self.count % 50],
                )
                self.count += 1

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join(30)
        return self.count


@pytest.fixture
def household(
    build: Build, make_database: Callable[..., Database], tmp_path: Path
) -> Callable[[Lab], Household]:
    return lambda lab: Household(lab, make_database, tmp_path)


def total(peer: Peer) -> int:
    return int(peer.value("SELECT sum(population - id)::int FROM public.city"))


def test_workers_exchange_over_the_relay_and_go_over_to_webrtc_when_udp_is_let_through(
    build: Build, household: Callable[[Lab], Household]
) -> None:
    lab = build("cone")
    lab.block_udp("a")
    hub = lab.start_hub()
    house = household(lab)
    ann, bob = house.peers["a"], house.peers["b"]
    for side in house.peers:
        house.start(side)
    bob.join(ann)
    assert {peer.value("SELECT path FROM peer.connection") for peer in (ann, bob)} == {"relay"}
    writers = [Writer(ann, 1), Writer(bob, 251)]
    try:
        lab.unblock_udp("a")
        house.wait_for_path("webrtc")
        hub.kill()
        time.sleep(3)
    finally:
        written = sum(writer.stop() for writer in writers)
    wait_until_equal(ann, bob)
    assert total(ann) == written > 50
    for peer in (ann, bob):
        assert peer.value("SELECT path FROM peer.connection") == "webrtc"
        assert peer.value("SELECT count(*) FROM peer.event WHERE kind = 'connected'") == 1
        assert (
            peer.value("SELECT count(*) FROM peer.event WHERE kind IN ('disconnected', 'peer-failed')") == 0
        )


@pytest.mark.usefixtures("full")
def test_workers_behind_symmetric_nats_exchange_over_the_relay(
    build: Build, household: Callable[[Lab], Household]
) -> None:
    lab = build("symmetric")
    lab.start_hub()
    house = household(lab)
    ann, bob = house.peers["a"], house.peers["b"]
    for side in house.peers:
        house.start(side)
    bob.join(ann)
    writers = [Writer(ann, 1), Writer(bob, 251)]
    time.sleep(25)  # longer than WebRTC takes to fail
    written = sum(writer.stop() for writer in writers)
    wait_until_equal(ann, bob)
    assert total(bob) == written
    for peer in (ann, bob):
        assert peer.value("SELECT path FROM peer.connection") == "relay"
        assert peer.value("SELECT count(*) FROM peer.problem") == 0


@pytest.mark.usefixtures("full")
def test_workers_fall_back_when_udp_is_blocked_in_use_and_move_with_their_host(
    build: Build, household: Callable[[Lab], Household]
) -> None:
    lab = build("cone")
    lab.start_hub()
    house = household(lab)
    ann, bob = house.peers["a"], house.peers["b"]
    for side in house.peers:
        house.start(side)
    bob.join(ann)
    house.wait_for_path("webrtc")
    writers = [Writer(ann, 1), Writer(bob, 251)]
    try:
        lab.block_udp("b")
        house.wait_for_path("relay")
        lab.unblock_udp("b")
        house.wait_for_path("webrtc", 150)
        lab.move("a")
        time.sleep(10)
    finally:
        written = sum(writer.stop() for writer in writers)
    wait_until_equal(ann, bob)
    house.wait_for_path("webrtc", 150)
    assert total(ann) == written


@pytest.mark.usefixtures("full")
@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed")
def test_workers_behind_symmetric_nats_use_the_turn_server_that_their_hub_gives_them(
    build: Build, household: Callable[[Lab], Household]
) -> None:
    lab = build("symmetric")
    log = lab.start_turn("what the hub and coturn share")
    lab.start_hub(stun=False, relay=False, turn_secret="what the hub and coturn share")
    house = household(lab)
    ann, bob = house.peers["a"], house.peers["b"]
    for side in house.peers:
        house.start(side)
    bob.join(ann)
    house.wait_for_path("webrtc", 5)
    for peer in (ann, bob):
        local, remote = peer.run("SELECT local_candidate, remote_candidate FROM peer.connection")[0]
        assert "relay" in (local.split()[0], remote.split()[0])
        assert peer.value("SELECT count(*) FROM peer.event WHERE kind = 'path-changed'") == 0
        assert peer.value("SELECT count(*) FROM peer.stun_server WHERE url LIKE 'turn%%'") == 0
        # coturn names who makes allocations: each worker by the name that the hub has made for it
        assert f":{peer.peer_id}>: incoming packet ALLOCATE processed, success" in log.read_text()
    writers = [Writer(ann, 1), Writer(bob, 251)]
    time.sleep(5)
    written = sum(writer.stop() for writer in writers)
    wait_until_equal(ann, bob)
    assert total(bob) == written
    found = house.doctor("b")
    assert [one["state"] for one in found["turn"]] == ["ok"]
    assert "of the hub relays at" in found["turn"][0]["detail"]
    assert "webrtc over a TURN server" in found["path"][0]["detail"]


@pytest.mark.usefixtures("full")
def test_doctor_names_the_nat_and_says_where_udp_is_blocked(
    build: Build, household: Callable[[Lab], Household]
) -> None:
    for nat in ("cone", "symmetric"):
        lab = build(nat)
        lab.start_hub()
        house = household(lab)
        peer = house.peers["a"]
        peer.run("INSERT INTO peer.stun_server (url) VALUES (%s)", f"stun:{PUBLIC}:3479")
        found = house.doctor("a")
        assert [one["state"] for one in found["hub"]] == ["ok"]
        assert [one["state"] for one in found["stun"]] == ["ok", "ok"]
        assert all("198.51.100.11:" in one["detail"] for one in found["stun"])
        (kind,) = found["nat"]
        assert (kind["state"], kind["kind"]) == {
            "cone": ("ok", "nat"),
            "symmetric": ("warn", "nat_symmetric"),
        }[nat]
        assert {"cone": "one public port", "symmetric": "TURN"}[nat] in kind["detail"]
        lab.block_udp("a")
        found = house.doctor("a")
        assert [one["state"] for one in found["hub"]] == ["ok"], "the hub is reached by TCP"
        assert [one["kind"] for one in found["stun"]] == ["stun_unreachable"] * 2
        assert found["nat"][0]["kind"] == "udp_blocked"
        assert "UDP is blocked" in found["nat"][0]["detail"]
        assert "Let UDP out" in found["nat"][0]["remedy"]
        lab.close()
