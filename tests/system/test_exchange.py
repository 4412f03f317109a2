"""Two workers with their databases and a hub, all processes of their own, over WebRTC."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest
from fixtures.databases import Databases
from fixtures.versions import EMBEDDED, SECOND

from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]
Pair = tuple[Peer, Peer]


@pytest.fixture(params=[(EMBEDDED, EMBEDDED), (SECOND, EMBEDDED), (EMBEDDED, SECOND)], ids="-".join)
def pair(request: pytest.FixtureRequest, databases: Databases, atlas: Make, make_peer: Make) -> Pair:
    """Two members of a bundle, on servers of the versions named."""
    ann_version, bob_version = request.param
    ann = atlas("ann", cluster=databases.cluster(ann_version))
    bob = make_peer("bob", databases.cluster(bob_version))
    bob.start()
    bob.join(ann)
    return ann, bob


def test_a_peer_joins_gets_the_rows_and_both_write(pair: Pair) -> None:
    ann, bob = pair
    assert bob.value("SELECT count(*) FROM public.city") == 500
    assert ann.worker is not None
    assert bob.worker is not None
    assert ann.worker.pid != bob.worker.pid

    ann.run("UPDATE public.city SET name = 'Amsterdam' WHERE id = 1")
    bob.run("INSERT INTO public.city VALUES (1000, 'Bergen', 285000)")
    bob.run("DELETE FROM public.city WHERE id = 2")
    bob.wait_until("SELECT name = 'Amsterdam' FROM public.city WHERE id = 1")
    ann.wait_until("SELECT EXISTS (SELECT FROM public.city WHERE id = 1000)")
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM public.city WHERE id = 2)")
    wait_until_equal(ann, bob)
    assert ann.value("SELECT bool_and(signed) FROM peer.log('atlas')")
    assert ann.run("SELECT commit_id FROM peer.log('atlas')") == bob.run(
        "SELECT commit_id FROM peer.log('atlas')"
    )


def test_the_selected_candidate_pair_is_the_same_on_both_sides(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    query = "SELECT peer_id, path, engine, state, local_candidate, remote_candidate FROM peer.connection"
    for peer in (ann, bob):
        peer.wait_until("SELECT path = 'webrtc' FROM peer.connection")
    (at_ann,), (at_bob,) = ann.run(query), bob.run(query)
    assert at_ann[:4] == (bob.peer_id, "webrtc", "aiortc", "open")
    assert at_bob[:4] == (ann.peer_id, "webrtc", "aiortc", "open")
    assert at_ann[4:] == (at_bob[5], at_bob[4])
    assert at_ann[4].startswith("host ")
    assert at_ann[4].endswith("/udp")


def test_peers_know_what_the_other_one_has_merged(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run("UPDATE public.city SET population = 5 WHERE id = 5")
    ann.wait_until(
        "SELECT coalesce((SELECT (m.acknowledged -> 0 ->> 'seq')::bigint FROM peer.member AS m WHERE m.peer_id = %s), 0)"
        " = (SELECT seq FROM peer.version_vector('atlas'))",
        bob.peer_id,
    )


def test_concurrent_edits_give_the_same_state_and_the_same_conflict(pair: Pair) -> None:
    ann, bob = pair
    bob.end()
    ann.run("UPDATE public.city SET name = 'from ann', population = 1 WHERE id = 7")
    bob.run("UPDATE public.city SET name = 'from bob' WHERE id = 7")
    bob.run("UPDATE public.city SET population = 2 WHERE id = 8")
    ann.run("UPDATE public.city SET name = 'eight' WHERE id = 8")
    bob.start()
    bob.wait_until("SELECT name = 'eight' AND population = 2 FROM public.city WHERE id = 8")
    ann.wait_until("SELECT name = 'eight' AND population = 2 FROM public.city WHERE id = 8")
    wait_until_equal(ann, bob)
    query = "SELECT conflict_id, column_name, winning_value, losing_value FROM peer.conflict"
    ann.wait_until("SELECT count(*) = 1 FROM peer.conflict")
    bob.wait_until("SELECT count(*) = 1 FROM peer.conflict")
    assert ann.run(query) == bob.run(query)


def test_commits_of_people_travel_and_changes_wait_for_them(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(commit_mode="manual"), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run("UPDATE public.city SET name = 'draft' WHERE id = 1")
    time.sleep(0.5)
    assert bob.value("SELECT name FROM public.city WHERE id = 1") == "city 1"
    commit_id = ann.value("SELECT peer.commit('atlas', 'now')")
    assert bob.value("SELECT peer.wait_for('atlas', %s)", commit_id)
    assert bob.value("SELECT name FROM public.city WHERE id = 1") == "draft"


def test_a_third_peer_gets_what_the_others_write_through_the_one_it_knows(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    bob.start()
    cid.start()
    bob.join(ann)
    cid.join(ann)
    bob.run("UPDATE public.city SET name = 'Bergen' WHERE id = 1")
    cid.run("UPDATE public.city SET name = 'Cologne' WHERE id = 2")
    cid.wait_until("SELECT name = 'Bergen' FROM public.city WHERE id = 1")
    bob.wait_until("SELECT name = 'Cologne' FROM public.city WHERE id = 2")
    wait_until_equal(ann, bob, cid)


def test_a_transaction_that_was_open_while_the_worker_was_awake_is_not_missed(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    with (
        psycopg.connect(ann.database.dsn, autocommit=True) as busy,
        psycopg.connect(ann.database.dsn) as slow,
    ):
        is_awake = False
        for n in range(2000):
            busy.execute("UPDATE public.city SET population = %s WHERE id = 1", [n])
            is_awake = busy.execute("SELECT awake FROM peer_internal.worker").fetchone() == (True,)
            if is_awake:
                break
        slow.execute("UPDATE public.city SET name = 'late' WHERE id = 2")
        if is_awake:
            ann.wait_until("SELECT NOT awake FROM peer_internal.worker")
        slow.commit()
    bob.wait_until("SELECT name = 'late' FROM public.city WHERE id = 2", seconds=8)
