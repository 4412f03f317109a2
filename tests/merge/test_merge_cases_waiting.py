"""Merge rules 13 to 15: commits that must wait, unsigned commits and authors that fork."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgpeer.identity.key import PrivateKey

from .agreement import commit_id
from .ghost import delete, insert, update
from .world import NOTE, ONE_NOTE, UNIQUE_DDL, World, merge_until

MakeWorld = Callable[..., World]


# 13: commits that must wait


def test_a_violation_holds_the_whole_commit_and_its_descendants_while_others_go_on(world: MakeWorld) -> None:
    w = world("alice bob carol", ddl=UNIQUE_DDL)
    alice, bob, carol = w.replicas
    w.commit(alice, "INSERT INTO public.note VALUES (1, 'taken', 'a')")
    bad = w.commit(
        bob,
        "INSERT INTO public.note VALUES (2, 'taken', 'b')",
        "INSERT INTO public.note VALUES (3, 'x', 'b')",
    )
    child = w.commit(bob, "INSERT INTO public.note VALUES (4, 'y', 'b')")
    other = w.commit(carol, "INSERT INTO public.note VALUES (5, 'z', 'c')")
    outcomes = alice.deliver([child, bad, other])
    assert (bad.digest, "held") in {(digest, outcome) for digest, outcome, _ in outcomes}
    assert set(alice.rows(NOTE)) == {"1", "5"}
    assert other.digest in alice.merged()
    assert {bad.digest, child.digest}.isdisjoint(alice.merged())
    assert {head for *_, head in alice.vector()}.isdisjoint({bad.digest, child.digest})
    assert [p for p in alice.problems() if p[1] == "shelf"], "peer.problem lists the held commit"
    own = w.commit(alice, "INSERT INTO public.note VALUES (6, 'w', 'a')")
    assert w.record.oracle().reachable(own.digest).isdisjoint({bad.digest, child.digest})
    w.commit(alice, "UPDATE public.note SET title = 'free again' WHERE id = 1")
    merge_until(alice, child)
    assert set(alice.rows(NOTE)) == {"1", "2", "3", "4", "5", "6"}
    assert not [p for p in alice.problems() if p[1] == "shelf"]


def test_a_commit_without_its_parents_or_sections_waits(world: MakeWorld) -> None:
    w = world()
    alice, bob = w.replicas
    first = w.commit(bob, "INSERT INTO public.note VALUES (1, 'a', 'a')")
    second = w.commit(bob, "UPDATE public.note SET title = 'b'")
    alice.receive([second])
    assert alice.merge() == []
    alice.receive_header(first)
    assert alice.merge() == []
    assert alice.rows(NOTE) == {}
    alice.receive_section(first, 1)
    w.show(alice)
    assert alice.rows(NOTE)["1"]["title"] == "b"


def test_a_section_with_other_bytes_than_the_header_says_is_refused(world: MakeWorld) -> None:
    w = world()
    alice, bob = w.replicas
    made = w.commit(bob, "INSERT INTO public.note VALUES (1, 'a', 'a')")
    alice.receive_header(made)
    with pytest.raises(psycopg.Error) as refusal:
        alice.execute("SELECT peer_internal.receive_section(%s, 1, %s)", made.digest, "1\tz\tz\n")
    assert (refusal.value.sqlstate or "").startswith("PG")
    w.show(alice, made)


# 14: unsigned commits


def test_an_unsigned_commit_never_leaves(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    before = alice.merged()
    alice.write("UPDATE public.note SET title = 'x'")
    assert alice.commit() is not None
    assert alice.merged() == before
    alice.sign()
    assert len(alice.merged()) == len(before) + 1


def test_a_new_key_re_authors_the_unsigned_suffix_and_old_ids_stay_known(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    olds = []
    for title in ("x", "y"):
        alice.write(f"UPDATE public.note SET title = '{title}'")
        olds.append(alice.commit())
    alice.key = PrivateKey.generate()
    alice.execute("SELECT peer_internal.set_identity(%s, %s)", alice.key.public_key, "alice again")
    made = w.record.gather(alice)
    assert [envelope.decoded().author for envelope in made] == [alice.key.public_key] * 2
    assert not {commit_id(envelope.digest) for envelope in made} & set(olds)
    for old in olds:
        assert alice.value("SELECT peer.wait_for('shelf', %s, '1 s')", old) is True
    w.show(bob, *made)
    w.exchange()
    assert bob.rows(NOTE)["1"]["title"] == "y"


# 15: forks


def test_both_branches_of_an_author_that_forked_are_merged_and_the_fork_is_reported(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    relation, ids = w.ids()
    origin = w.latest()
    now = origin.decoded().hlc
    ghost = w.ghost()
    stem = ghost.commit(now + 1, [origin], [update(relation, "1", {ids["title"]: "stem"})])
    left = ghost.commit(now + 2, [stem], [update(relation, "1", {ids["title"]: "left"})])
    left_2 = ghost.commit(now + 3, [left], [update(relation, "1", {ids["body"]: "left"})])
    right = ghost.commit(now + 4, [stem], [update(relation, "1", {ids["title"]: "right"})], previous=stem)
    right_2 = ghost.commit(now + 5, [right], [delete(relation, "1")])
    revived = ghost.commit(
        now + 6, [right_2, left_2], [insert(relation, list(ids.values()), {"1": ["r"] * len(ids)})]
    )
    assert left.decoded().seq == right.decoded().seq
    branches = [stem, left, left_2, right, right_2]
    w.record.add(branches)
    w.show(alice, *branches)
    w.show(bob, right_2, right, stem, left_2, left)
    for replica in w.replicas:
        w.record.check(replica, w.relations)
        heads = {head for author, _, _, head in replica.vector() if author == ghost.key.public_key}
        assert heads == {left_2.digest, right_2.digest}
        assert [p for p in replica.problems() if p[1] == "shelf"], "equivocation is reported"
    w.record.add([revived])
    for replica in w.replicas:
        w.show(replica, revived)
        w.record.check(replica, w.relations)
    assert alice.state_hash() == bob.state_hash()


def test_a_restored_database_takes_its_own_lost_commits_back_and_goes_on(world: MakeWorld) -> None:
    w = world("alice bob restored")
    alice, bob, restored = w.replicas
    restored.key = alice.key
    lost = w.commit(alice, "INSERT INTO public.note VALUES (1, 'lost', 'and found')")
    w.show(bob, lost)
    restored.execute("SELECT peer_internal.set_identity(%s, %s)", alice.key.public_key, "alice")
    w.show(restored, *bob.outgoing())
    assert restored.rows(NOTE)["1"]["title"] == "lost"
    mine = w.commit(restored, "UPDATE public.note SET title = 'after the restore'")
    assert (mine.decoded().author, mine.decoded().epoch) != (lost.decoded().author, lost.decoded().epoch)
    w.exchange()
