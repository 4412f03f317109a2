"""Constraints against rows that are not sealed, or not even committed, when a merge comes (merge rules 7, 10 and 13)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from fixtures.versions import DEFAULT
from merge.replica import Relation
from merge.world import NOTE, UNIQUE_DDL, World, merge_until, merge_when_possible

from .open_merge import begin_merge, end_merge
from .sessions import PATIENCE, Sessions

MakeWorld = Callable[..., World]
FAMILY = [
    Relation("public", "parent", ("id",), ("name",)),
    Relation("public", "child", ("id",), ("parent", "name")),
]
FAMILY_DDL = [
    "CREATE TABLE public.parent (id integer PRIMARY KEY, name text)",
    "CREATE TABLE public.child (id integer PRIMARY KEY,"
    " parent integer REFERENCES public.parent ON DELETE CASCADE, name text)",
    "INSERT INTO public.parent VALUES (1, 'p'), (2, 'q')",
    "INSERT INTO public.child VALUES (1, 1, 'c')",
]


@pytest.mark.parametrize("when", ["committed", "open", "rolled back"])
def test_a_unique_value_of_a_local_row_is_not_lost_to_a_merge(
    world: MakeWorld, sessions: Sessions, when: str
) -> None:
    """The local row stands and is committed; the incoming commit is held with its reason, and so are its descendants."""
    w = world(ddl=UNIQUE_DDL)
    alice, bob = w.replicas
    theirs = w.commit(bob, "INSERT INTO public.note VALUES (2, 'taken', 'bob')")
    harmless = w.commit(bob, "INSERT INTO public.note VALUES (4, 'free', 'bob')")
    alice.receive([theirs, harmless])
    user = sessions.open(alice)
    user.run("BEGIN", "INSERT INTO public.note VALUES (3, 'taken', 'alice')")
    if when == "committed":
        user.run("COMMIT")
        outcomes = alice.merge()
    else:
        merging = sessions.start(merge_when_possible, alice)
        sessions.until_waiting(alice, user)
        user.run("COMMIT" if when == "open" else "ROLLBACK")
        outcomes = merging.result(PATIENCE)
    if when == "rolled back":
        assert {outcome for _, outcome, _ in outcomes} == {"merged"}
        w.exchange()
        return
    assert [(digest, outcome) for digest, outcome, _ in outcomes] == [(theirs.digest, "held")]
    assert alice.rows(NOTE) == {"3": {"title": "taken", "body": "alice"}}
    alice.seal()
    assert alice.status() == []
    (sealed,) = w.record.gather(alice)
    assert theirs.digest not in w.record.oracle().reachable(sealed.digest)
    assert [o.key for o in sealed.commit().operations] == ["3"]
    assert [problem[0] for problem in alice.problems()] == ["constraint_violation"]
    alice.write("UPDATE public.note SET title = 'another' WHERE id = 3")
    alice.commit()
    w.record.gather(alice)
    merge_until(alice, harmless)
    # bob has the row that stands in the way of alice's first commit, until he sees her second one
    bob.write("UPDATE public.note SET title = 'bob keeps this' WHERE id = 2")
    bob.commit()
    w.record.gather(bob)
    w.exchange()


RIVALS = {
    "unique": ("UNIQUE (title)", "'x'", "'x'"),
    "deferrable unique": ("UNIQUE (title) DEFERRABLE INITIALLY DEFERRED", "'x'", "'x'"),
    "nulls not distinct": ("UNIQUE NULLS NOT DISTINCT (title)", "NULL", "NULL"),
    "deferrable nulls not distinct": ("UNIQUE NULLS NOT DISTINCT (title) DEFERRABLE", "NULL", "NULL"),
    "exclusion": ("EXCLUDE USING gist (int4range(length(title), 10) WITH &&)", "'xx'", "'xxx'"),
    "deferrable exclusion": (
        "EXCLUDE USING gist (int4range(length(title), 10) WITH &&) DEFERRABLE INITIALLY DEFERRED",
        "'xx'",
        "'xxx'",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                "NULLS NOT DISTINCT" in constraint and int(DEFAULT) < 15,
                reason=f"PostgreSQL {DEFAULT} has no NULLS NOT DISTINCT",
            ),
        )
        for name, (constraint, *_) in RIVALS.items()
    ],
)
def test_no_constraint_between_rows_is_broken_by_a_merge(world: MakeWorld, name: str) -> None:
    constraint, mine, yours = RIVALS[name]
    w = world(ddl=[f"CREATE TABLE public.note (id integer PRIMARY KEY, title text, body text, {constraint})"])
    alice, bob = w.replicas
    theirs = w.commit(bob, f"INSERT INTO public.note VALUES (1, {yours}, 'bob')")
    alice.write(f"INSERT INTO public.note VALUES (2, {mine}, 'alice')")
    ((_, outcome, _),) = alice.deliver([theirs])
    assert outcome == "held"
    assert set(alice.rows(NOTE)) == {"2"}
    alice.seal()
    alice.write("DELETE FROM public.note")
    alice.seal()
    w.record.gather(alice)
    bob.write("DELETE FROM public.note")
    bob.seal()
    w.record.gather(bob)
    w.exchange()


@pytest.mark.parametrize("order", ["child first", "merge first"])
def test_a_child_written_beside_the_merge_that_deletes_its_parent_is_no_orphan(
    world: MakeWorld, sessions: Sessions, order: str
) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, bob = w.replicas
    removal = w.commit(bob, "DELETE FROM public.parent WHERE id = 2")
    alice.receive([removal])
    user = sessions.open(alice)
    statement = "INSERT INTO public.child VALUES (9, 2, 'late')"
    if order == "child first":
        user.run("BEGIN", statement)
        merging = sessions.start(merge_when_possible, alice)
        sessions.until_waiting(alice, user)
        user.run("COMMIT")
        assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["held"]
        assert set(alice.rows(FAMILY[0])) == {"1", "2"}
        assert set(alice.rows(FAMILY[1])) == {"1", "9"}
        user.run("UPDATE public.child SET parent = 1 WHERE id = 9")
        alice.commit()
        w.record.gather(alice)
        merge_until(alice, removal)
        late = [e for e in w.record.envelopes.values() if e.digest not in bob.merged()]
        bob.deliver(late)
        for envelope in late:
            merge_until(bob, envelope)
    else:
        begin_merge(alice)
        writing = user.start(statement)
        sessions.until_waiting(user, alice)
        end_merge(alice)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            writing.result(PATIENCE)
        assert set(alice.rows(FAMILY[1])) == {"1"}
    w.exchange()


@pytest.mark.parametrize("order", ["delete first", "merge first"])
def test_a_parent_deleted_beside_the_merge_that_brings_a_child_leaves_no_orphan(
    world: MakeWorld, sessions: Sessions, order: str
) -> None:
    w = world(relations=FAMILY, ddl=FAMILY_DDL)
    alice, bob = w.replicas
    birth = w.commit(bob, "INSERT INTO public.child VALUES (9, 2, 'bob')")
    alice.receive([birth])
    user = sessions.open(alice)
    statement = "DELETE FROM public.parent WHERE id = 2"
    if order == "delete first":
        user.run("BEGIN", statement)
        merging = sessions.start(merge_when_possible, alice)
        sessions.until_waiting(alice, user)
        user.run("COMMIT")
        assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["held"]
        assert set(alice.rows(FAMILY[1])) == {"1"}
        user.run("INSERT INTO public.parent VALUES (2, 'again')")
        alice.commit()
        merge_until(alice, birth)
    else:
        begin_merge(alice)
        deleting = user.start(statement)
        sessions.until_waiting(user, alice)
        end_merge(alice)
        deleting.result(PATIENCE)
        assert set(alice.rows(FAMILY[1])) == {"1"}, "the cascade took the child that the merge had brought"
    orphans = "SELECT count(*) FROM public.child AS c WHERE NOT EXISTS (SELECT FROM public.parent AS p WHERE p.id = c.parent)"
    assert alice.value(orphans) == 0
    w.exchange()


def test_a_foreign_key_that_matches_fully_or_not_at_all_stays_so(world: MakeWorld) -> None:
    """Two peers change different halves of one reference."""
    relations = [Relation("public", "spot", ("a", "b"), ()), Relation("public", "visit", ("id",), ("x", "y"))]
    w = world(
        relations=relations,
        ddl=[
            "CREATE TABLE public.spot (a integer, b integer, PRIMARY KEY (a, b))",
            "CREATE TABLE public.visit (id integer PRIMARY KEY, x integer, y integer,"
            " FOREIGN KEY (x, y) REFERENCES public.spot MATCH FULL)",
            "INSERT INTO public.spot VALUES (1, 1), (1, 2)",
            "INSERT INTO public.visit VALUES (1, 1, 1)",
        ],
    )
    alice, bob = w.replicas
    w.commit(alice, "UPDATE public.visit SET x = NULL, y = NULL")
    theirs = w.commit(bob, "UPDATE public.visit SET y = 2")
    ((_, outcome, _),) = alice.deliver([theirs])
    assert outcome == "held"
    assert alice.rows(relations[1])["1"] == {"x": "\\N", "y": "\\N"}
    w.commit(alice, "DELETE FROM public.visit")
    w.commit(bob, "DELETE FROM public.visit")
    w.exchange()


def test_a_merge_yields_to_a_user_who_locks_the_whole_table(world: MakeWorld, sessions: Sessions) -> None:
    w = world()
    alice, bob = w.replicas
    alice.receive([w.commit(bob, "INSERT INTO public.note VALUES (1, 'bob', '')")])
    user = sessions.open(alice)
    user.run("BEGIN", "LOCK TABLE public.note")
    merging = sessions.start(alice.merge)
    sessions.until_waiting(alice, user)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        merging.result(PATIENCE)
    user.run("INSERT INTO public.note VALUES (2, 'alice', '')", "SELECT peer.commit('shelf')", "COMMIT")
    merge_when_possible(alice)
    w.record.gather(alice)
    w.exchange()
