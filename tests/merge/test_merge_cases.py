"""One example per merge rule, on real databases. The number in a section's heading is the rule's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psycopg
import pytest

from .agreement import commit_id
from .ghost import update
from .world import NOTE, ONE_NOTE, UNIQUE_DDL, World, merge_when_possible

MakeWorld = Callable[..., World]


# 1, 2: order and ancestry


def test_a_commit_that_is_not_later_than_its_parent_is_never_merged(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    relation, ids = w.ids()
    parent = w.latest()
    early = w.ghost().commit(parent.decoded().hlc, [parent], [update(relation, "1", {ids["title"]: "early"})])
    with contextlib.suppress(psycopg.Error):
        assert "merged" not in {outcome for _, outcome, _ in alice.deliver([early])}
    assert early.digest not in alice.merged()
    assert alice.rows(NOTE)["1"]["title"] == "first"


@pytest.mark.parametrize("first", [1, 2])
def test_equal_clocks_are_decided_by_the_author(world: MakeWorld, first: int) -> None:
    w = world(rows=ONE_NOTE)
    relation, ids = w.ids()
    parent = w.latest()
    commits = [
        w.ghost(seed).commit(
            parent.decoded().hlc + 1, [parent], [update(relation, "1", {ids["title"]: f"ghost {seed}"})]
        )
        for seed in (first, 3 - first)
    ]
    w.record.add(commits)
    w.show(w.replicas[0], *commits)
    w.show(w.replicas[1], *reversed(commits))
    winner = max((1, 2), key=lambda seed: w.ghost(seed).key.public_key)
    assert w.replicas[0].rows(NOTE)["1"]["title"] == f"ghost {winner}"
    w.record.check_agreement(w.replicas, w.relations)


def test_a_commit_from_the_future_is_held_until_its_time_comes(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, _ = w.replicas
    relation, ids = w.ids()
    parent = w.latest()
    due_ms = int(time.time() * 1000) + 300_000 + 3_000
    future = w.ghost().commit(due_ms << 16, [parent], [update(relation, "1", {ids["title"]: "later"})])
    alice.deliver([future])
    assert future.digest not in alice.merged(), "not relayed"
    assert future.digest not in {head for *_, head in alice.vector()}, "not acknowledged"
    assert alice.rows(NOTE)["1"]["title"] == "first"
    assert [p for p in alice.problems() if p[1] == "shelf"], "peer.problem says why"
    own = w.commit(alice, "UPDATE public.note SET body = 'meanwhile'")
    assert own.decoded().hlc < future.decoded().hlc
    time.sleep(3.2)
    merge_when_possible(alice)
    assert future.digest in alice.merged()
    assert alice.rows(NOTE)["1"] == {"title": "later", "body": "meanwhile"}
    assert not [p for p in alice.problems() if p[1] == "shelf"]


# 3: rows and deletes


def test_a_delete_beats_a_concurrent_update_and_the_row_is_kept_in_the_conflict(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    w.commit(bob, "DELETE FROM public.note")
    w.commit(alice, "UPDATE public.note SET title = 'kept?'")
    w.exchange()
    assert alice.rows(NOTE) == {}
    (conflict,) = bob.conflicts(NOTE).values()
    assert (conflict.kind, conflict.column) == ("delete_update", None)
    assert conflict.winning_value is None
    assert "kept?" in (conflict.losing_value or "")


def test_an_insert_that_saw_the_delete_revives_the_row(world: MakeWorld) -> None:
    w = world("alice bob carol", rows=ONE_NOTE)
    alice, bob, carol = w.replicas
    removal = w.commit(bob, "DELETE FROM public.note")
    w.commit(carol, "UPDATE public.note SET body = 'of carol'")
    w.show(alice, removal)
    w.commit(alice, "INSERT INTO public.note VALUES (1, 'again', 'new')")
    w.exchange()
    assert carol.rows(NOTE) == {"1": {"title": "again", "body": "new"}}


# 4: batches


@pytest.mark.parametrize("batch", [1, 100])
def test_commits_merge_the_same_one_by_one_or_in_one_transaction(world: MakeWorld, batch: int) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    w.commit(alice, "UPDATE public.note SET title = 'a', body = 'a'")
    for statement in (
        "UPDATE public.note SET title = 'b1'",
        "DELETE FROM public.note",
        "INSERT INTO public.note VALUES (1, 'b2', 'b2'), (2, 'other', NULL)",
        "UPDATE public.note SET body = 'b3'",
    ):
        w.commit(bob, statement)
    alice.deliver(w.record.envelopes.values(), batch)
    w.record.check(alice, w.relations)
    w.exchange()


# 5: conflicts


def test_two_people_who_change_one_cell_conflict_once_and_a_later_write_resolves_it(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    a = w.commit(alice, "UPDATE public.note SET title = 'alice'")
    b = w.commit(bob, "UPDATE public.note SET title = 'bob', body = 'bob'")
    w.exchange()
    (conflict,) = alice.conflicts(NOTE).values()
    assert (conflict.column, conflict.kind, conflict.state) == ("title", "update_update", "settled")
    assert (conflict.base_value, conflict.winning_value, conflict.losing_value) == ("first", "bob", "alice")
    assert (conflict.winner, conflict.loser) == (commit_id(b.digest), commit_id(a.digest))
    assert alice.rows(NOTE) == {"1": {"title": "bob", "body": "bob"}}
    w.commit(alice, "UPDATE public.note SET title = 'both'")
    w.exchange()
    (resolved,) = bob.conflicts(NOTE).values()
    assert (resolved.conflict_id, resolved.state) == (conflict.conflict_id, "resolved")


def test_the_same_value_written_twice_is_no_conflict(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    for replica in w.replicas:
        w.commit(replica, "UPDATE public.note SET title = 'same'")
    w.exchange()
    assert w.replicas[0].conflicts(NOTE) == {}


def test_a_later_write_of_one_side_takes_the_conflict_over(world: MakeWorld) -> None:
    w = world("alice bob carol", rows=ONE_NOTE)
    alice, bob, carol = w.replicas
    first = w.commit(alice, "UPDATE public.note SET title = 'a1'")
    other = w.commit(bob, "UPDATE public.note SET title = 'b'")
    w.show(carol, first, other)
    early = set(carol.conflicts(NOTE))
    w.commit(alice, "UPDATE public.note SET title = 'a2'")
    w.exchange()
    (conflict,) = carol.conflicts(NOTE).values()
    assert {conflict.conflict_id}.isdisjoint(early)
    assert {conflict.winning_value, conflict.losing_value} == {"a2", "b"}


def test_concurrent_inserts_of_one_key_merge_by_cell(world: MakeWorld) -> None:
    w = world()
    alice, bob = w.replicas
    w.commit(alice, "INSERT INTO public.note VALUES (5, 'alice', 'same')")
    w.commit(bob, "INSERT INTO public.note VALUES (5, 'bob', 'same')")
    w.exchange()
    (conflict,) = alice.conflicts(NOTE).values()
    assert (conflict.kind, conflict.column, conflict.base_value) == ("insert_insert", "title", None)


# 20 (its last sentence) and keys that move


def test_two_concurrent_key_moves_give_two_rows_and_no_row_under_the_old_key(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    w.commit(alice, "UPDATE public.note SET id = 2")
    w.commit(bob, "UPDATE public.note SET id = 3")
    w.exchange()
    assert set(alice.rows(NOTE)) == {"2", "3"}


def test_a_key_that_moved_and_an_update_of_the_old_row_make_a_conflict(world: MakeWorld) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    w.commit(alice, "UPDATE public.note SET id = 2")
    w.commit(bob, "UPDATE public.note SET title = 'bob'")
    w.exchange()
    assert set(bob.rows(NOTE)) == {"2"}
    assert [c.kind for c in bob.conflicts(NOTE).values()] == ["delete_update"]


def test_unique_values_and_keys_may_be_swapped(world: MakeWorld) -> None:
    rows = ["INSERT INTO public.note VALUES (1, 'one', 'x'), (2, 'two', 'y')"]
    w = world(ddl=UNIQUE_DDL, rows=rows)
    alice, bob = w.replicas
    values = w.commit(
        alice,
        "UPDATE public.note SET title = 'hold' WHERE id = 1",
        "UPDATE public.note SET title = 'one' WHERE id = 2",
        "UPDATE public.note SET title = 'two' WHERE id = 1",
    )
    w.show(bob, values)
    keys = w.commit(
        bob,
        "UPDATE public.note SET id = 9 WHERE id = 1",
        "UPDATE public.note SET id = 1 WHERE id = 2",
        "UPDATE public.note SET id = 2 WHERE id = 9",
    )
    w.show(alice, keys)
    w.exchange()
    assert alice.rows(NOTE) == {"1": {"title": "one", "body": "y"}, "2": {"title": "two", "body": "x"}}
