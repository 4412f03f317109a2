"""The limit of links with real workers: never exceeded, followed at once, and everything reaches everybody (row A13)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, wait_until, wait_until_equal

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]

LINKS = "SELECT count(*), count(DISTINCT peer_id) FROM peer.connection WHERE kind = 'link'"
COUNT = "SELECT count(*) = %s FROM peer.connection WHERE kind = 'link'"
ENDED = "SELECT code, retryable FROM peer.event WHERE kind = 'disconnected' AND peer_id = %s ORDER BY id DESC LIMIT 1"
REFUSED = "SELECT code, retryable FROM peer.event WHERE kind = 'connect-failed' AND peer_id = %s"
OPEN = "SELECT EXISTS (SELECT FROM peer.connection WHERE connection_id = %s AND state = 'open')"
MEMBERS = "SELECT count(*) = %s FROM peer.member WHERE state = 'active'"
CONNECTED = "SELECT count(*) FROM peer.event WHERE kind = 'connected'"


class Watcher:
    """Looks at the links of peers all the time, and keeps the most that there were of each."""

    def __init__(self, *peers: Peer) -> None:
        self.most = {peer.database.name: (0, 0) for peer in peers}
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(peers,), daemon=True)
        self._thread.start()

    def _watch(self, peers: tuple[Peer, ...]) -> None:
        connections = {
            peer.database.name: psycopg.connect(peer.database.dsn, autocommit=True) for peer in peers
        }
        while not self._over.is_set():
            for name, connection in connections.items():
                found = connection.execute(LINKS).fetchone()
                assert found is not None
                self.most[name] = max(self.most[name], (found[0], found[1]))
            self.looks += 1
            time.sleep(0.02)
        for connection in connections.values():
            connection.close()

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def test_five_peers_with_two_links_each_have_everything_and_their_links_stay(
    atlas: Make, make_peer: Make
) -> None:
    names = ("bob", "cid", "dan", "eve")
    ann = atlas()
    others = [make_peer(name) for name in names]
    peers = [ann, *others]
    for peer in peers:
        peer.run("UPDATE peer.config SET link_count_max = 2")
    watcher = Watcher(*peers)
    for peer in others:
        peer.start()
        peer.join(ann)
    for peer in peers:
        peer.wait_until(MEMBERS, len(peers))
    for number, peer in enumerate(peers):
        peer.run("UPDATE public.city SET name = %s WHERE id = %s", f"by {number}", number + 1)
    wait_until_equal(*peers, seconds=120)
    assert [ann.value("SELECT name FROM public.city WHERE id = %s", n + 1) for n in range(5)] == [
        f"by {n}" for n in range(5)
    ]

    def all_have_two() -> bool:
        return all(peer.run(LINKS) == [(2, 2)] for peer in peers)

    wait_until(all_have_two, "a ring", 90, *(peer.log for peer in peers))
    time.sleep(12)  # longer than a new link is held, so that who wants another one could have it by now
    wait_until(all_have_two, "a ring", 60, *(peer.log for peer in peers))
    before = [peer.value(CONNECTED) for peer in peers]
    for number, peer in enumerate(peers):
        peer.run("UPDATE public.city SET population = %s WHERE id = %s", number, number + 100)
    wait_until_equal(*peers)
    time.sleep(12)
    watcher.end()
    assert watcher.looks > 100
    assert {most for most in watcher.most.values()} == {(2, 2)}, watcher.most
    assert [peer.value(CONNECTED) for peer in peers] == before, "links come and go"
    assert all(count <= 14 for count in before), before


def test_the_limit_is_followed_at_once_and_programs_go_first(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    others = [make_peer(name) for name in ("bob", "cid", "dan")]
    for peer in others:
        peer.start()
        peer.join(ann)
    for peer in (ann, *others):
        peer.wait_until(COUNT, 3)
    assert ann.worker is not None
    pid = ann.worker.pid
    watcher: Watcher | None = None
    try:
        ann.run("UPDATE peer.config SET link_count_max = 2")
        ann.wait_until(COUNT, 2, seconds=10)
        watcher = Watcher(ann)
        linked = {
            peer_id for (peer_id,) in ann.run("SELECT peer_id FROM peer.connection WHERE kind = 'link'")
        }
        (left,) = [peer for peer in others if peer.peer_id not in linked]
        ring = sorted([ann.peer_id, *(peer.peer_id for peer in others)])
        assert abs(ring.index(left.peer_id) - ring.index(ann.peer_id)) == 2, "neighbours on the ring stay"
        assert left.run(ENDED, ann.peer_id) == [("target_overloaded", True)]
        # it has room itself, and asks: the refusal is typed and can be tried again
        left.end()
        left.start()
        left.wait_until(f"SELECT EXISTS ({REFUSED})", ann.peer_id, seconds=40)
        assert left.run(REFUSED, ann.peer_id) == [("target_overloaded", True)]
        ann.run("UPDATE public.city SET name = 'by others' WHERE id = 1")
        left.wait_until("SELECT name = 'by others' FROM public.city WHERE id = 1")
        connection_id = ann.value("SELECT peer.connect(%s)", left.peer_id)
        ann.wait_until(OPEN, connection_id, seconds=90)
        ann.run("SELECT peer.send(%s, 'hello')", connection_id)
        left.wait_until("SELECT EXISTS (SELECT FROM peer.message WHERE data = 'hello')")
        assert ann.value(COUNT, 2)
        ann.run("SELECT peer.disconnect(%s)", connection_id)
    finally:
        if watcher is not None:
            watcher.end()
    assert set(watcher.most.values()) == {(2, 2)}, watcher.most
    ann.run("UPDATE peer.config SET link_count_max = 256")
    ann.wait_until(COUNT, 3, seconds=90)
    assert ann.worker.pid == pid
    wait_until_equal(ann, *others)
