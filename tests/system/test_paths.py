"""Which path a link takes, and how it changes while the link is in use."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from system.processes import Peer, Program, wait_until_equal

Make = Callable[..., Peer]

PATH = "SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND peer_id = %s AND path = %s)"


def wait_for_path(here: Peer, there: Peer, path: str, seconds: float = 30.0) -> None:
    here.wait_until(PATH, there.peer_id, path, seconds=seconds)


def write(here: Peer, there: Peer, number: int) -> None:
    """A change here arrives there."""
    here.run("UPDATE public.city SET population = %s WHERE id = %s", -number, number)
    there.wait_until("SELECT population = %s FROM public.city WHERE id = %s", -number, number)


def test_the_first_path_is_the_relay_and_a_direct_one_takes_over_in_use(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    for here, there in ((ann, bob), (bob, ann)):
        wait_for_path(here, there, "webrtc")
        first = here.value("SELECT detail FROM peer.event WHERE kind = 'connected' ORDER BY id LIMIT 1")
        changes = here.run(
            "SELECT e.peer_id, e.detail, e.connection_id = c.connection_id FROM peer.event AS e"
            " CROSS JOIN peer.connection AS c WHERE e.kind = 'path-changed'"
        )
        if first.startswith("webrtc over aiortc: "):  # it was there before the peers had greeted each other
            assert changes == []
            continue
        (changed,) = changes
        assert first.startswith("relay over hub: relay ws://")
        assert changed[0] == there.peer_id
        assert changed[1].startswith("webrtc over aiortc: host ")
        assert changed[1].endswith("; before: relay")
        assert changed[2]
    write(ann, bob, 1)
    here.wait_until("SELECT rtt BETWEEN '1 microsecond' AND '1 s' FROM peer.connection", seconds=20)


def test_with_udp_blocked_everything_arrives_by_the_relay(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start("no-udp")
    began = time.monotonic()
    bob.join(ann)
    assert time.monotonic() - began < 15
    write(ann, bob, 1)
    write(bob, ann, 2)
    assert bob.value("SELECT path FROM peer.connection") == "relay"
    assert ann.value("SELECT engine FROM peer.connection") == "hub"
    assert bob.value("SELECT count(*) FROM peer.problem") == 0
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind IN ('connect-failed', 'path-changed')") == 0


def test_with_no_way_at_all_people_are_told_why_and_it_works_once_there_is_one(
    atlas: Make, make_peer: Make, hub: Program, tmp_path: Path
) -> None:
    port = hub.ready().rpartition(":")[2]
    hub.end()
    poor = Program(tmp_path / "poor.log", "hub_program.py", port, "no-relay")
    assert poor.ready() == hub.ready()
    ann, bob = atlas(), make_peer("bob")
    for peer in (ann, bob):
        peer.run("UPDATE peer.config SET connect_timeout = '3 s'")
    bob.start("no-udp")
    bob.value("SELECT peer.join(%s)", ann.value("SELECT peer.invite('atlas')"))
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'peer_unreachable' AND remedy LIKE '%%TURN%%')"
    )
    (failed,) = bob.run(
        "SELECT phase, retryable FROM peer.event WHERE kind = 'connect-failed' ORDER BY id LIMIT 1"
    )
    assert failed == ("ice", True)
    assert bob.value("SELECT to_regclass('public.city')") is None
    poor.end()
    good = Program(tmp_path / "good.log", "hub_program.py", port)
    good.ready()
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    bob.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    good.end()


def test_a_hub_without_relays_is_enough_where_webrtc_works(
    atlas: Make, make_peer: Make, hub: Program, tmp_path: Path
) -> None:
    port = hub.ready().rpartition(":")[2]
    hub.end()
    poor = Program(tmp_path / "poor.log", "hub_program.py", port, "no-relay")
    poor.ready()
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    wait_for_path(ann, bob, "webrtc")
    assert bob.value("SELECT count(*) FROM peer.problem") == 0
    poor.end()


@pytest.mark.parametrize("is_blocked", [True, False], ids=["blocked", "not a member"])
def test_who_may_not_come_is_refused_with_the_code_and_told_so_once(
    is_blocked: bool, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.end()
    if is_blocked:
        ann.value("SELECT peer.block(%s)", bob.peer_id)
    else:
        # as when ann was restored from a backup that does not know bob
        ann.run(
            "DELETE FROM peer_internal.member AS m USING peer_internal.author AS a"
            " WHERE m.author_id = a.author_id AND a.peer_id = %s",
            bob.peer_id,
        )
        ann.run("DELETE FROM peer_internal.bundle_grant")
    ann.start()
    code = "refused_blocked" if is_blocked else "refused_policy"
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connect-failed' AND code = %s)", code)
    time.sleep(5)
    assert bob.value("SELECT count(*) FROM peer.event WHERE kind = 'connect-failed' AND code = %s", code) == 1
    assert ann.value("SELECT count(*) FROM peer.connection") == 0
    assert bob.value("SELECT count(*) FROM peer.problem WHERE kind = 'peer_unreachable'") == 0


def test_a_peer_that_hangs_is_noticed_within_fifteen_seconds(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    worker = bob.start()
    bob.join(ann)
    wait_for_path(ann, bob, "webrtc")
    os.kill(worker.pid, signal.SIGSTOP)
    began = time.monotonic()
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer.connection)", seconds=30)
    took = time.monotonic() - began
    os.kill(worker.pid, signal.SIGCONT)
    assert took < 18, "fifteen seconds, and the time that the good-bye takes"
    wait_for_path(ann, bob, "webrtc")
    write(bob, ann, 3)
    wait_until_equal(ann, bob)


def test_goodput_is_shown_while_something_flows(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run("CREATE TABLE public.photo (id int PRIMARY KEY, data bytea)")
    ann.run("SELECT peer.track('atlas', 'public.photo')")
    for number in range(12):
        ann.run(
            "INSERT INTO public.photo SELECT %s * 1000 + n, decode(string_agg(md5(n::text || x || random()), ''), 'hex')"
            " FROM generate_series(1, 100) AS n CROSS JOIN generate_series(1, 100) AS x GROUP BY n",
            number,
        )
        time.sleep(1)
    query = "SELECT EXISTS (SELECT FROM peer.connection WHERE {} > 10000)"
    bob.wait_until("SELECT count(*) = 1200 FROM public.photo")
    ann.wait_until(query.format("bytes_sent_per_second"), seconds=15)
    bob.wait_until(query.format("bytes_received_per_second"), seconds=15)
    ann.wait_until("SELECT bytes_sent_per_second = 0 FROM peer.connection", seconds=30)
