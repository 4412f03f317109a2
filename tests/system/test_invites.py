"""Invites that cannot be used, and peers that were not invited."""

from __future__ import annotations

from collections.abc import Callable

from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]

FAILED = (
    "SELECT code, retryable, hint LIKE 'Ask for a new invite%%' FROM peer.event WHERE kind = 'join-failed'"
)


def test_an_invite_that_was_used_is_refused_with_a_reason(atlas: Make, make_peer: Make) -> None:
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    link = ann.value("SELECT peer.invite('atlas')")
    bob.start()
    bob.value("SELECT peer.join(%s)", link)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    ann.value("SELECT peer.invite('atlas')")
    cid.start()
    cid.value("SELECT peer.join(%s)", link)
    cid.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'join-failed')")
    assert cid.run(FAILED) == [("used_invite", False, True)]
    assert cid.value("SELECT secret IS NULL AND state = 'failed' FROM peer_internal.join_request")


def test_an_invite_that_has_expired_is_refused_with_a_reason(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    link = ann.value("SELECT peer.invite('atlas')")
    ann.run("UPDATE peer_internal.invite SET expires_at = clock_timestamp() - interval '1 s'")
    ann.value("SELECT peer.invite('atlas')")
    bob.start()
    bob.value("SELECT peer.join(%s)", link)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'join-failed')")
    assert bob.run(FAILED) == [("expired_invite", False, True)]
    assert bob.value("SELECT to_regclass('public.city')") is None


def test_a_table_that_differs_at_the_newcomer_is_named_with_its_column_and_nothing_is_lost(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.run("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL, population int)")
    bob.run("INSERT INTO public.city VALUES (9999, 'mine', 1)")
    bob.start()
    bob.value("SELECT peer.join(%s)", ann.value("SELECT peer.invite('atlas')"))
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'schema_mismatch'"
        " AND detail LIKE '%%population%%' AND remedy <> '')"
    )
    assert bob.run("SELECT * FROM public.city") == [(9999, "mine", 1)]
    bob.run("ALTER TABLE public.city ALTER COLUMN population TYPE bigint")
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    wait_until_equal(ann, bob)
    assert ann.value("SELECT count(*) FROM public.city") == 501


def test_a_hub_that_cannot_be_reached_is_a_problem_until_it_can(make_peer: Make) -> None:
    bob = make_peer("bob")
    good = bob.value("SELECT url FROM peer.hub")
    bob.run("UPDATE peer.hub SET url = 'ws://127.0.0.1:9'")
    bob.start()
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'hub_unreachable' AND remedy <> '')")
    bob.run("UPDATE peer.hub SET url = %s", good)
    bob.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")


def test_a_withdrawn_invite_is_not_known_any_more(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    link = ann.value("SELECT peer.invite('atlas')")
    ann.run("DELETE FROM peer_internal.invite")
    ann.value("SELECT peer.invite('atlas')")
    bob.start()
    bob.value("SELECT peer.join(%s)", link)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'join-failed')")
    assert bob.run(FAILED) == [("unknown_invite", False, True)]


def test_an_invite_waits_for_an_inviter_that_is_not_online(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    link = ann.value("SELECT peer.invite('atlas')")
    ann.end()
    bob.start()
    bob.value("SELECT peer.join(%s)", link)
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'join_waiting')")
    ann.start()
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')")
    bob.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")


def test_without_an_open_invite_a_stranger_is_not_let_in(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    link = ann.value("SELECT peer.invite('atlas')")
    ann.run("DELETE FROM peer_internal.invite")
    bob.start()
    bob.value("SELECT peer.join(%s)", link)
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connect-failed' AND code = 'refused_policy')"
    )
    assert ann.value("SELECT count(*) FROM peer.connection") == 0
