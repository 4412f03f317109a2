"""One worker serves all sessions of a database, and nothing of it lives in a session.

Rows A6 (quick recovery), A7 (each context shall not be its own node), A9 and A10 (links live in the worker),
A13 (links are expensive: one for each pair), D3 (a worker that dies takes nothing with it).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, wait_until

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]

LINKS = "SELECT count(*) FROM peer_internal.connection WHERE state = 'open'"
LINKED = "SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND peer_id = %s AND state = 'open')"
NAMED = "SELECT name = %s FROM public.city WHERE id = %s"
SESSIONS = 50


def mesh(atlas: Make, make_peer: Make, *labels: str) -> list[Peer]:
    """Peers of one bundle, each linked to each."""
    peers = [atlas()]
    for label in labels:
        peers.append(make_peer(label))
        peers[-1].start()
        peers[-1].join(peers[0])
    for one in peers:
        for other in peers:
            if one is not other:
                one.wait_until(LINKED, other.peer_id)
    return peers


def test_a7_fifty_sessions_are_one_peer_with_one_link_to_each_other_peer(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = mesh(atlas, make_peer, "bob")
    assert ann.worker is not None
    sockets = len(psutil.Process(ann.worker.pid).net_connections("udp"))

    def session(number: int) -> tuple[str, int]:
        with psycopg.connect(ann.database.dsn, autocommit=True) as sql:
            row = sql.execute("SELECT peer.identity(), pg_backend_pid()").fetchone()
            assert row is not None
            if number % 5 == 0:  # some talk to the peer, all write
                made = sql.execute("SELECT peer.connect(%s)", [bob.peer_id]).fetchone()
                assert made is not None
                sql.execute("SELECT peer.send(%s, %s)", [made[0], f"session {number}"])
            sql.execute(
                "UPDATE public.city SET name = %s WHERE id = %s", [f"by session {number}", number + 1]
            )
            return row[0], row[1]

    with ThreadPoolExecutor(SESSIONS) as pool:
        seen = list(pool.map(session, range(SESSIONS)))
    assert {peer_id for peer_id, _ in seen} == {ann.peer_id}
    assert len({pid for _, pid in seen}) == SESSIONS
    bob.wait_until("SELECT count(*) = 50 FROM public.city WHERE name LIKE 'by session %%'")
    bob.wait_until("SELECT count(*) = 10 FROM peer.message")
    assert {row[0] for row in bob.run("SELECT DISTINCT peer_id FROM peer.message")} == {ann.peer_id}
    assert ann.value(LINKS) == bob.value(LINKS) == 1
    # a10: the network belongs to the worker; a link more would have brought sockets
    assert len(psutil.Process(ann.worker.pid).net_connections("udp")) <= sockets + 1


def test_a13_two_bundles_a_friendship_and_programs_share_one_link(atlas: Make, make_peer: Make) -> None:
    ann, bob = mesh(atlas, make_peer, "bob")
    ann.run("CREATE TABLE public.note (id int PRIMARY KEY, line text)")
    ann.run("SELECT peer.create_bundle('notes')")
    ann.run("SELECT peer.track('notes', 'public.note')")
    bob.join(ann, "notes")
    ann.run("SELECT peer.befriend(%s)", bob.peer_id)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.friend WHERE state = 'requested')")
    bob.run("SELECT peer.accept(%s)", ann.peer_id)
    connection_id = bob.value("SELECT peer.connect(%s)", ann.peer_id)
    bob.run("SELECT peer.send(%s, 'hello')", connection_id)
    ann.wait_until("SELECT count(*) = 1 FROM peer.message")
    ann.run("INSERT INTO public.note VALUES (1, 'one link')")
    bob.wait_until("SELECT EXISTS (SELECT FROM public.note)")
    assert ann.value(LINKS) == bob.value(LINKS) == 1


def test_a6_a_worker_that_was_killed_is_back_in_the_mesh_in_seconds(atlas: Make, make_peer: Make) -> None:
    """With SIGSEGV, as when its engine crashes: no session of the database notices (A9, D3)."""
    ann, bob, cid = mesh(atlas, make_peer, "bob", "cid")
    assert bob.worker is not None
    with psycopg.connect(bob.database.dsn, autocommit=True) as sql:
        server = sql.execute("SELECT pg_postmaster_start_time()").fetchone()
        parents = {one.pid for one in psutil.Process(bob.worker.pid).parents()}
        row = sql.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert psutil.Process(row[0]).ppid() not in parents  # no child of the server, and no backend
        code, _ = bob.end(signal.SIGSEGV)
        assert code == -signal.SIGSEGV
        sql.execute("UPDATE public.city SET name = 'meanwhile' WHERE id = 1")
        assert sql.execute("SELECT pg_postmaster_start_time()").fetchone() == server
    began = time.monotonic()
    bob.start()
    wait_until(lambda: all(bob.value(LINKED, one.peer_id) for one in (ann, cid)), "the mesh", 30, bob.log)
    print(f"back in the mesh of three {time.monotonic() - began:.1f} s after the start of the process")
    for one in (ann, cid):
        one.wait_until(NAMED, "meanwhile", 1, seconds=15)
    assert bob.value(LINKS) == 2
