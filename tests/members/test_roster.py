"""What a set of grants means: examples, and the pure function beside an oracle."""

from __future__ import annotations

import hashlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.identity.grant import Grant, SignedGrant, sign_grant
from pgpeer.identity.roster import roster

from .cast import Cast, key_of, peer
from .roster_oracle import RosterOracle

NAMES = ["ann", "bob", "cid", "dora", "eve", "finn"]


def test_the_creator_is_an_admin_and_nobody_else_is_anything() -> None:
    assert Cast().roster().roles == {peer("ann"): "admin"}


def test_an_admin_gives_changes_and_takes_roles() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    assert cast.role("bob") == "writer"
    cast.say("ann", "bob", "reader")
    assert cast.role("bob") == "reader"
    cast.say("ann", "bob", "removed")
    assert cast.role("bob") == "removed"
    cast.say("ann", "bob", "admin")
    assert cast.role("bob") == "admin"


def test_trust_goes_on_through_admissions_by_writers_with_their_own_rights_at_most() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    cast.say("bob", "cid", "writer")
    cast.say("cid", "dora", "reader")
    cast.say("cid", "eve", "admin")
    cast.say("dora", "finn", "reader")
    assert cast.role("cid") == "writer"
    assert cast.role("dora") == "reader"
    assert cast.role("eve") is None
    assert cast.role("finn") is None


def test_a_writer_neither_raises_nor_removes_nor_revives_anybody() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    cast.say("ann", "cid", "reader")
    cast.say("ann", "dora", "removed")
    cast.say("bob", "cid", "writer")
    cast.say("bob", "ann", "removed")
    cast.say("bob", "dora", "writer")
    cast.say("bob", "bob", "admin")
    assert [cast.role(name) for name in ("ann", "bob", "cid", "dora")] == [
        "admin",
        "writer",
        "reader",
        "removed",
    ]


def test_removal_wins_over_an_admission_at_the_same_time() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "writer")
    cast.say("ann", "cid", "removed", [bob])
    cast.say("bob", "cid", "writer", [bob])
    assert cast.role("cid") == "removed"


def test_of_two_words_of_admins_at_the_same_time_the_lesser_role_counts() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "admin")
    cast.say("ann", "cid", "writer", [bob])
    cast.say("bob", "cid", "reader", [bob])
    assert cast.role("cid") == "reader"
    cast.say("bob", "cid", "writer")
    assert cast.role("cid") == "writer"


def test_a_removed_admin_cannot_give_grants_of_an_older_date() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "admin")
    cast.say("ann", "bob", "removed")
    friend = cast.say("bob", "eve", "admin", [bob])
    cast.say("eve", "finn", "admin", [friend])
    cast.say("bob", "ann", "removed", [friend])
    assert cast.role("bob") == "removed"
    assert cast.role("ann") == "admin"
    assert cast.role("eve") is None
    assert cast.role("finn") is None


def test_a_removed_writer_cannot_admit_with_an_older_date() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "writer")
    cast.say("ann", "bob", "removed")
    cast.say("bob", "eve", "writer", [bob])
    assert cast.role("eve") is None


def test_whom_a_removed_member_admitted_before_stays() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    cast.say("bob", "cid", "writer")
    cast.say("ann", "bob", "removed")
    assert cast.role("cid") == "writer"


def test_of_admins_that_remove_each_other_the_senior_one_stays() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "admin")
    cid = cast.say("ann", "cid", "admin", [bob])
    cast.say("cid", "bob", "removed", [cid])
    cast.say("bob", "cid", "removed", [cid])
    assert cast.role("bob") == "admin"
    assert cast.role("cid") == "removed"


def test_a_member_may_leave_and_nobody_can_come_between() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    cast.say("bob", "bob", "removed")
    cast.say("bob", "bob", "writer")
    assert cast.role("bob") == "removed"


def test_a_successor_has_the_place_of_the_old_key_which_ends() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "admin")
    cast.say("bob", "cid", "writer")
    cast.say("bob", "bob again", "successor")
    assert cast.role("bob again") == "admin"
    assert cast.role("bob") == "removed"
    assert cast.role("cid") == "writer"
    cast.say("bob", "eve", "admin", [bob])
    cast.say("bob", "finn", "writer")
    assert cast.role("eve") is None, "the thief of an old key gives nothing, whatever the date"
    assert cast.role("finn") is None
    cast.say("bob again", "dora", "writer")
    assert cast.role("dora") == "writer"
    cast.say("ann", "bob again", "removed")
    assert cast.role("bob again") == "removed"


def test_a_removal_of_the_old_key_at_the_same_time_hits_the_new_one() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "writer")
    cast.say("bob", "bob again", "successor", [bob])
    cast.say("ann", "bob", "removed", [bob])
    assert cast.role("bob") == "removed"
    assert cast.role("bob again") in (None, "removed")


def test_the_creators_successor_is_the_admin() -> None:
    cast = Cast()
    cast.say("ann", "ann again", "successor")
    cast.say("ann again", "bob", "writer")
    assert cast.roster().roles == {
        peer("ann"): "removed",
        peer("ann again"): "admin",
        peer("bob"): "writer",
    }


def test_of_two_successors_at_the_same_time_neither_counts_and_the_key_is_reported() -> None:
    cast = Cast()
    bob = cast.say("ann", "bob", "writer")
    cast.say("bob", "bob again", "successor", [bob])
    cast.say("bob", "eve", "successor", [bob])
    assert cast.role("bob again") is None
    assert cast.role("eve") is None
    assert cast.role("bob") == "writer"
    assert cast.roster().equivocators == {peer("bob")}


def test_a_grant_that_skips_or_repeats_a_number_is_not_allowed() -> None:
    cast = Cast()
    made = sign_grant(key_of("ann"), cast.bundle_id, peer("bob"), "writer", 2)
    cast.said[made.digest] = made
    assert cast.role("bob") is None


def test_a_grant_waits_for_what_it_has_seen() -> None:
    cast = Cast()
    first = cast.say("ann", "bob", "writer")
    second = cast.say("bob", "cid", "writer")
    part = roster(peer("ann"), [second])
    assert part.roles == {peer("ann"): "admin"}
    assert part.waiting == {second.digest}
    assert roster(peer("ann"), [second, first]).waiting == frozenset()


def test_an_older_grant_that_comes_again_changes_nothing() -> None:
    cast = Cast()
    old = cast.say("ann", "bob", "admin")
    cast.say("ann", "bob", "removed")
    grants = list(cast.said.values())
    assert roster(peer("ann"), [*grants, old]) == roster(peer("ann"), grants)


def test_fences_of_acts_that_count_are_told() -> None:
    cast = Cast()
    cast.say("ann", "bob", "writer")
    cast.say("ann", "bob", "removed", fence=[b"\1" * 32])
    cast.say("eve", "bob", "removed", fence=[b"\2" * 32])
    assert cast.roster().fence == {b"\1" * 32}


@pytest.mark.parametrize("count", [1500])
def test_many_grants_are_read_in_reasonable_time(count: int) -> None:
    grants, before = [], ()
    for number in range(1, count + 1):
        digest = hashlib.sha256(str(number).encode()).digest()
        grant = Grant(Cast().bundle_id, peer("ann"), f"peer {number}", "writer", number, before)
        grants.append(SignedGrant(grant, digest, b""))
        before = (digest,)
    began = time.perf_counter()
    assert len(roster(peer("ann"), grants).roles) == count + 1
    assert time.perf_counter() - began < 10


@st.composite
def casts(draw: st.DrawFn) -> Cast:
    """Honest members, and others who say what they have no right to and of any date."""
    cast = Cast()
    for _ in range(draw(st.integers(1, 14))):
        said = list(cast.said.values())
        issuer = draw(st.sampled_from(NAMES))
        subject = draw(st.sampled_from(NAMES))
        role = draw(
            st.sampled_from(["admin", "admin", "writer", "reader", "removed", "removed", "successor"])
        )
        seen = None
        if said and draw(st.booleans()):
            seen = draw(st.lists(st.sampled_from(said), max_size=3))
        elif draw(st.integers(0, 9)) == 0:
            seen = []
        cast.say(issuer, subject, role, seen)
    return cast


@settings(max_examples=200, deadline=None)
@given(casts(), st.randoms(use_true_random=False))
def test_the_roster_is_that_of_the_oracle_in_any_order(cast: Cast, chance: random.Random) -> None:
    grants = list(cast.said.values())
    oracle = RosterOracle(peer("ann"), grants)
    for _ in range(3):
        chance.shuffle(grants)
        found = roster(peer("ann"), grants)
        assert found.counted == oracle.counted()
        assert found.roles == oracle.roles()
    part = grants[: chance.randint(0, len(grants))]
    found = roster(peer("ann"), part)
    other = RosterOracle(peer("ann"), part)
    assert found.roles == other.roles()
    assert found.waiting == frozenset(other.all) - other.complete


@settings(max_examples=100, deadline=None)
@given(casts())
def test_nobody_outside_the_chain_of_trust_gets_a_role(cast: Cast) -> None:
    """Every role goes back to the creator over grants that count, or over successions.

    Two successions by one copied key do not count as grants, but the new key that both name acts for the old one.
    """
    found = cast.roster()
    counted = [
        one.grant
        for digest, one in cast.said.items()
        if digest in found.counted or one.grant.role == "successor"
    ]
    trusted = {peer("ann")}
    for _ in counted:
        trusted |= {grant.subject for grant in counted if grant.issuer in trusted}
    assert set(found.roles) <= trusted
