"""Roles, removal, a new key and blocks between real workers that meet at a real hub."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, wait_until_equal
from typer.testing import CliRunner

from pgpeer.cli.main import app

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]

LINKED = "SELECT EXISTS (SELECT FROM peer.connection WHERE peer_id = %s)"
ROLE = "SELECT (SELECT CASE state WHEN 'active' THEN role ELSE state END FROM peer.member WHERE peer_id = %s) = %s"
NAMED = "SELECT name = %s FROM public.city WHERE id = %s"


def everybody(ann: Peer, make: Make, *labels: str) -> list[Peer]:
    others = [make(label) for label in labels]
    for other in others:
        other.start()
        other.join(ann)
    for one in others:
        for other in others:
            if one is not other:
                one.wait_until(LINKED, other.peer_id)
    return others


def test_who_was_removed_reaches_nobody_and_the_others_go_on(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    bob, cid = everybody(ann, make_peer, "bob", "cid")
    for one in (ann, bob, cid):
        for other, role in ((ann, "admin"), (bob, "writer"), (cid, "writer")):
            one.wait_until(ROLE, other.peer_id, role)
    bob.run("UPDATE public.city SET name = 'before' WHERE id = 1")
    ann.wait_until(NAMED, "before", 1)
    cid.wait_until(NAMED, "before", 1)
    ann.run("SELECT peer.remove_member('atlas', %s)", bob.peer_id)
    for one in (ann, cid, bob):
        one.wait_until(ROLE, bob.peer_id, "removed")
        one.wait_until(f"SELECT NOT ({LINKED.removeprefix('SELECT ')})", bob.peer_id)
    assert not bob.run("SELECT peer_id FROM peer.connection")
    bob.run("UPDATE public.city SET name = 'after' WHERE id = 1")
    cid.run("UPDATE public.city SET name = 'Cologne' WHERE id = 2")
    ann.wait_until(NAMED, "Cologne", 2)
    wait_until_equal(ann, cid)
    assert ann.value("SELECT name FROM public.city WHERE id = 1") == "before"
    assert bob.value("SELECT name FROM public.city WHERE id = 2") != "Cologne"
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'not_a_writer')")
    assert not ann.value("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'not_a_writer')")


def test_what_a_reader_writes_is_held_until_it_may(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    bob, cid = everybody(ann, make_peer, "bob", "cid")
    ann.run("SELECT peer.set_role('atlas', %s, 'reader')", bob.peer_id)
    bob.wait_until(ROLE, bob.peer_id, "reader")
    cid.wait_until(ROLE, bob.peer_id, "reader")
    bob.run("UPDATE public.city SET name = 'mine' WHERE id = 7")
    for other in (ann, cid):
        other.wait_until(
            "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'not_a_writer' AND detail LIKE %s)",
            f"%{bob.peer_id} may not write%",
        )
        assert other.value("SELECT name FROM public.city WHERE id = 7") == "city 7"
    bob.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE detail LIKE 'Changes made here stay%')")
    acknowledged = "SELECT acknowledged FROM peer.member WHERE peer_id = %s"
    epoch = bob.value("SELECT epoch FROM peer_internal.identity")
    for entry in bob.value(acknowledged, ann.peer_id) or []:
        assert entry["epoch"] != epoch, "what is held is not acknowledged"
    ann.run("UPDATE public.city SET name = 'theirs' WHERE id = 8")
    bob.wait_until(NAMED, "theirs", 8)
    ann.run("SELECT peer.set_role('atlas', %s, 'writer')", bob.peer_id)
    ann.wait_until(NAMED, "mine", 7)
    cid.wait_until(NAMED, "mine", 7)
    wait_until_equal(ann, bob, cid)
    for one in (ann, bob, cid):
        one.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem WHERE kind = 'not_a_writer')")


def test_a_writer_invites_and_the_newcomer_is_known_to_all(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    (bob,) = everybody(ann, make_peer, "bob")
    cid = make_peer("cid")
    cid.start()
    cid.join(bob)
    ann.wait_until(ROLE, cid.peer_id, "writer")
    cid.wait_until(ROLE, ann.peer_id, "admin")
    cid.wait_until(LINKED, ann.peer_id)
    cid.run("UPDATE public.city SET name = 'Cologne' WHERE id = 2")
    ann.wait_until(NAMED, "Cologne", 2)
    issuer = "SELECT issuer FROM peer_internal.bundle_grant WHERE counts AND record::text LIKE '%%' ORDER BY seq, issuer"
    assert {row[0] for row in ann.run(issuer)} == {ann.peer_id, bob.peer_id}


def test_members_know_a_new_key_after_it_was_changed(
    atlas: Make, make_peer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = atlas()
    bob, cid = everybody(ann, make_peer, "bob", "cid")
    words = ["identity", "rotate", "--dsn", bob.database.dsn, "--identity", str(bob.identity)]
    waiting = CliRunner().invoke(app, words)
    assert "in use by another worker" in waiting.output + waiting.stderr
    for one in (ann, cid):
        one.wait_until(ROLE, bob.peer_id, "removed")
    bob.end()
    assert CliRunner().invoke(app, words).exit_code == 0
    bob.start()
    new = bob.value("SELECT peer.identity()")
    assert new != bob.peer_id
    for one in (ann, cid):
        one.wait_until(ROLE, new, "writer")
        one.wait_until(LINKED, new)
    bob.run("UPDATE public.city SET name = 'Bergen' WHERE id = 3")
    ann.wait_until(NAMED, "Bergen", 3)
    wait_until_equal(ann, bob, cid)


def test_a_blocked_peer_is_cut_off_until_the_block_is_lifted(atlas: Make, make_peer: Make) -> None:
    ann = atlas()
    (bob,) = everybody(ann, make_peer, "bob")
    ann.wait_until(LINKED, bob.peer_id)
    ann.run("SELECT peer.block(%s)", bob.peer_id)
    ann.wait_until(f"SELECT NOT ({LINKED.removeprefix('SELECT ')})", bob.peer_id)
    bob.run("UPDATE public.city SET name = 'Bergen' WHERE id = 3")
    bob.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connect-failed' AND code = 'refused_blocked')"
    )
    assert ann.value("SELECT name FROM public.city WHERE id = 3") == "city 3"
    ann.run("SELECT peer.unfriend(%s)", bob.peer_id)
    ann.wait_until(NAMED, "Bergen", 3)
