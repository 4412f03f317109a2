"""Whole workers at a hostile hub: nothing leaks, errors are typed, and an honest hub beside it is enough."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, Program, wait_until_equal

from pgpeer.errors import CODES, PHASES

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]
Begin = Callable[[str], Program]

SECRET = "what only members may read"
PROGRAM = str(Path(__file__).parent / "hub_program.py")
FAILED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connect-failed')"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """A function that starts a hostile hub."""
    begun: list[Program] = []

    def start(how: str) -> Program:
        begun.append(Program(tmp_path / f"hostile-{how}.log", PROGRAM, how, SECRET))
        begun[-1].ready()
        return begun[-1]

    yield start
    for program in begun:
        program.end(signal.SIGKILL)


def prefer(peer: Peer, url: str, *, only: bool = False) -> None:
    """Use this hub before all others, or no other at all."""
    if only:
        peer.run("UPDATE peer.config SET hub_id = NULL")
        peer.run("DELETE FROM peer.hub")
    peer.run("INSERT INTO peer.hub (name, url) VALUES ('hostile', %s)", url)
    peer.run("UPDATE peer.config SET hub_id = (SELECT id FROM peer.hub WHERE name = 'hostile')")


def assert_typed(peer: Peer) -> None:
    for phase, code, retryable in peer.run(
        "SELECT phase, code, retryable FROM peer.event WHERE kind IN ('connect-failed', 'peer-failed')"
    ):
        assert phase in PHASES
        assert code in CODES
        assert retryable is not None


@pytest.mark.parametrize("how", ["swap", "drop", "lie", "repeat", "crowd", "deny"])
def test_with_an_honest_hub_beside_it_peers_connect_all_the_same(
    how: str, atlas: Make, make_peer: Make, begin: Begin
) -> None:
    hostile = begin(how)
    ann, bob = atlas(), make_peer("bob")
    ann.run("UPDATE public.city SET name = %s WHERE id = 1", SECRET)
    for one in (ann, bob):
        prefer(one, hostile.ready())
    bob.start()
    bob.join(ann)
    wait_until_equal(ann, bob)
    bob.run("UPDATE public.city SET name = 'and back' WHERE id = 2")
    ann.wait_until("SELECT name = 'and back' FROM public.city WHERE id = 2")
    for one in (ann, bob):
        assert_typed(one)
    assert "LEAK" not in hostile.log.read_text()


def test_a_hub_that_stands_between_lets_nothing_through_and_its_peers_say_why(
    atlas: Make, make_peer: Make, begin: Begin
) -> None:
    hostile = begin("swap")
    ann, bob = atlas(), make_peer("bob")
    ann.run("UPDATE public.city SET name = %s WHERE id = 1", SECRET)
    for one in (ann, bob):
        prefer(one, hostile.ready(), only=True)
    bob.start()
    bob.run("SELECT peer.join(%s)", ann.value("SELECT peer.invite('atlas')"))
    hostile.wait_for_log("stood between")
    bob.wait_until(FAILED)
    time.sleep(3)
    assert_typed(bob)
    codes = {code for (code,) in bob.run("SELECT code FROM peer.event WHERE kind = 'connect-failed'")}
    assert codes <= {"bad_signature", "identity_mismatch", "timeout"}
    assert codes & {"bad_signature", "identity_mismatch"}
    assert bob.value("SELECT to_regclass('public.city')") is None
    assert not bob.value("SELECT EXISTS (SELECT FROM peer.connection)")
    assert "LEAK" not in hostile.log.read_text()
    assert ann.worker is not None
    assert ann.worker.process.poll() is None


def test_a_hub_that_refuses_in_a_peers_name_ends_no_connection_of_a_program(
    make_peer: Make, begin: Begin
) -> None:
    hostile = begin("deny")
    ann, bob = make_peer("ann"), make_peer("bob")
    honest = ann.value("SELECT url FROM peer.hub")
    for one in (ann, bob):
        prefer(one, hostile.ready(), only=True)
        one.run("UPDATE peer.config SET accept = 'open', connection_timeout = '60 s'")
        one.start()
    connection_id = ann.value("SELECT peer.connect(%s)", bob.peer_id)
    ann.run("SELECT peer.send(%s, 'all the same')", connection_id)
    ann.wait_until(f"{FAILED[:-1]} AND code = 'relay_refused' AND retryable)")
    hostile.wait_for_log("asked signal")
    time.sleep(3)
    codes = {code for (code,) in ann.run("SELECT code FROM peer.event WHERE kind = 'connect-failed'")}
    assert not codes & {"refused_policy", "refused_blocked"}
    assert not ann.value("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed')")
    for one in (ann, bob):
        one.run("INSERT INTO peer.hub (name, url) VALUES ('honest', %s)", honest)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.message WHERE data = 'all the same')")
    # and what bob says itself is believed: the words are signed
    bob.run("SELECT peer.block(%s)", ann.peer_id)
    ann.wait_until(f"{FAILED[:-1]} AND code = 'refused_blocked')")


def test_a_hub_where_peers_seem_to_come_and_go_makes_no_worker_busy(
    atlas: Make, make_peer: Make, begin: Begin
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    bob.end()
    hostile = begin("flap")
    prefer(ann, hostile.ready(), only=True)
    hostile.wait_for_log("asked")
    before = hostile.log.read_text().count("asked")
    began = time.monotonic()
    time.sleep(10)
    tries = hostile.log.read_text().count("asked") - before
    per_second = tries / (time.monotonic() - began)
    print(f"{tries} tries in ten seconds")
    assert per_second < 1.0
    assert ann.value("SELECT count(*) < 50 FROM peer.event WHERE kind = 'connect-failed'")
