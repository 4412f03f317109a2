"""Members that were invited by a third one."""

from __future__ import annotations

import signal
from collections.abc import Callable

from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]

LINKED = "SELECT EXISTS (SELECT FROM peer.connection WHERE peer_id = %s)"


def test_members_who_were_invited_by_a_third_one_link_directly_and_go_on_without_it(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    bob.start()
    cid.start()
    bob.join(ann)
    cid.join(ann)
    bob.wait_until(LINKED, cid.peer_id)
    cid.wait_until(LINKED, bob.peer_id)
    introduced = "SELECT count(*) FROM peer.event WHERE kind = 'member-introduced' AND peer_id = %s"
    assert bob.value(introduced, cid.peer_id) == 1
    assert cid.value(introduced, bob.peer_id) == 1
    ann.end(signal.SIGKILL)
    bob.run("UPDATE public.city SET name = 'Bergen' WHERE id = 1")
    cid.run("UPDATE public.city SET name = 'Cologne' WHERE id = 2")
    cid.wait_until("SELECT name = 'Bergen' FROM public.city WHERE id = 1")
    bob.wait_until("SELECT name = 'Cologne' FROM public.city WHERE id = 2")
    wait_until_equal(bob, cid)
    # they find each other again, too
    bob.end()
    bob.start()
    cid.run("UPDATE public.city SET name = 'Calais' WHERE id = 3")
    bob.wait_until("SELECT name = 'Calais' FROM public.city WHERE id = 3")


def test_a_reader_who_was_introduced_stays_a_reader_and_introduces_nobody(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    bob.start()
    cid.start()
    bob.join(ann)
    cid.value("SELECT peer.join(%s)", ann.value("SELECT peer.invite('atlas', 'reader')"))
    cid.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    bob.wait_until(LINKED, cid.peer_id)
    assert bob.value("SELECT role FROM peer.member WHERE peer_id = %s", cid.peer_id) == "reader"
    dora = make_peer("dora")
    bundle_id = bob.value("SELECT bundle_id FROM peer_internal.bundle")
    told = "SELECT peer_internal.worker_members_told(%s, %s, ARRAY[%s], ARRAY['admin'])"
    assert bob.value(told, bundle_id, cid.peer_id, dora.peer_id) == 0
    assert bob.value(told, bundle_id, dora.peer_id, dora.peer_id) == 0
    # where there are grants, nobody is a member by hearsay, whoever tells it
    assert ann.value(told, bundle_id, bob.peer_id, dora.peer_id) == 0
    assert ann.run("SELECT role FROM peer.member WHERE peer_id = %s", dora.peer_id) == []
    assert ann.value(told, bundle_id, bob.peer_id, cid.peer_id) == 0
    assert ann.value("SELECT role FROM peer.member WHERE peer_id = %s", cid.peer_id) == "reader"
