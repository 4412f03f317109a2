"""Commits that are signed and wrong, by members and strangers, to a running worker."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from pgpeer.commit.signature import sign_commit
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, messages
from pgpeer.protocol.messages import Message

from .crafting import EPOCH, Ground, Made, update, with_data
from .stage import Stage
from .villain import UNKNOWN, Villain, flipped

Attack = Callable[[Ground, Villain], list[Message]]

STORED = "SELECT EXISTS (SELECT FROM peer_internal.commit WHERE digest = %s)"

HOUR = 3_600_000 << 16
"""Of a hybrid logical clock."""


def honest(ground: Ground, villain: Villain) -> Made:
    return update(ground, villain.key, "taken over")


def wrong_signature(ground: Ground, villain: Villain) -> list[Message]:
    return [honest(ground, villain).commit(bytes(64))]


def turned_signature(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain)
    return [made.commit(flipped(sign_commit(villain.key, made.header.digest), [9]))]


def in_the_name_of_another(ground: Ground, villain: Villain) -> list[Message]:
    other = PrivateKey.from_seed(hashlib.sha256(b"somebody").digest())
    return list(honest(ground, villain).changed(author=other.public_key).said())


def signed_for_another_purpose(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain)
    return [made.commit(villain.key.sign("auth", made.header.digest))]


def of_another_bundle(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain).changed(bundle_id=uuid4())
    commit = made.commit()
    return [messages.Commit(ground.bundle_id, commit.header, commit.signature)]


def other_bytes_in_the_section(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain)
    section = made.sections()[0]
    return [made.commit(), replace(section, data=section.data.replace(b"taken", b"given"))]


def other_size_of_the_section(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain)
    section = made.sections()[0]
    return [made.commit(), replace(section, data=section.data + b"2\tmore\n")]


def section_that_is_no_text(ground: Ground, villain: Villain) -> list[Message]:
    return list(with_data(honest(ground, villain), b"1\tR\xffme\n").said())


def section_with_nul(ground: Ground, villain: Villain) -> list[Message]:
    return list(with_data(honest(ground, villain), b"1\tR\0me\n").said())


def section_without_a_commit(ground: Ground, villain: Villain) -> list[Message]:
    return list(honest(ground, villain).sections())


def second_section_first(ground: Ground, villain: Villain) -> list[Message]:
    made = honest(ground, villain)
    return [made.commit(), replace(made.sections()[0], section_no=2)]


def header_that_is_none(ground: Ground, villain: Villain) -> list[Message]:
    return [messages.Commit(ground.bundle_id, b"\xa0", bytes(64))]


REFUSED: list[tuple[Attack, str]] = [
    (wrong_signature, "bad_signature"),
    (turned_signature, "bad_signature"),
    (in_the_name_of_another, "bad_signature"),
    (signed_for_another_purpose, "bad_signature"),
    (of_another_bundle, "bad_message"),
    (other_bytes_in_the_section, "bad_message"),
    (other_size_of_the_section, "bad_message"),
    (section_that_is_no_text, "bad_message"),
    (section_with_nul, "bad_message"),
    (section_without_a_commit, "bad_message"),
    (second_section_first, "bad_message"),
    (header_that_is_none, "bad_message"),
]


@pytest.mark.parametrize(("attack", "code"), REFUSED, ids=lambda one: getattr(one, "__name__", None))
def test_a_commit_that_is_not_what_it_says_ends_the_link(stage: Stage, attack: Attack, code: str) -> None:
    villain, talk = stage.member()
    with stage.unchanged():
        villain.do(talk.say(*attack(stage.ground, villain)))
        villain.do(talk.end())
        stage.blamed(villain, code)
    assert stage.goes_on() < 10


def test_of_a_stranger_no_commit_is_taken(stage: Stage) -> None:
    villain, talk = stage.stranger()
    with stage.unchanged():
        villain.do(talk.say(*honest(stage.ground, villain).said()))
        villain.do(talk.end())
        stage.blamed(villain, "refused_policy")


def test_a_bundle_that_is_not_shared_is_refused(stage: Stage) -> None:
    villain, talk = stage.member()
    with stage.unchanged():
        villain.do(talk.say(replace(honest(stage.ground, villain).commit(), bundle_id=UNKNOWN)))
        villain.do(talk.end())
        stage.blamed(villain, "refused_policy")


# What is held: nothing is wrong with its form, and it is not merged.


def held(stage: Stage, made: Made, kind: str) -> str:
    """Wait until people are told why a commit is not merged; gives the detail."""
    query = "SELECT detail FROM peer.problem WHERE kind = %s AND detail LIKE %s"
    arguments = (kind, f"%{made.header.commit_id[-12:]}%")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = stage.ann.run(query, *arguments)
        if found:
            return str(found[0][0])
        time.sleep(0.05)
    raise AssertionError((arguments, stage.ann.run("SELECT kind, detail FROM peer.problem")))


def test_a_commit_from_the_future_is_held_and_told(stage: Stage) -> None:
    villain, talk = stage.member()
    now = stage.ann.value("SELECT peer_internal.unix_milliseconds(clock_timestamp())")
    made = honest(stage.ground, villain)
    early = made.changed(hlc=(now << 16) + HOUR)
    with stage.unchanged():
        villain.do(talk.say(*early.said()))
        assert held(stage, early, "future_commit")
        assert villain.do(talk.stays())
    assert stage.goes_on() < 10


def test_a_commit_from_ten_minutes_ahead_is_held_and_one_from_four_is_merged(stage: Stage) -> None:
    villain, talk = stage.member()
    now = stage.ann.value("SELECT peer_internal.unix_milliseconds(clock_timestamp())") << 16
    near = update(stage.ground, villain.key, "four minutes", 2).changed(hlc=now + HOUR // 15)
    villain.do(talk.say(*near.said()))
    stage.ann.wait_until("SELECT name = 'four minutes' FROM public.city WHERE id = 2")
    far = update(stage.ground, villain.key, "ten minutes", 2, seq=2).changed(
        hlc=now + HOUR // 6, previous=near.header.digest, parents=(near.header.digest,)
    )
    with stage.unchanged():
        villain.do(talk.say(*far.said()))
        assert held(stage, far, "future_commit")
    assert stage.event(villain, "commit-held")[:3] == ("sync", "future_commit", True)
    stage.counted(villain, "future_commit", kind="commit-held")


def test_a_commit_that_is_not_later_than_its_parent_ends_the_link(stage: Stage) -> None:
    villain, talk = stage.member()
    made = honest(stage.ground, villain).changed(hlc=stage.ground.root_hlc)
    with stage.unchanged():
        villain.do(talk.say(*made.said()))
        villain.do(talk.end())
        stage.blamed(villain, "bad_message")
    assert stage.goes_on() < 10


def test_a_parent_that_is_later_than_its_child_makes_the_child_invalid(stage: Stage) -> None:
    """The child comes first, so that only the merge can find out."""
    villain, talk = stage.member()
    parent = update(stage.ground, villain.key, "parent", 3).changed(hlc=stage.ground.root_hlc + 5000)
    child = update(stage.ground, villain.key, "child", 3, seq=2).changed(
        previous=parent.header.digest, parents=(parent.header.digest,)
    )
    villain.do(talk.say(*child.said(), *parent.said()))
    held(stage, child, "invalid_commit")
    assert stage.ann.value("SELECT name FROM public.city WHERE id = 3") == "parent"
    assert stage.goes_on() < 10
    stage.agree()


def missing_parent(ground: Ground, villain: Villain) -> Made:
    return honest(ground, villain).changed(parents=(hashlib.sha256(b"nobody has it").digest(),))


def missing_predecessor(ground: Ground, villain: Villain) -> Made:
    return honest(ground, villain).changed(seq=9, previous=hashlib.sha256(b"nobody has it").digest())


def gap_in_its_own_numbers(ground: Ground, villain: Villain) -> Made:
    return honest(ground, villain).changed(seq=9, previous=None)


@pytest.mark.parametrize("make", [missing_parent, missing_predecessor, gap_in_its_own_numbers])
def test_a_commit_whose_past_never_comes_waits_and_hinders_nobody(
    stage: Stage, make: Callable[[Ground, Villain], Made]
) -> None:
    villain, talk = stage.member()
    made = make(stage.ground, villain)
    with stage.unchanged():
        villain.do(talk.say(*made.said()))
        stage.ann.wait_until(STORED, made.header.digest)
        assert villain.do(talk.stays())
        assert stage.ann.value(
            "SELECT state <> 'merged' FROM peer_internal.commit WHERE digest = %s", made.header.digest
        )
    assert stage.goes_on() < 10
    acknowledged = [one for one in talk.heard if isinstance(one, events.AcknowledgementReceived)]
    assert made.header.digest not in {entry.head for one in acknowledged for entry in one.entries}
    told = (
        "SELECT kind FROM peer.problem WHERE kind IN ('missing_commit', 'invalid_commit')"
        " AND strpos(detail, peer_internal.commit_id(%s)) > 0"
    )
    dated = "UPDATE peer_internal.commit SET recorded_at = now() - %s::interval WHERE digest = %s"
    stage.ann.run(dated, "2 hours", made.header.digest)
    stage.ann.wait_until(f"SELECT EXISTS ({told})", made.header.digest)
    stage.ann.run(dated, "0", made.header.digest)
    assert stage.ann.run(told, made.header.digest) in ([], [("invalid_commit",)]), "it may still come"


def test_two_commits_of_one_number_are_reported_as_a_fork_and_the_members_agree(stage: Stage) -> None:
    villain, talk = stage.member()
    one = update(stage.ground, villain.key, "one branch", 11)
    other = update(stage.ground, villain.key, "other branch", 11)
    villain.do(talk.say(*one.said(), *other.said()))
    for member in (stage.ann, stage.bob):
        member.wait_until(
            "SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'equivocation' AND detail LIKE %s)",
            f"%epoch {EPOCH}, after seq 0)%",
        )
    stage.agree()
    assert stage.ann.value("SELECT name LIKE '%branch' FROM public.city WHERE id = 11")


def test_a_commit_that_comes_again_and_again_is_merged_once(stage: Stage) -> None:
    villain, talk = stage.member()
    made = update(stage.ground, villain.key, "once", 12)
    villain.do(talk.say(*made.said()))
    stage.ann.wait_until("SELECT name = 'once' FROM public.city WHERE id = 12")
    with stage.unchanged(), stage.bounded(30):
        for _ in range(200):
            villain.do(talk.say(*made.said()))
        assert villain.do(talk.stays())
    assert (
        stage.ann.value("SELECT count(*) FROM peer_internal.commit WHERE digest = %s", made.header.digest)
        == 1
    )
    assert stage.goes_on() < 10
    assert isinstance(villain.do(talk.until(events.AcknowledgementReceived)), events.AcknowledgementReceived)


def test_what_claims_the_place_of_an_honest_members_commit_is_not_taken(stage: Stage) -> None:
    """The numbers of another author are his: a commit in his name needs his signature."""
    villain, talk = stage.member()
    bob = stage.bob.database.key
    made = honest(stage.ground, villain).changed(author=bob.public_key, seq=1)
    commit = made.commit()
    with stage.unchanged():
        villain.do(talk.say(commit, *made.sections()))
        villain.do(talk.end())
        stage.blamed(villain, "bad_signature")
    stage.goes_on()
    stage.agree()


def test_another_table_or_column_is_not_written(stage: Stage) -> None:
    villain, talk = stage.member()
    made = honest(stage.ground, villain)
    section = replace(made.header.sections[0], column_ids=(UUID(int=5),))
    made = made.changed(sections=(section,))
    before = stage.ann.state_hash()
    villain.do(talk.say(*made.said()))
    stage.ann.wait_until(STORED, made.header.digest)
    assert villain.do(talk.stays(0.5))
    assert stage.ann.state_hash() == before
    assert stage.goes_on() < 10
