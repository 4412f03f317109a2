"""Servers whose clock is wrong."""

from __future__ import annotations

from collections.abc import Callable

from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]

AHEAD = "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'clock_ahead' AND remedy <> '')"
FUTURE = (
    "SELECT count(*) FROM peer_internal.commit AS c WHERE peer_internal.hlc_time(c.hlc) > now() + '1 minute'"
)


def set_clock(peer: Peer, minutes: int) -> None:
    """Put the clock that this server dates commits with ahead."""
    peer.run(
        "CREATE OR REPLACE FUNCTION peer_internal.unix_milliseconds(at timestamptz) RETURNS bigint"
        " LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp"
        f" AS $$ SELECT floor(extract(epoch FROM at) * 1000)::bigint + {minutes * 60_000} $$"
    )
    peer.run("NOTIFY pgpeer_config")


def test_a_worker_whose_server_runs_ahead_signs_nothing_until_the_clock_is_right(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    set_clock(ann, 10)
    ann.run("UPDATE public.city SET name = 'early' WHERE id = 1")
    ann.wait_until(AHEAD)
    # what people commit themselves waits as well, and what a merge must seal
    ann.run("UPDATE public.city SET name = 'by hand' WHERE id = 2")
    ann.value("SELECT peer.commit('atlas')")
    bob.run("UPDATE public.city SET population = 7 WHERE id = 3")
    ann.wait_until("SELECT population = 7 FROM public.city WHERE id = 3")
    ann.end()
    ann.start()
    ann.wait_until(AHEAD)
    ann.run("UPDATE public.city SET name = 'after a restart' WHERE id = 4")
    ann.wait_until("SELECT count(*) = 1 FROM peer.connection")
    assert ann.value("SELECT bool_or(NOT signed) FROM peer.log('atlas')")
    assert bob.value(FUTURE) == 0
    assert (
        bob.value("SELECT count(*) FROM public.city WHERE name IN ('early', 'by hand', 'after a restart')")
        == 0
    )

    set_clock(ann, 0)
    bob.wait_until(
        "SELECT count(*) = 3 FROM public.city WHERE name IN ('early', 'by hand', 'after a restart')"
    )
    wait_until_equal(ann, bob)
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    assert ann.value("SELECT bool_and(signed) FROM peer.log('atlas')")
    assert ann.value(FUTURE) == 0
    assert bob.value("SELECT count(*) FROM peer.problem") == 0


def test_conflicts_with_commits_that_were_dated_anew_are_the_same_on_both_sides(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    bob.end()
    ann.end()
    set_clock(ann, 10)
    ann.run("UPDATE public.city SET name = 'ann, ahead' WHERE id = 1")
    ann.value("SELECT peer.commit('atlas')")
    bob.run("UPDATE public.city SET name = 'bob' WHERE id = 1")
    bob.value("SELECT peer.commit('atlas')")
    ann.start()
    bob.start()
    ann.wait_until("SELECT count(*) = 1 FROM peer.conflict")
    ann.wait_until(AHEAD)
    set_clock(ann, 0)
    bob.wait_until("SELECT count(*) = 1 FROM peer.conflict")
    wait_until_equal(ann, bob)
    query = "SELECT conflict_id, winning_value, losing_value, winning_commit FROM peer.conflict"
    assert ann.run(query) == bob.run(query)
