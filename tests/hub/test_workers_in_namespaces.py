"""Workers are listed in the namespaces of their bundles while they run, and find each other there (rows E7, E8)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from system.conftest import atlas, make_peer
from system.processes import Peer, Program, wait_until
from system.test_known_peers import free_port
from system.test_paths import wait_for_path, write

from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.membership import Space
from pgpeer.signaling.record import Registration, read_registration
from pgpeer.worker.registrations import LEASE_SECONDS

__all__ = ["atlas", "make_peer"]

Make = Callable[..., Peer]

HERE = Path(__file__).parent
SECONDS = 5.0
LINKED = "SELECT count(*) = %s FROM peer.connection WHERE state = 'open'"
ONLINE = "SELECT EXISTS (SELECT FROM peer_internal.presence WHERE peer_id = %s)"


@pytest.fixture
def lease() -> list[str]:
    """Arguments of the hub."""
    return []


@pytest.fixture
def hub(hub_dsn: str, tmp_path: Path, lease: list[str]) -> Iterator[Program]:
    """A hub whose state can be looked at."""
    program = Program(tmp_path / "hub.log", str(HERE / "hub_process.py"), hub_dsn, *lease)
    program.ready()
    yield program
    program.end(signal.SIGKILL)


class State:
    """What a hub keeps in its database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def run(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            return connection.execute(query.encode(), arguments or None).fetchall()

    def listed(self) -> set[str]:
        """Who is listed anywhere."""
        return {peer_id for (peer_id,) in self.run("SELECT DISTINCT peer_id FROM hub.registration")}

    def wait(self, *peers: Peer, seconds: float = 30.0) -> float:
        """Wait until exactly these peers are listed; give how long it took."""
        began = time.monotonic()
        wanted = {peer.peer_id for peer in peers}
        wait_until(lambda: self.listed() == wanted, f"{len(wanted)} are listed", seconds)
        return time.monotonic() - began


@pytest.fixture
def state(hub: Program, hub_dsn: str) -> State:
    return State(hub_dsn)


def told(peer: Peer, what: str, other: Peer) -> int:
    """How often a worker's log says that another one came, or went."""
    lines = [line for line in peer.log.read_text().splitlines() if '"members listed"' in line]
    return sum(other.peer_id in json.loads(line)[what] for line in lines)


def wait_for_word(peer: Peer, what: str, other: Peer, count: int = 1, seconds: float = 30.0) -> None:
    wait_until(lambda: told(peer, what, other) >= count, f"{what} is told {count} times", seconds, peer.log)


def three(atlas: Make, make_peer: Make) -> tuple[Peer, Peer, Peer]:
    """Three members of one bundle, whose workers run."""
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    for peer in (bob, cid):
        peer.start()
        peer.join(ann)
    return ann, bob, cid


def test_e7_members_are_listed_while_they_run_and_gone_within_five_seconds_when_they_end_or_leave(
    atlas: Make, make_peer: Make, state: State
) -> None:
    ann, bob, cid = three(atlas, make_peer)
    state.wait(ann, bob, cid)
    (bundle_id,) = ann.run("SELECT bundle_id FROM peer_internal.bundle")[0]
    space = Space(UUID(str(bundle_id)).bytes)
    rows = state.run("SELECT namespace, record, expires_at - clock_timestamp() FROM hub.registration")
    assert {namespace for namespace, _, _ in rows} == {space.name}
    assert all(0 < left.total_seconds() <= LEASE_SECONDS for _, _, left in rows)
    assert all(str(bundle_id).encode() not in bytes(record) for _, record, _ in rows)
    for one, other in ((ann, bob), (ann, cid), (bob, ann), (bob, cid), (cid, ann), (cid, bob)):
        wait_for_word(one, "came", other)
    # one ends
    began = time.monotonic()
    cid.end()
    state.wait(ann, bob, seconds=SECONDS)
    for one in (ann, bob):
        wait_for_word(one, "went", cid, seconds=began + SECONDS - time.monotonic())
    # one leaves
    began = time.monotonic()
    bob.run("SELECT peer.remove_member('atlas', %s)", bob.peer_id)
    state.wait(ann, seconds=SECONDS)
    wait_for_word(ann, "went", bob, seconds=began + SECONDS - time.monotonic())
    # one comes back
    began = time.monotonic()
    cid.start()
    state.wait(ann, cid)
    wait_for_word(ann, "came", cid, 2)
    # one does not use this hub any more
    ann.run("UPDATE peer.config SET hub_id = NULL")
    ann.run("DELETE FROM peer.hub")
    state.wait(cid, seconds=SECONDS)


def test_e7_a_bundle_that_is_made_while_the_worker_runs_is_registered(
    atlas: Make, make_peer: Make, state: State
) -> None:
    ann = atlas()
    state.wait(ann)
    for number in range(3):
        ann.run("SELECT peer.create_bundle(%s)", f"more {number}")
    wait_until(
        lambda: state.run("SELECT count(DISTINCT namespace) FROM hub.registration") == [(4,)],
        "four namespaces",
        SECONDS,
        ann.log,
    )
    ann.end()
    assert state.listed() == set(), "all of it was taken back before the worker ended"


@pytest.mark.parametrize("lease", [["4"]])
def test_e7_who_was_killed_is_gone_when_its_lease_has_run_out_and_who_lives_stays(
    atlas: Make, make_peer: Make, state: State
) -> None:
    ann, bob, cid = three(atlas, make_peer)
    state.wait(ann, bob, cid)
    for one in (ann, cid):
        wait_for_word(one, "came", bob)
    bob.end(signal.SIGKILL)
    assert bob.peer_id in state.listed()
    took = state.wait(ann, cid)
    assert took < 4 + 5 + 5, "the lease, and the hub's look every five seconds"
    for one in (ann, cid):
        wait_for_word(one, "went", bob, seconds=SECONDS)
    before = state.run("SELECT peer_id, record, position FROM hub.registration ORDER BY peer_id")
    time.sleep(9)  # two leases: renewed, and nobody was told
    assert state.run("SELECT peer_id, record, position FROM hub.registration ORDER BY peer_id") == before
    assert told(ann, "came", cid) == 1
    assert told(ann, "went", cid) == 0


def test_e7_who_comes_and_goes_is_known_although_nobodys_presence_is_watched(
    atlas: Make, make_peer: Make, state: State
) -> None:
    peers = three(atlas, make_peer)
    for peer in peers:
        peer.end()
        peer.worker = Program(
            peer.log, str(HERE / "unwatching_worker.py"), peer.database.dsn, str(peer.identity)
        )
    for peer in peers:
        assert peer.worker is not None
        peer.worker.ready()
    for peer in peers:
        peer.wait_until(LINKED, 2)
    ann, bob, cid = peers
    for one in (ann, cid):
        one.wait_until(ONLINE, bob.peer_id)
    write(ann, bob, 1)
    began = time.monotonic()
    bob.end()
    for one in (ann, cid):
        one.wait_until(f"SELECT NOT ({ONLINE})", bob.peer_id, seconds=began + SECONDS - time.monotonic())


def test_a_member_that_moved_while_nobody_was_there_is_found_by_what_it_says_in_the_namespace(
    atlas: Make, make_peer: Make, hub: Program, state: State, tmp_path: Path
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    state.wait(ann, bob)
    bob.end()
    ann.end()
    assert ann.value("SELECT count(*) FROM peer.address WHERE peer_id = %s", bob.peer_id) == 0
    # from now on nothing leads anywhere but a known address: this hub has no relay, and datagrams vanish
    poor = Program(tmp_path / "poor.log", "hub_program.py", "0", "no-relay")
    try:
        for peer in (ann, bob):
            peer.run("UPDATE peer.hub SET url = %s", poor.ready())
        port = free_port()
        bob.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{port}")
        bob.start("no-udp")
        bob.wait_until("SELECT EXISTS (SELECT FROM peer_internal.own_record())")
        ann.start("no-udp")
        wait_for_path(ann, bob, "tls", 60)
        write(ann, bob, 1)
        (address,) = ann.run("SELECT address, source, told_by FROM peer.address")
        assert address == (f"tls://127.0.0.1:{port}", "record", bob.peer_id)
        # it moves once more, and ann, which runs on, hears where to
        bob.end()
        port = free_port()
        bob.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{port}")
        bob.start("no-udp")
        ann.wait_until(
            "SELECT EXISTS (SELECT FROM peer.address WHERE address = %s)", f"tls://127.0.0.1:{port}"
        )
        wait_for_path(ann, bob, "tls", 60)
        write(bob, ann, 2)
    finally:
        poor.end()


def test_e8_a_worker_finds_a_relay_connects_to_it_and_registers_with_it(
    atlas: Make, make_peer: Make, hub: Program, state: State
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    state.wait(ann, bob)
    wait_for_word(ann, "came", bob)
    trace = [json.loads(line) for line in bob.log.read_text().splitlines() if line.startswith("{")]
    steps = [
        one
        for one in trace
        if one["event"] in ("relay found", "hub connected", "registered") and "url" in one
    ]
    assert [one["event"] for one in steps[:3]] == ["hub connected", "relay found", "registered"]
    assert {one["url"] for one in steps} == {hub.ready()}
    assert steps[2]["relay"] == hub.ready()
    # signed, and readable for members only
    (bundle_id,) = ann.run("SELECT bundle_id FROM peer_internal.bundle")[0]
    space = Space(UUID(str(bundle_id)).bytes)
    ((record,),) = state.run("SELECT record FROM hub.registration WHERE peer_id = %s", bob.peer_id)
    assert hub.ready().encode() not in bytes(record)
    registration: Registration = read_registration(bytes(record), namespace=space.name, now=time.time())
    assert registration.peer_id == bob.peer_id
    assert space.read(registration).relay == hub.ready()
    # the others know where it leads, and it does
    came = [json.loads(line)["came"] for line in ann.log.read_text().splitlines() if "members listed" in line]
    assert {bob.peer_id: hub.ready()} in came
    assert bob.value(
        "SELECT detail LIKE 'relay %%' FROM peer.event WHERE kind = 'connected' ORDER BY id LIMIT 1"
    )


def test_more_peers_than_a_hub_lets_watch_do_not_end_a_worker(
    atlas: Make, make_peer: Make, state: State
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    ids = [PrivateKey.from_seed(number.to_bytes(32, "big")).peer_id for number in range(1100)]
    ann.run("UPDATE peer.config SET accept = 'friends'")
    ann.run("INSERT INTO peer.friend (peer_id, state) SELECT i, 'accepted' FROM unnest(%s::text[]) AS i", ids)
    worker = ann.start()
    state.wait(ann, bob)
    ann.wait_until(LINKED, 1)
    write(ann, bob, 1)
    assert worker.process.poll() is None
