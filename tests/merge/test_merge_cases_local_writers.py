"""Merge rules 6 to 12: what a merge and local writers owe each other, on real databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from .replica import Relation
from .world import NOTE, ONE_NOTE, World, merge_when_possible

MakeWorld = Callable[..., World]
FAMILY = [
    Relation("public", "parent", ("id",), ("name",)),
    Relation("public", "child", ("id",), ("parent", "name")),
]
FAMILY_DDL = [
    "CREATE TABLE public.parent (id integer PRIMARY KEY, name text)",
    "CREATE TABLE public.child (id integer PRIMARY KEY,"
    " parent integer REFERENCES public.parent ON DELETE CASCADE, name text)",
    "INSERT INTO public.parent VALUES (1, 'p')",
    "INSERT INTO public.child VALUES (1, 1, 'c'), (2, 1, 'd')",
]


# 6, 7, 8: local writers against a merge


def test_a_merge_waits_for_the_bundle_lock_and_then_sees_what_was_committed(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob'")
    bob_side = psycopg.connect(alice.dsn, autocommit=True)
    with bob_side:
        bob_side.execute("SELECT peer_internal.lock_bundle(%s)", [alice.bundle_id])
        alice.receive([theirs])
        merging = threading.Thread(target=merge_when_possible, args=[alice])
        merging.start()
        bob_side.execute("UPDATE public.note SET body = 'local'")
        bob_side.execute("SELECT peer_internal.unlock_bundle(%s)", [alice.bundle_id])
        merging.join(20)
    assert not merging.is_alive()
    assert alice.rows(NOTE)["1"] == {"title": "bob", "body": "local"}
    w.exchange()


def test_a_row_that_an_open_transaction_inserted_is_not_overwritten(world: MakeWorld) -> None:
    w = world()
    alice, bob = w.replicas
    theirs = w.commit(bob, "INSERT INTO public.note VALUES (1, 'bob', 'bob')")
    user = psycopg.connect(alice.dsn)
    with user:
        user.execute("INSERT INTO public.note VALUES (1, 'alice', 'alice')")
        alice.receive([theirs])
        merging = threading.Thread(target=merge_when_possible, args=[alice])
        merging.start()
        time.sleep(0.3)
        user.commit()
        merging.join(20)
    assert not merging.is_alive()
    w.exchange()
    assert len(alice.conflicts(NOTE)) == 2
    assert alice.rows(NOTE)["1"] == {"title": "alice", "body": "alice"}


def test_a_merge_yields_to_a_user_who_holds_the_row(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob'")
    user = psycopg.connect(alice.dsn)
    with user:
        user.execute("UPDATE public.note SET body = 'alice'")
        alice.receive([theirs])
        begun = time.monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            alice.merge()
        deadlock_timeout = 1.0
        assert time.monotonic() - begun < deadlock_timeout
        user.commit()
    assert [outcome for _, outcome, _ in alice.merge()] == ["merged"]
    assert alice.rows(NOTE)["1"] == {"title": "bob", "body": "alice"}
    w.exchange()


# 9: one snapshot


def test_a_users_transaction_lies_wholly_inside_one_commit(world: MakeWorld) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, _ = w.replicas
    made = w.commit(
        alice, "UPDATE public.parent SET name = 'q'", "INSERT INTO public.child VALUES (3, 1, 'e')"
    )
    assert {(s.op, w.record.names[s.relation]) for s in made.decoded().sections} == {
        ("UPDATE", "parent"),
        ("INSERT", "child"),
    }
    w.exchange()


def test_a_commit_inside_a_transaction_takes_what_that_transaction_did_so_far(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    with alice.connection.transaction():
        alice.connection.execute("UPDATE public.note SET title = 'so far'")
        alice.connection.execute("SELECT peer.commit('shelf')")
        alice.connection.execute("UPDATE public.note SET title = 'later'")
    (made,) = w.record.gather(alice)
    (operation,) = made.commit().operations
    assert [value for _, value in operation.cells] == ["so far"]
    w.exchange()
    assert w.replicas[1].rows(NOTE)["1"]["title"] == "later"


def test_a_row_that_came_and_went_between_two_commits_leaves_no_trace(world: MakeWorld) -> None:
    w = world()
    alice, _ = w.replicas
    alice.write("INSERT INTO public.note VALUES (1, 'a', 'b')")
    alice.write("DELETE FROM public.note")
    assert alice.commit() is None


def test_a_row_that_was_deleted_and_inserted_again_is_an_update_of_every_column(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    made = w.commit(
        w.replicas[0], "DELETE FROM public.note", "INSERT INTO public.note VALUES (1, 'first', 'new')"
    )
    (operation,) = made.commit().operations
    assert operation.op == "UPDATE"
    assert sorted(value for _, value in operation.cells) == ["first", "new"]
    w.exchange()


# 10: foreign keys


def test_a_cascade_travels_as_the_authors_own_deletes(world: MakeWorld) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, bob = w.replicas
    made = w.commit(alice, "DELETE FROM public.parent")
    assert sorted((s.op, s.rows) for s in made.decoded().sections) == [("DELETE", 1), ("DELETE", 2)]
    w.show(bob, made)
    assert bob.rows(FAMILY[1]) == {}
    assert bob.commit() is None, "the merge caused no writes of its own"
    w.exchange()


def test_a_merge_takes_rows_in_any_order_of_parents_and_children(world: MakeWorld) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, bob = w.replicas
    both = w.commit(
        alice,
        "INSERT INTO public.parent VALUES (2, 'p')",
        "UPDATE public.child SET parent = 2 WHERE id = 1",
        "DELETE FROM public.child WHERE id = 2",
        "DELETE FROM public.parent WHERE id = 1",
    )
    w.show(bob, both)
    w.exchange()


def test_a_commit_whose_row_would_lose_its_parent_is_held_whole(world: MakeWorld) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, bob = w.replicas
    w.commit(bob, "DELETE FROM public.parent WHERE id = 1")
    orphan = w.commit(
        alice, "INSERT INTO public.child VALUES (9, 1, 'o')", "INSERT INTO public.parent VALUES (8, 'x')"
    )
    outcomes = bob.deliver([orphan])
    assert {outcome for _, outcome, _ in outcomes} == {"held"}
    assert bob.rows(FAMILY[0]) == {}
    assert bob.rows(FAMILY[1]) == {}
    assert [p for p in bob.problems() if p[1] == "shelf"]


# 11: auto mode


def test_a_merge_first_seals_local_work_with_the_heads_from_before_the_merge(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob'")
    alice.write("UPDATE public.note SET title = 'alice'", "INSERT INTO public.note VALUES (2, 'n', 'n')")
    w.show(alice, theirs)
    (sealed,) = w.record.gather(alice)
    assert theirs.digest not in w.record.oracle().reachable(sealed.digest)
    assert len(sealed.commit().operations) == 2
    w.record.check(alice, w.relations)
    assert len(alice.conflicts(NOTE)) == 1
    w.exchange()


# 12: manual mode


def test_a_dirty_cell_stays_and_what_it_did_not_see_is_listed(world: MakeWorld) -> None:
    w = world(mode="manual", rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob', body = 'bob'")
    alice.write("UPDATE public.note SET title = 'alice'")
    w.show(alice, theirs)
    assert alice.rows(NOTE)["1"] == {"title": "alice", "body": "bob"}
    alice.commit()
    (mine,) = w.record.gather(alice)
    (section,) = mine.decoded().sections
    assert section.unseen == (theirs.digest,)
    w.exchange()
    (conflict,) = bob.conflicts(NOTE).values()
    assert (conflict.winning_value, conflict.losing_value) == ("alice", "bob")


def test_cells_that_became_dirty_at_different_times_have_their_own_unseen_lists(world: MakeWorld) -> None:
    w = world(mode="manual", rows=ONE_NOTE)
    alice, bob = w.replicas
    alice.write("UPDATE public.note SET title = 'alice'")
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob', body = 'bob'")
    w.show(alice, theirs)
    alice.write("UPDATE public.note SET body = 'alice, having read bob'")
    alice.commit()
    (mine,) = w.record.gather(alice)
    sections = {s.unseen: [w.record.names[c] for c in s.columns] for s in mine.decoded().sections}
    assert sections == {(theirs.digest,): ["title"], (): ["body"]}
    w.exchange()
    assert {c.column for c in bob.conflicts(NOTE).values()} == {"title"}


def test_a_delete_of_a_dirty_row_waits_until_the_row_is_committed(world: MakeWorld) -> None:
    w = world(mode="manual", rows=ONE_NOTE)
    alice, bob = w.replicas
    removal = w.commit(bob, "DELETE FROM public.note")
    alice.write("UPDATE public.note SET title = 'alice'")
    w.show(alice, removal)
    assert alice.rows(NOTE)["1"]["title"] == "alice"
    alice.commit()
    alice.merge()
    assert alice.rows(NOTE) == {}
    w.exchange()
    (conflict,) = bob.conflicts(NOTE).values()
    assert (conflict.kind, conflict.losing_value is not None) == ("delete_update", True)


def test_a_row_deleted_here_and_there_and_inserted_again_here_is_not_lost_silently(world: MakeWorld) -> None:
    w = world(mode="manual", rows=ONE_NOTE)
    alice, bob = w.replicas
    removal = w.commit(bob, "DELETE FROM public.note")
    alice.write("DELETE FROM public.note")
    w.show(alice, removal)
    alice.write("INSERT INTO public.note VALUES (1, 'again', 'again')")
    alice.commit()
    alice.merge()
    w.exchange()
    assert bob.rows(NOTE) or bob.conflicts(NOTE), "the insert stands or a conflict tells"


def test_a_row_inserted_here_and_there_before_a_commit_conflicts(world: MakeWorld) -> None:
    w = world(mode="manual")
    alice, bob = w.replicas
    theirs = w.commit(bob, "INSERT INTO public.note VALUES (1, 'bob', 'same')")
    alice.write("INSERT INTO public.note VALUES (1, 'alice', 'same')")
    w.show(alice, theirs)
    assert alice.rows(NOTE)["1"]["title"] == "alice"
    w.exchange()
    (conflict,) = bob.conflicts(NOTE).values()
    assert (conflict.kind, conflict.winning_value, conflict.losing_value) == ("insert_insert", "alice", "bob")


def test_an_insert_that_is_taken_back_uncovers_the_row_of_others(world: MakeWorld) -> None:
    w = world(mode="manual")
    alice, bob = w.replicas
    theirs = w.commit(bob, "INSERT INTO public.note VALUES (1, 'bob', 'b')")
    alice.write("INSERT INTO public.note VALUES (1, 'alice', 'a')")
    w.show(alice, theirs)
    alice.write("DELETE FROM public.note")
    alice.commit()
    alice.merge()
    w.record.check(alice, w.relations)
    w.exchange()


def test_an_update_that_only_part_of_a_later_commit_saw_conflicts_with_a_delete_everywhere(
    world: MakeWorld,
) -> None:
    """The existence of a row is judged by the union of the unseen lists, in whatever order commits arrive."""
    w = world("alice bob carol", mode="manual", rows=ONE_NOTE)
    alice, bob, carol = w.replicas
    alice.write("UPDATE public.note SET title = 'alice', body = 'alice'")
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob'")
    removal = w.commit(carol, "DELETE FROM public.note")
    w.show(alice, theirs)
    alice.commit()
    (mine,) = w.record.gather(alice)
    assert sorted(section.unseen for section in mine.decoded().sections) == [(), (theirs.digest,)]
    w.show(alice, removal)
    w.show(carol, theirs, mine)
    for replica in (alice, carol):
        w.record.check(replica, w.relations)
    w.exchange()
