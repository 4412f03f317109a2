"""A user's write of a row against a merge of the same row, in both orders (merge rules 7 and 11)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from merge.replica import Replica
from merge.world import NOTE, ONE_NOTE, World, merge_when_possible

from .open_merge import begin_merge, end_merge
from .sessions import PATIENCE, Sessions

MakeWorld = Callable[..., World]
INCOMING = {
    "update": "UPDATE public.note SET title = 'bob' WHERE id = 1",
    "delete": "DELETE FROM public.note WHERE id = 1",
    "insert": "INSERT INTO public.note VALUES (2, 'bob', 'bob')",
}
LOCAL = {
    "same cell": "UPDATE public.note SET title = 'alice' WHERE id = 1",
    "other cell": "UPDATE public.note SET body = 'alice' WHERE id = 1",
    "delete": "DELETE FROM public.note WHERE id = 1",
    "key change": "UPDATE public.note SET id = 9 WHERE id = 1",
    "insert": "INSERT INTO public.note VALUES (2, 'alice', 'alice')",
    "upsert": "INSERT INTO public.note VALUES (2, 'alice', 'alice')"
    " ON CONFLICT (id) DO UPDATE SET title = excluded.title",
    "key change onto": "UPDATE public.note SET id = 2 WHERE id = 1",
}
PAIRS = [
    *(
        (incoming, local)
        for incoming in ("update", "delete")
        for local in ("same cell", "other cell", "delete", "key change")
    ),
    *(("insert", local) for local in ("insert", "upsert", "key change onto")),
]
# How many conflicts two concurrent writes leave, one per cell or for the row's existence.
CONFLICTS = {
    ("update", "same cell"): 1,
    ("update", "delete"): 1,
    ("update", "key change"): 1,
    ("delete", "same cell"): 1,
    ("delete", "other cell"): 1,
    ("insert", "insert"): 2,
    ("insert", "upsert"): 2,
    ("insert", "key change onto"): 2,
}


@pytest.mark.parametrize(("incoming", "local"), PAIRS)
def test_a_merge_waits_for_an_open_write_of_its_row_and_both_count(
    world: MakeWorld, sessions: Sessions, incoming: str, local: str
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, INCOMING[incoming])
    user = sessions.open(alice)
    user.run("BEGIN", LOCAL[local])
    alice.receive([theirs])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, user)
    user.run("COMMIT")
    assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"]
    (sealed,) = w.record.gather(alice)
    assert theirs.digest not in w.record.oracle().reachable(sealed.digest), "the write had not seen the merge"
    assert len(alice.conflicts(NOTE)) == CONFLICTS.get((incoming, local), 0)
    w.exchange()


@pytest.mark.parametrize(("incoming", "local"), PAIRS)
def test_a_write_waits_for_an_open_merge_of_its_row_and_has_seen_it(
    world: MakeWorld, sessions: Sessions, incoming: str, local: str
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, INCOMING[incoming])
    user = sessions.open(alice)
    alice.receive([theirs])
    begin_merge(alice)
    writing = user.start(LOCAL[local])
    sessions.until_waiting(user, alice)
    end_merge(alice)
    if local in ("insert", "key change onto"):
        with pytest.raises(psycopg.errors.UniqueViolation):
            writing.result(PATIENCE)
    else:
        writing.result(PATIENCE)
    alice.commit()
    for sealed in w.record.gather(alice):
        assert theirs.digest in w.record.oracle().reachable(sealed.digest)
    assert alice.conflicts(NOTE) == {}
    w.exchange()


@pytest.mark.parametrize(
    ("incoming", "local"), [("update", "delete"), ("delete", "key change"), ("insert", "insert")]
)
def test_a_write_that_is_rolled_back_leaves_no_trace_in_a_merge(
    world: MakeWorld, sessions: Sessions, incoming: str, local: str
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, INCOMING[incoming])
    user = sessions.open(alice)
    user.run("BEGIN", LOCAL[local])
    alice.receive([theirs])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, user)
    user.run("ROLLBACK")
    assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"]
    assert w.record.gather(alice) == []
    assert alice.rows(NOTE) == bob.rows(NOTE)
    w.exchange()


def test_a_row_inserted_while_the_merge_already_writes_is_not_overwritten(
    world: MakeWorld, sessions: Sessions
) -> None:
    """The merge stands still at its first row; meanwhile a user inserts its last one."""
    w = world()
    alice, bob = w.replicas
    theirs = w.commit(bob, "INSERT INTO public.note SELECT g, 'bob', 'bob' FROM generate_series(1, 3) AS g")
    first, last = sessions.open(alice), sessions.open(alice)
    first.run("BEGIN", "INSERT INTO public.note VALUES (1, 'in the way', '')")
    alice.receive([theirs])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, first)
    last.run("INSERT INTO public.note VALUES (3, 'alice', 'alice')")
    first.run("ROLLBACK")
    assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"]
    assert len(alice.conflicts(NOTE)) == 2
    w.exchange()


def test_a_row_deleted_while_the_merge_already_waits_stays_deleted_or_conflicts(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=["INSERT INTO public.note SELECT g, 'first', '' FROM generate_series(1, 3) AS g"])
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob'")
    first, last = sessions.open(alice), sessions.open(alice)
    first.run("BEGIN", "UPDATE public.note SET body = 'x' WHERE id = 1")
    alice.receive([theirs])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, first)
    last.run("DELETE FROM public.note WHERE id = 3", "UPDATE public.note SET id = 22 WHERE id = 2")
    first.run("COMMIT")
    assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"]
    assert set(alice.rows(NOTE)) == {"1", "22"}
    assert {c.kind for c in alice.conflicts(NOTE).values()} == {"delete_update"}
    w.exchange()


def test_a_key_that_comes_and_goes_around_a_merge_ends_alike_everywhere(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, "UPDATE public.note SET title = 'bob' WHERE id = 1")
    user = sessions.open(alice)
    user.run(
        "BEGIN",
        "UPDATE public.note SET id = 7 WHERE id = 1",
        "INSERT INTO public.note VALUES (1, 'new', 'new')",
        "UPDATE public.note SET body = 'b' WHERE id = 7",
    )
    alice.receive([theirs])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, user)
    user.run("COMMIT")
    merging.result(PATIENCE)
    assert set(alice.rows(NOTE)) == {"1", "7"}
    w.exchange()


def test_two_merges_of_one_bundle_take_turns(world: MakeWorld, sessions: Sessions) -> None:
    w = world()
    alice, bob = w.replicas
    envelopes = [w.commit(bob, f"INSERT INTO public.note VALUES ({n}, 'x', '')") for n in range(5)]
    second = Replica("second", alice.dsn, alice.key)
    second.bundle, second.bundle_id = alice.bundle, alice.bundle_id
    try:
        alice.receive(envelopes)
        begin_merge(alice)
        merging = sessions.start(second.merge)
        sessions.until_waiting(second, alice)
        ((_, outcome, _),) = alice.execute("SELECT * FROM peer_internal.merge_next(%s, 1)", alice.bundle_id)
        assert outcome == "merged"
        end_merge(alice)
        assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"] * 3
        assert alice.merge() == []
    finally:
        second.close()
    w.exchange()


def test_a_seal_waits_for_a_merge_and_has_seen_it(world: MakeWorld, sessions: Sessions) -> None:
    w = world(rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, INCOMING["update"])
    user = sessions.open(alice)
    alice.receive([theirs])
    begin_merge(alice)
    user.run("INSERT INTO public.note VALUES (5, 'alice', '')")
    sealing = user.start("SELECT peer.commit('shelf')")
    sessions.until_waiting(user, alice)
    end_merge(alice)
    assert sealing.result(PATIENCE) != [(None,)]
    (sealed,) = w.record.gather(alice)
    assert sealed.decoded().parents == (theirs.digest,)
    w.exchange()
