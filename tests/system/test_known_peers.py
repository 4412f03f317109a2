"""Peers that know each other's addresses: direct TLS, also with every hub down, and links between friends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import sign_peer_record
from system.processes import Peer, Program, wait_until
from system.test_paths import wait_for_path, write

Make = Callable[..., Peer]

KNOWN = "SELECT EXISTS (SELECT FROM peer.address WHERE peer_id = %s AND source = 'record')"


def listen(peer: Peer, host: str = "127.0.0.1") -> None:
    """Let a worker listen at a free port, without a restart."""
    peer.run("UPDATE peer.config SET listen_address = %s", f"{host}:0")
    wait_until(lambda: "addresses told" in peer.log.read_text(), "listening", 60.0, peer.log)


def befriend(one: Peer, other: Peer) -> None:
    one.run("SELECT peer.befriend(%s)", other.peer_id)
    other.wait_until(
        "SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s AND state = 'requested')", one.peer_id
    )
    other.run("SELECT peer.accept(%s)", one.peer_id)
    one.wait_until(
        "SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s AND state = 'accepted')", other.peer_id
    )


def test_an_address_that_is_told_leads_to_a_direct_path_without_a_restart(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start("no-udp")
    bob.join(ann)
    assert bob.value("SELECT path FROM peer.connection") == "relay"
    listen(ann)
    for here, there in ((ann, bob), (bob, ann)):
        wait_for_path(here, there, "tls")
    write(ann, bob, 1)
    write(bob, ann, 2)
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind = 'disconnected'") == 0
    (address,) = bob.run(
        "SELECT address, source, told_by, failures FROM peer.address WHERE last_success < now()"
    )
    assert address[0].startswith("tls://127.0.0.1:")
    assert address[1:] == ("record", ann.peer_id, 0)
    # it listens no more, and says so; the link that is open goes on
    ann.run("UPDATE peer.config SET listen_address = NULL")
    wait_until(lambda: ann.log.read_text().count("addresses told") == 2, "taken back", 60.0, ann.log)
    write(ann, bob, 3)


def test_an_address_entered_by_hand_is_dialled_and_one_where_nobody_listens_does_no_harm(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start("no-udp")
    bob.join(ann)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        nobody = socket.create_server(("127.0.0.1", 0))
        dead = nobody.getsockname()[1]
        nobody.close()
        ann.run("UPDATE peer.config SET listen_address = '127.0.0.1:0', public_address = '127.0.0.1:9'")
        ann.wait_until("SELECT EXISTS (SELECT FROM peer_internal.own_record())")
        port = next(
            part.split('"port": ')[1].split(",")[0].rstrip("}")
            for part in ann.log.read_text().splitlines()
            if '"listening"' in part
        )
        for number in (dead, deaf.getsockname()[1], port):
            bob.run("SELECT peer.add_address(%s, %s)", ann.peer_id, f"tls://127.0.0.1:{number}")
        wait_for_path(bob, ann, "tls")
        wait_for_path(ann, bob, "tls")
        write(ann, bob, 1)
        bob.wait_until(
            "SELECT last_failure IS NOT NULL AND failures > 0 FROM peer.address WHERE address = %s",
            f"tls://127.0.0.1:{dead}",
        )


def test_an_address_that_cannot_be_listened_at_is_a_problem_with_a_remedy(make_peer: Make) -> None:
    ann = make_peer("ann")
    ann.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ann.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{port}")
        ann.wait_until(
            "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'cannot_listen' AND detail LIKE %s AND remedy <> '')",
            f"%{port}%",
        )
    ann.run("UPDATE peer.config SET listen_address = NULL")
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)", seconds=10)


def test_known_peers_find_each_other_again_with_every_hub_down(
    atlas: Make, make_peer: Make, hub: Program
) -> None:
    ann, bob = atlas(), make_peer("bob")
    listen(ann)
    bob.start()
    bob.join(ann)
    bob.wait_until(KNOWN, ann.peer_id)
    hub.end()
    bob.end()
    ann.end()
    bob.run("UPDATE public.city SET name = 'nobody is there' WHERE id = 1")
    # a port of its own, as an administrator chooses one, so that it is the same after a restart
    port = bob.value(
        "SELECT substring(address, '[0-9]+$')::int FROM peer.address WHERE peer_id = %s", ann.peer_id
    )
    ann.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{port}")
    bob.start()
    time.sleep(2)  # nobody listens yet: bob has to try again
    ann.start()
    wait_for_path(bob, ann, "tls", 60)
    ann.wait_until("SELECT name = 'nobody is there' FROM public.city WHERE id = 1")
    write(ann, bob, 2)
    assert bob.value("SELECT count(*) FROM peer.problem WHERE kind = 'peer_unreachable'") == 0
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind = 'connect-failed'") == 0


def test_a_third_member_learns_an_address_through_a_common_one(
    atlas: Make, make_peer: Make, hub: Program
) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    port = free_port()
    ann.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{port}")
    for peer in (bob, cid):
        peer.start()
        peer.join(ann)
        peer.wait_until(KNOWN, ann.peer_id)
    bob.end()
    cid.wait_until("SELECT count(*) = 1 FROM peer.connection WHERE state = 'open'")
    hub.end()
    # bob comes back somewhere else, and only ann, whom it can dial, hears of it at first
    bob.run("UPDATE peer.config SET listen_address = '127.0.0.1:0'")
    bob.start()
    cid.wait_until(KNOWN, bob.peer_id)
    assert cid.value("SELECT told_by FROM peer.address WHERE peer_id = %s", bob.peer_id) == ann.peer_id
    wait_for_path(cid, bob, "tls")
    ann.end()
    write(bob, cid, 1)
    write(cid, bob, 2)


def test_a_common_friend_leads_two_friends_to_each_other_with_every_hub_down(
    make_peer: Make, hub: Program
) -> None:
    ann, bob, dan, fay = (make_peer(name) for name in ("ann", "bob", "dan", "fay"))
    for peer in (ann, bob, dan, fay):
        peer.run("UPDATE peer.config SET accept = 'friends'")
        peer.start()
    fay.run("UPDATE peer.config SET listen_address = %s", f"127.0.0.1:{free_port()}")
    for one, other in ((ann, bob), (ann, fay), (bob, fay), (dan, fay)):
        befriend(one, other)
    # bob knows ann, and ann does not know where bob is: bob listens only after the hub is gone
    for peer in (ann, bob, dan):
        peer.wait_until(KNOWN, fay.peer_id)
    for peer in (bob, dan):
        peer.end()
    hub.end()
    for peer in (bob, dan):
        peer.run("UPDATE peer.config SET listen_address = '127.0.0.1:0'")
        peer.start()
    ann.wait_until(KNOWN, bob.peer_id)
    assert ann.value("SELECT told_by FROM peer.address WHERE peer_id = %s", bob.peer_id) == fay.peer_id
    wait_for_path(ann, bob, "tls")
    # dan is fay's friend as well, has told where it is, and is nobody else's
    fay.wait_until(KNOWN, dan.peer_id)
    for peer in (ann, bob):
        assert peer.value("SELECT count(*) FROM peer.address WHERE peer_id = %s", dan.peer_id) == 0
    for peer in (ann, bob):
        assert dan.value("SELECT count(*) FROM peer.address WHERE peer_id = %s", peer.peer_id) == 0
    # and once more, to another place, over the same links
    before = ann.value("SELECT max(seq) FROM peer.address WHERE peer_id = %s", bob.peer_id)
    bob.end()
    bob.start()
    ann.wait_until("SELECT max(seq) > %s FROM peer.address WHERE peer_id = %s", before, bob.peer_id)
    wait_for_path(ann, bob, "tls")
    # fay takes part in nothing: the two are linked without it
    fay.end()
    time.sleep(1)
    assert ann.value("SELECT state = 'open' FROM peer.connection WHERE peer_id = %s", bob.peer_id)


def test_the_record_of_a_removed_or_blocked_peer_changes_nothing(
    atlas: Make, make_peer: Make, hub: Program
) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    for peer in (bob, cid):
        peer.start()
        peer.join(ann)
    cid.wait_until("SELECT count(*) = 2 FROM peer.connection")
    ann.run("SELECT peer.remove_member('atlas', %s)", cid.peer_id)
    ann.run("SELECT peer.block(%s)", cid.peer_id)
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'member-removed' AND peer_id = %s)", cid.peer_id
    )
    cid.end()
    # a record of cid that is newer than everything, in the hands of bob
    record = sign_peer_record(
        PrivateKey.from_seed(cid.database.key.seed), 2**45, "cid", ["tls://127.0.0.1:9"]
    )
    bob.run(
        "SELECT peer_internal.store_peer_record(%s, %s, %s, 'cid', ARRAY['tls://127.0.0.1:9'], NULL)",
        cid.peer_id,
        2**45,
        record,
    )
    listen(bob)  # so that records are told
    ann.wait_until(KNOWN, bob.peer_id)
    for peer in (ann, bob):
        peer.wait_until("SELECT NOT EXISTS (SELECT FROM peer.connection WHERE peer_id = %s)", cid.peer_id)
        assert peer.value(
            "SELECT bool_and(state = 'removed') FROM peer.member WHERE peer_id = %s", cid.peer_id
        )
        assert (
            peer.value(
                "SELECT worker_reach -> 'addresses' ? %s FROM peer_internal.worker_reach()", cid.peer_id
            )
            is False
        )
    assert ann.value("SELECT count(*) FROM peer.address WHERE peer_id = %s", cid.peer_id) == 0


@pytest.mark.parametrize("accept", ["friends", "open"])
def test_friends_without_a_common_bundle_are_linked_where_the_policy_allows_it(
    accept: str, make_peer: Make
) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    for peer in (ann, bob):
        peer.run("UPDATE peer.config SET accept = %s", accept)
        peer.start()
    listen(ann)
    befriend(ann, bob)
    for here, there in ((ann, bob), (bob, ann)):
        wait_for_path(here, there, "tls")
    bob.wait_until(KNOWN, ann.peer_id)
    ann.run("SELECT peer.unfriend(%s)", bob.peer_id)
    if accept == "friends":
        for peer in (ann, bob):
            peer.wait_until("SELECT NOT EXISTS (SELECT FROM peer.connection)")


def test_a_friend_whose_policy_is_another_is_asked_and_leaves_it_at_that(make_peer: Make) -> None:
    ann, bob = make_peer("ann"), make_peer("bob")
    ann.run("UPDATE peer.config SET accept = 'friends'")
    for peer in (ann, bob):
        peer.start()
    befriend(ann, bob)
    ann.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connect-failed' AND code = 'refused_policy')"
    )
    time.sleep(8)
    assert ann.value("SELECT count(*) FROM peer.event WHERE kind = 'connect-failed'") == 1
    assert ann.value("SELECT count(*) FROM peer.connection") == 0
    # bob changes its mind: it may come now, and so may ann
    bob.run("UPDATE peer.config SET accept = 'friends'")
    wait_for_path(ann, bob, "webrtc")


class StunWatch:
    """A UDP port that may answer nobody, and remembers who asked."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((own_address(), 0))
        self.url = "stun:{}:{}".format(*self.socket.getsockname())
        self.asked = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while self.socket.recv(2048):
                self.asked.set()
        except OSError:
            return

    def close(self) -> None:
        self.socket.sendto(b"", self.socket.getsockname())
        self._reader.join(5)
        self.socket.close()


@pytest.fixture
def stun() -> Iterator[Callable[[], StunWatch]]:
    made: list[StunWatch] = []

    def make() -> StunWatch:
        made.append(StunWatch())
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_dead_stun_server_delays_the_direct_path_by_two_seconds_and_nothing_else(
    atlas: Make, make_peer: Make, stun: Callable[[], StunWatch]
) -> None:
    ann, bob, dead = atlas(), make_peer("bob"), stun()
    for peer in (ann, bob):
        peer.run("INSERT INTO peer.stun_server (url) VALUES (%s)", dead.url)
    bob.start()
    began = time.monotonic()
    bob.join(ann)
    joined = time.monotonic() - began
    assert bob.value("SELECT detail LIKE 'relay %%' FROM peer.event WHERE kind = 'connected'")
    wait_for_path(bob, ann, "webrtc")
    assert dead.asked.is_set()
    first, changed = (
        bob.value("SELECT min(at) FROM peer.event WHERE kind = %s", kind)
        for kind in ("connected", "path-changed")
    )
    assert (changed - first).total_seconds() < 8, "two seconds on both sides, and the load of this machine"
    assert joined < 20


def test_the_stun_server_of_a_relationship_is_used_and_followed_without_a_restart(
    atlas: Make, make_peer: Make, stun: Callable[[], StunWatch]
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start("no-udp")
    bob.join(ann)
    common, special = stun(), stun()
    ann.run("INSERT INTO peer.stun_server (url) VALUES (%s)", common.url)
    assert common.asked.wait(20), "WebRTC is tried again at once when there are other servers"
    common.asked.clear()
    ann.run(
        "WITH s AS (INSERT INTO peer.stun_server (url) VALUES (%s) RETURNING id)"
        " INSERT INTO peer.friend (peer_id, state, stun_server_id) SELECT %s, 'accepted', id FROM s",
        special.url,
        bob.peer_id,
    )
    assert special.asked.wait(20)
    common.asked.clear()
    special.asked.clear()
    ann.run("UPDATE peer.friend SET stun_server_id = NULL")
    assert common.asked.wait(20)


def test_the_turn_server_that_the_hub_offers_is_used(
    atlas: Make, make_peer: Make, hub: Program, tmp_path: Path, stun: Callable[[], StunWatch]
) -> None:
    port = hub.ready().rpartition(":")[2]
    hub.end()
    turn = stun()
    rich = Program(tmp_path / "rich.log", "hub_program.py", port, turn.url.replace("stun:", "turn:"))
    rich.ready()
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    assert turn.asked.wait(30)
    wait_for_path(ann, bob, "webrtc")
    rich.end()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def own_address() -> str:
    """An address of this host as WebRTC uses it: not the loopback one, unless there is no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.254", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
