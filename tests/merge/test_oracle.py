"""The oracle itself, on small histories whose answers can be read off the rules."""

from __future__ import annotations

import itertools

import pytest

from .histories import RELATION, History
from .oracle import Oracle

BOTH = {"x": "0", "y": "0"}


@pytest.fixture
def history() -> History:
    """One row `k` with x = y = 0, inserted by a1, that everybody saw."""
    history = History()
    history.commit("a1", 1, insert={"k": BOTH})
    return history


def test_the_greatest_concurrent_write_of_a_cell_wins_and_is_a_conflict(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "5"}})
    history.commit("b1", 6, "a1", update={"k": {"x": "6"}})
    assert history.row() == {"x": "6", "y": "0"}
    (conflict,) = history.conflicts()
    assert (conflict.kind, conflict.column, conflict.state) == ("update_update", "x", "settled")
    assert (conflict.base_value, conflict.winning_value, conflict.losing_value) == ("0", "6", "5")
    assert (history.name(conflict.winner), history.name(conflict.loser)) == ("b1", "a2")


def test_equal_clocks_are_ordered_by_author_and_then_by_commit(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "a"}})
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    assert history.row() == {"x": "b", "y": "0"}
    for name in ("b2", "b3"):
        history.commit(name, 9, "a1", update={"k": {"y": name}})
    greater = max(("b2", "b3"), key=lambda name: history.commits[name].digest)
    assert history.row() == {"x": "b", "y": greater}


def test_concurrent_writes_of_two_columns_merge_without_a_conflict(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "5"}})
    history.commit("b1", 6, "a1", update={"k": {"y": "6"}})
    assert history.row() == {"x": "5", "y": "6"}
    assert history.conflicts() == []


def test_a_later_write_is_no_conflict_with_what_it_saw(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "5"}})
    history.commit("b1", 6, "a2", update={"k": {"x": "6"}})
    assert history.conflicts() == []


def test_equal_values_are_no_conflict(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "7"}})
    history.commit("b1", 6, "a1", update={"k": {"x": "7"}})
    assert history.row() == {"x": "7", "y": "0"}
    assert history.conflicts() == []


def test_null_and_the_empty_string_are_different_values(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "\\N"}})
    history.commit("b1", 6, "a1", update={"k": {"x": ""}})
    (conflict,) = history.conflicts()
    assert (conflict.winning_value, conflict.losing_value) == ("", "\\N")


@pytest.mark.parametrize(("update", "delete"), [(5, 6), (6, 5)])
def test_a_delete_beats_a_concurrent_update_whatever_the_clocks_say(
    history: History, update: int, delete: int
) -> None:
    history.commit("b1", update, "a1", update={"k": {"x": "b"}})
    history.commit("c1", delete, "a1", delete="k")
    assert history.row() is None
    (conflict,) = history.conflicts()
    assert history.told() == {("delete_update", None, "c1", "b1", "settled")}
    assert conflict.base_value == BOTH
    assert conflict.winning_value is None
    assert conflict.losing_value == {"x": "b", "y": "0"}


def test_an_update_that_went_on_after_a_concurrent_delete_stays_annulled(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("c1", 6, "a1", delete="k")
    history.commit("b2", 7, "b1", update={"k": {"y": "b"}})
    assert history.row() is None
    (conflict,) = history.conflicts()
    assert history.told() == {("delete_update", None, "c1", "b2", "settled")}
    assert conflict.losing_value == {"x": "b", "y": "b"}


def test_an_insert_made_after_seeing_the_delete_revives_the_row_with_its_own_values(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("c1", 6, "a1", delete="k")
    history.commit("c2", 7, "c1", insert={"k": {"x": "c", "y": "c"}})
    assert history.row() == {"x": "c", "y": "c"}
    told = history.told()
    assert ("insert_update", "x", "c2", "b1", "settled") in told
    assert not any(kind.startswith("delete") for kind, *_ in told), "the insert superseded the delete"


def test_a_greater_concurrent_insert_revives_the_row_and_a_lesser_does_not(history: History) -> None:
    history.commit("a2", 2, "a1", delete="k")
    history.commit("b1", 5, "a2", insert={"k": {"x": "b", "y": "b"}})
    history.commit("c1", 7, "a2", insert={"k": {"x": "c", "y": "c"}})
    history.commit("b2", 6, "b1", delete="k")
    assert history.row() == {"x": "c", "y": "c"}
    assert ("delete_insert", None, "c1", "b2", "settled") in history.told()
    history.commit("b3", 8, "b2", insert={"k": {"x": "B", "y": "B"}})
    history.commit("b4", 9, "b3", delete="k")
    assert history.row() is None
    assert ("delete_insert", None, "b4", "c1", "settled") in history.told()


def test_an_update_of_a_revived_row_lives_through_the_old_delete(history: History) -> None:
    history.commit("a2", 2, "a1", delete="k")
    history.commit("b1", 5, "a2", insert={"k": {"x": "b", "y": "b"}})
    history.commit("c1", 4, "a2", insert={"k": {"x": "c", "y": "c"}})
    history.commit("c2", 6, "c1", delete="k")
    history.commit("b2", 7, "b1", update={"k": {"x": "bb"}})
    assert history.row() is None, "the delete is greater than the insert that b2 builds on"
    history.commit("c3", 8, "c2 b2", insert={"k": {"x": "z", "y": "z"}})
    assert history.row() == {"x": "z", "y": "z"}


def test_concurrent_inserts_of_one_key_conflict_by_cell(history: History) -> None:
    history.commit("b1", 5, "a1", insert={"n": {"x": "1", "y": "same"}})
    history.commit("c1", 6, "a1", insert={"n": {"x": "2", "y": "same"}})
    assert history.row("n") == {"x": "2", "y": "same"}
    (conflict,) = history.conflicts()
    assert (conflict.kind, conflict.column, conflict.base_value) == ("insert_insert", "x", None)
    assert (conflict.winning_value, conflict.losing_value) == ("2", "1")


def test_only_the_last_write_of_each_side_conflicts(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "5"}})
    history.commit("b1", 6, "a1", update={"k": {"x": "6"}})
    first = history.conflicts()[0]
    history.commit("a3", 7, "a2", update={"k": {"x": "7"}})
    assert history.told() == {("update_update", "x", "a3", "b1", "settled")}
    assert history.conflicts()[0].conflict_id != first.conflict_id
    history.commit("a4", 8, "a3", update={"k": {"x": "6"}})
    assert history.conflicts() == [], "both sides ended with the same value"


def test_a_write_that_saw_both_resolves_and_the_conflict_stays_listed(history: History) -> None:
    history.commit("a2", 5, "a1", update={"k": {"x": "5"}})
    history.commit("b1", 6, "a1", update={"k": {"x": "6"}})
    history.commit("c1", 7, "a2 b1", update={"k": {"y": "7"}})
    assert {state for *_, state in history.told()} == {"settled"}, "another column resolves nothing"
    history.commit("c2", 8, "c1", update={"k": {"x": "6"}})
    assert history.told() == {("update_update", "x", "b1", "a2", "resolved")}
    assert history.row() == {"x": "6", "y": "7"}


def test_a_delete_and_an_update_are_resolved_by_an_insert_that_saw_both(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("c1", 6, "a1", delete="k")
    history.commit("d1", 7, "b1 c1", insert={"k": BOTH})
    assert history.told() == {("delete_update", None, "c1", "b1", "resolved")}
    assert history.row() == BOTH


def test_three_concurrent_writes_make_three_conflicts(history: History) -> None:
    for name, hlc in (("b1", 5), ("c1", 6), ("d1", 7)):
        history.commit(name, hlc, "a1", update={"k": {"x": name}})
    assert {(winner, loser) for _, _, winner, loser, _ in history.told()} == {
        ("c1", "b1"),
        ("d1", "b1"),
        ("d1", "c1"),
    }


def test_a_commit_on_the_unseen_list_stays_concurrent(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("a2", 6, "b1", update={"k": {"x": "a"}}, unseen="b1")
    assert history.told() == {("update_update", "x", "a2", "b1", "settled")}
    assert history.conflicts()[0].base_value == "0"


def test_an_unseen_delete_annuls_the_update_that_did_not_see_it(history: History) -> None:
    history.commit("b1", 5, "a1", delete="k")
    history.commit("a2", 6, "b1", update={"k": {"x": "a"}}, unseen="b1")
    assert history.row() is None
    assert history.told() == {("delete_update", None, "b1", "a2", "settled")}
    history.commit("a3", 7, "a2", insert={"k": BOTH})
    assert history.row() == BOTH, "the next commit saw it"


def test_the_base_value_is_that_of_the_common_ancestry(history: History) -> None:
    history.commit("a2", 2, "a1", update={"k": {"x": "2"}})
    history.commit("b1", 3, "a1", update={"k": {"x": "3"}})
    history.commit("c1", 5, "a2 b1", update={"k": {"x": "5"}})
    history.commit("d1", 6, "a2 b1", update={"k": {"x": "6"}})
    bases = {c.base_value for c in history.conflicts() if history.name(c.winner) == "d1"}
    assert bases == {"3"}


def test_the_conflict_id_is_the_documented_hash() -> None:
    import hashlib

    history = History()
    history.commit("a1", 1, insert={"k\\t1\tü": {"x": "1"}})
    history.commit("b1", 2, insert={"k\\t1\tü": {"x": "2"}})
    text = f"{RELATION}|x|{history.commits['a1'].digest.hex()}|{history.commits['b1'].digest.hex()}|k\\t1\tü"
    assert history.conflicts()[0].conflict_id == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_a_commit_that_is_not_later_than_its_parent_is_refused(history: History) -> None:
    history.commit("b1", 1, "a1", update={"k": {"x": "1"}})
    with pytest.raises(ValueError, match="not later than its parent"):
        history.oracle()


def test_heads_are_the_commits_without_descendants(history: History) -> None:
    history.commit("b1", 2, "a1", update={"k": {"x": "1"}})
    history.commit("c1", 3, "a1", update={"k": {"x": "2"}})
    assert {history.name(head) for head in history.oracle().heads()} == {"b1", "c1"}
    history.commit("d1", 4, "b1 c1", update={"k": {"x": "2"}})
    assert {history.name(head) for head in history.oracle().heads()} == {"d1"}


def test_the_order_in_which_commits_are_given_changes_nothing(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("c1", 6, "a1", delete="k")
    history.commit("d1", 7, "c1", insert={"k": BOTH})
    history.commit("b2", 8, "b1 d1", update={"k": {"y": "b"}})
    answers = {
        (repr(Oracle(order).rows(RELATION)), repr(sorted(Oracle(order).conflicts().items())))
        for order in itertools.permutations(history.commits.values())
    }
    assert len(answers) == 1


def test_a_write_that_nothing_accounts_for_is_reported(history: History) -> None:
    history.commit("b1", 5, "a1", update={"k": {"x": "b"}})
    history.commit("c1", 6, "a1", update={"k": {"x": "c"}})
    oracle = history.oracle()
    assert oracle.lost_writes() == []
    oracle.conflicts = lambda relation=None: {}  # type: ignore[method-assign,assignment]  # a bookkeeper that forgets
    assert len(oracle.lost_writes()) == 1
