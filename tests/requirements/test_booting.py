"""How a database comes into the network, and who may reach it there, with real workers and hubs.

Rows A1 and A2 (booted from an invite, by one statement), E6 (hubs that know nothing of each other), D7 (who may
come) and D8 (a hub is a row like any other).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, Program, wait_until_equal

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]

LINKED = "SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND peer_id = %s AND state = 'open')"
END = "SELECT reason, code FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s"
CLOSED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s)"
OPEN = "SELECT EXISTS (SELECT FROM peer.connection WHERE connection_id = %s AND state = 'open')"
FRIEND = "SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s AND state = 'accepted')"


@pytest.fixture
def second_hub(tmp_path: Path) -> Iterator[str]:
    program = Program(tmp_path / "hub2.log", "hub_program.py", "0")
    yield program.ready()
    program.end(signal.SIGKILL)


def move_to(peer: Peer, url: str) -> None:
    """Know this hub and no other."""
    peer.run("UPDATE peer.config SET hub_id = NULL")
    peer.run("DELETE FROM peer.hub")
    peer.run("INSERT INTO peer.hub (url) VALUES (%s)", url)


def test_a1_a2_one_statement_boots_an_empty_database(atlas: Make, make_peer: Make) -> None:
    """From a database that knows no hub and no peer to the rows, by nothing but the invite."""
    ann, bob = atlas(), make_peer("bob")
    bob.run("UPDATE peer.config SET hub_id = NULL")
    bob.run("DELETE FROM peer.hub")
    bob.start()
    link = ann.value("SELECT peer.invite('atlas')")
    bob.run("SELECT peer.join(%s)", link)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    assert bob.value("SELECT count(*) FROM public.city") == 500
    assert bob.run("SELECT url FROM peer.hub") == ann.run("SELECT url FROM peer.hub")
    wait_until_equal(ann, bob)


def test_e6_peers_of_different_hubs_find_each_other(atlas: Make, make_peer: Make, second_hub: str) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    first_hub = ann.value("SELECT url FROM peer.hub")
    for one in (bob, cid):
        move_to(one, second_hub)
        one.start()
    bob.join(ann)  # the invite names ann's hub, so bob is at both now
    assert {url for (url,) in bob.run("SELECT url FROM peer.hub")} == {first_hub, second_hub}
    cid.join(bob)  # and so is cid, by the invite of bob
    cid.wait_until(LINKED, ann.peer_id)
    cid.end()
    move_to(cid, second_hub)
    cid.start()
    ann.run("UPDATE public.city SET name = 'from the first hub' WHERE id = 1")
    cid.run("UPDATE public.city SET name = 'from the second hub' WHERE id = 2")
    cid.wait_until("SELECT name = 'from the first hub' FROM public.city WHERE id = 1")
    ann.wait_until("SELECT name = 'from the second hub' FROM public.city WHERE id = 2")
    wait_until_equal(ann, bob, cid)


def test_d8_a_hub_is_taken_out_and_put_back_while_the_worker_runs(
    atlas: Make, make_peer: Make, hub: Program
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    bob.run("UPDATE peer.hub SET enabled = false")
    ann.run("UPDATE public.city SET name = 'over the link' WHERE id = 1")
    bob.wait_until("SELECT name = 'over the link' FROM public.city WHERE id = 1")
    cid = make_peer("cid")
    cid.run("UPDATE peer.config SET accept = 'open', connect_timeout = '3 s'")
    cid.start()
    bob.run("UPDATE peer.config SET accept = 'open'")
    failed = cid.value("SELECT peer.connect(%s)", bob.peer_id)
    cid.wait_until(CLOSED, failed, seconds=20)  # bob is not there any more
    assert cid.run(END, failed) == [("connection-error", "timeout")]
    bob.run("UPDATE peer.hub SET enabled = true")
    again = cid.value("SELECT peer.connect(%s)", bob.peer_id)
    cid.wait_until(OPEN, again)


@pytest.mark.parametrize(
    ("accept", "relation", "refusal"),
    [
        ("invited", "stranger", "refused_policy"),
        ("friends", "stranger", "refused_policy"),
        ("friends", "friend", None),
        ("open", "stranger", None),
        ("open", "blocked", "refused_blocked"),
    ],
)
def test_d7_who_may_connect_is_what_the_configuration_says(
    make_peer: Make, accept: str, relation: str, refusal: str | None
) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    bob.run("UPDATE peer.config SET accept = %s", accept)
    ann.start()
    bob.start()
    if relation == "friend":
        ann.run("SELECT peer.befriend(%s)", bob.peer_id)
        bob.wait_until("SELECT EXISTS (SELECT FROM peer.friend WHERE state = 'requested')")
        bob.run("SELECT peer.accept(%s)", ann.peer_id)
        ann.wait_until(FRIEND, bob.peer_id)
    elif relation == "blocked":
        bob.run("SELECT peer.block(%s)", ann.peer_id)
    connection_id = ann.value("SELECT peer.connect(%s)", bob.peer_id)
    ann.run("SELECT peer.send(%s, 'let me in')", connection_id)
    if refusal is None:
        bob.wait_until("SELECT EXISTS (SELECT FROM peer.message WHERE data = 'let me in')")
    else:
        ann.wait_until(CLOSED, connection_id, seconds=30)
        assert ann.run(END, connection_id) == [("connection-error", refusal)]
        assert bob.run("SELECT * FROM peer.message") == []
        assert not bob.value("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'incoming-connection')")
