"""Manual mode: uncommitted work stays as it is whatever is merged, and conflicts once it is committed (rule 12)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from merge.world import NOTE, ONE_NOTE, World, merge_when_possible

from .sessions import PATIENCE, Sessions
from .test_rows import INCOMING, LOCAL, PAIRS

MakeWorld = Callable[..., World]


STANDS = {
    "same cell": ("1", {"title": "alice"}),
    "other cell": ("1", {"body": "alice"}),
    "key change": ("9", {"title": "first", "body": "text"}),
    "insert": ("2", {"title": "alice", "body": "alice"}),
    "upsert": ("2", {"title": "alice", "body": "alice"}),
    "key change onto": ("2", {"title": "first", "body": "text"}),
}
# `open`: the user's transaction still runs when the merge begins; `done`: it is over, but not committed by peer.commit
CASES = [
    *((*pair, "done") for pair in PAIRS),
    ("update", "same cell", "open"),
    ("delete", "same cell", "open"),
    ("insert", "insert", "open"),
]


@pytest.mark.parametrize(("incoming", "local", "when"), CASES)
def test_uncommitted_work_stays_and_says_what_it_had_not_seen(
    world: MakeWorld, sessions: Sessions, incoming: str, local: str, when: str
) -> None:
    w = world(mode="manual", rows=ONE_NOTE)
    alice, bob = w.replicas
    theirs = w.commit(bob, INCOMING[incoming])
    alice.receive([theirs])
    user = sessions.open(alice)
    user.run("BEGIN", LOCAL[local])
    if when == "open":
        merging = sessions.start(merge_when_possible, alice)
        sessions.until_waiting(alice, user)
        user.run("COMMIT")
    else:
        user.run("COMMIT")
        merging = sessions.start(alice.merge)
    assert [outcome for _, outcome, _ in merging.result(PATIENCE)] == ["merged"]
    assert w.record.gather(alice) == [], "a merge in manual mode seals nothing"
    rows = alice.rows(NOTE)
    if local in STANDS:
        key, cells = STANDS[local]
        assert cells.items() <= rows[key].items(), "what the user wrote stands"
    if local in ("delete", "key change"):
        assert "1" not in rows, "the user's delete stands"
    touched = (incoming, local) != ("update", "other cell")
    if not touched:
        assert rows["1"] == {"title": "bob", "body": "alice"}
    listed = alice.execute("SELECT count(*) FROM peer.conflict WHERE scope = 'local'")
    assert (listed[0][0] > 0) == touched, "peer.conflict tells of uncommitted work that met a commit"
    alice.commit()
    (committed,) = w.record.gather(alice)
    unseen = {digest for section in committed.decoded().sections for digest in section.unseen}
    assert unseen == ({theirs.digest} if touched else set())
    assert alice.status() == []
    assert alice.execute("SELECT count(*) FROM peer.conflict WHERE scope = 'local'") == [(0,)]
    w.exchange()


def test_a_merge_into_a_dirty_table_loses_nothing_while_users_go_on(
    world: MakeWorld, sessions: Sessions
) -> None:
    w = world(
        mode="manual", rows=["INSERT INTO public.note SELECT g, 'first', '' FROM generate_series(1, 20) AS g"]
    )
    alice, bob = w.replicas
    user = sessions.open(alice)
    user.run(
        "UPDATE public.note SET title = 'alice' WHERE id <= 10", "DELETE FROM public.note WHERE id IN (3, 13)"
    )
    first = w.commit(bob, "UPDATE public.note SET title = 'bob', body = 'bob' WHERE id BETWEEN 5 AND 15")
    second = w.commit(
        bob, "DELETE FROM public.note WHERE id IN (6, 16)", "INSERT INTO public.note VALUES (30, 'b', 'b')"
    )
    user.run(
        "BEGIN",
        "INSERT INTO public.note VALUES (30, 'a', 'a')",
        "UPDATE public.note SET body = 'a' WHERE id = 7",
    )
    alice.receive([first, second])
    merging = sessions.start(merge_when_possible, alice)
    sessions.until_waiting(alice, user)
    user.run("COMMIT")
    assert {outcome for _, outcome, _ in merging.result(PATIENCE)} == {"merged"}
    rows = alice.rows(NOTE)
    assert rows["5"] == {"title": "alice", "body": "bob"}
    assert rows["6"]["title"] == "alice", "a remote delete waits for the dirty row"
    assert rows["7"] == {"title": "alice", "body": "a"}
    assert rows["30"] == {"title": "a", "body": "a"}
    assert "16" not in rows
    assert "13" not in rows
    alice.commit()
    w.record.gather(alice)
    w.exchange()
    assert {c.kind for c in bob.conflicts(NOTE).values()} == {
        "update_update",
        "delete_update",
        "insert_insert",
    }
