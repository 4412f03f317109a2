"""Friendship between real workers: by letters through a real hub, also to a peer that is absent."""

from __future__ import annotations

from collections.abc import Callable

from system.conftest import hub, make_peer
from system.processes import Peer

__all__ = ["hub", "make_peer"]

Make = Callable[..., Peer]

STATE = "SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s AND state = %s)"
NO_ROW = "SELECT NOT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s)"


def test_a_request_waits_for_an_absent_peer_and_its_answer_comes_back(make_peer: Make) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    ann.start()
    ann.run("SELECT peer.befriend(%s, 'from the clinic')", bob.peer_id)
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer_internal.friend_notice)")
    bob.start()
    bob.wait_until(STATE, ann.peer_id, "requested")
    assert bob.run("SELECT label, note, is_incoming FROM peer.friend") == [("ann", "from the clinic", True)]
    bob.run("SELECT peer.accept(%s)", ann.peer_id)
    ann.wait_until(STATE, bob.peer_id, "accepted")
    ann.run("SELECT peer.unfriend(%s)", bob.peer_id)
    bob.wait_until(NO_ROW, ann.peer_id)
    assert bob.run("SELECT kind FROM peer.event WHERE kind LIKE 'friend%%' ORDER BY id") == [
        ("friend-requested",),
        ("friend-ended",),
    ]


def test_a_common_friend_introduces_two_and_they_decide(make_peer: Make) -> None:
    ann, bob, cid = make_peer("ann"), make_peer("bob"), make_peer("cid")
    for one in (ann, bob, cid):
        one.start()
    for other in (bob, cid):
        ann.run("SELECT peer.befriend(%s)", other.peer_id)
        other.wait_until(STATE, ann.peer_id, "requested")
        other.run("SELECT peer.accept(%s)", ann.peer_id)
        ann.wait_until(STATE, other.peer_id, "accepted")
    ann.run("UPDATE peer.friend SET label = 'Cid of the shop' WHERE peer_id = %s", cid.peer_id)
    ann.run("SELECT peer.introduce(%s, %s)", bob.peer_id, cid.peer_id)
    for one, other in ((bob, cid), (cid, bob)):
        one.wait_until("SELECT EXISTS (SELECT FROM peer.suggestion WHERE peer_id = %s)", other.peer_id)
    assert bob.value("SELECT label FROM peer.suggestion") == "Cid of the shop"
    assert bob.value(NO_ROW, cid.peer_id)
    bob.run("SELECT peer.befriend(%s)", cid.peer_id)
    cid.wait_until(STATE, bob.peer_id, "requested")
    cid.run("SELECT peer.befriend(%s)", bob.peer_id)
    bob.wait_until(STATE, cid.peer_id, "accepted")
