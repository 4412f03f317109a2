"""Frames and messages that no honest peer sends, by members and by strangers, to a running worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from pgpeer.commit import dag_cbor
from pgpeer.protocol import limits, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane
from pgpeer.protocol.packing import Packer
from pgpeer.worker.records import RECORDS_ID
from pgpeer.worker.seeking import HASH_BYTES, SALT_BYTES

from .crafting import Ground, Made, named_as, update, with_data
from .stage import Stage
from .villain import UNKNOWN, Villain, cut, flipped, frames_of

Attack = Callable[[Ground, Villain], list[bytes]]


def honest(ground: Ground, villain: Villain) -> Made:
    return update(ground, villain.key, "taken over")


def truncated_frame(ground: Ground, villain: Villain) -> list[bytes]:
    return cut(frames_of(honest(ground, villain).commit())[0])[-2:-1]


def truncated_message(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(encode(honest(ground, villain).commit())[:-1], lane=Lane.DATA)


def flipped_header(ground: Ground, villain: Villain) -> list[bytes]:
    commit = honest(ground, villain).commit()
    changed = messages.Commit(commit.bundle_id, flipped(commit.header, [12]), commit.signature)
    return frames_of(changed)


def flipped_frame(ground: Ground, villain: Villain) -> list[bytes]:
    frame = frames_of(honest(ground, villain).commit())[0]
    return [flipped(frame, [5])]


def oversized_frame(ground: Ground, villain: Villain) -> list[bytes]:
    return [bytes(limits.MAX_FRAME_BYTES + 1)]


def oversized_message(ground: Ground, villain: Villain) -> list[bytes]:
    size = limits.MAX_DATA_MESSAGE_BYTES + 1
    return [b"\x03" + (1000).to_bytes(2, "big") + size.to_bytes(4, "big") + bytes(1000)]


def oversized_control_message(ground: Ground, villain: Villain) -> list[bytes]:
    size = limits.MAX_CONTROL_MESSAGE_BYTES + 1
    return [b"\x02" + (1000).to_bytes(2, "big") + size.to_bytes(4, "big") + bytes(1000)]


def nested_cbor(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(b"\x82\x06" + b"\x81" * 40_000)


def nested_json(ground: Ground, villain: Villain) -> list[bytes]:
    document = '{"a":' * 20_000 + "1" + "}" * 20_000
    said = dag_cbor.array(
        [dag_cbor.unsigned(4), dag_cbor.byte_string(UNKNOWN.bytes), dag_cbor.text(document)]
    )
    return frames_of(said)


@cache
def packed_zeros() -> bytes:
    return Packer()._compressor.compress(bytes(1 << 28))


def bomb(ground: Ground, villain: Villain) -> list[bytes]:
    """A few bytes that would be a quarter of a gigabyte."""
    packed = packed_zeros()
    assert len(packed) < 30_000
    made = honest(ground, villain)
    return frames_of(made.commit(), messages.Section(ground.bundle_id, made.header.digest, 1, True, packed))


def lying_bomb(ground: Ground, villain: Villain) -> list[bytes]:
    """It says to be small, and is not."""
    packed = bytearray(Packer()._compressor.compress(b"\0" * 100_000))
    packed[5:9] = (1000).to_bytes(4, "little")
    made = honest(ground, villain)
    section = messages.Section(ground.bundle_id, made.header.digest, 1, True, bytes(packed))
    return frames_of(made.commit(), section)


def replayed_commit(ground: Ground, villain: Villain) -> list[bytes]:
    """A header again, in the place of its section."""
    return frames_of(*[honest(ground, villain).commit()] * 2)


def unsent_pong(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.Pong(99))


def too_much_granted(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.Grant(limits.CREDIT_WINDOW_BYTES + 1))


def second_hello(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.Hello(1, villain.peer_id, bytes(32), "again"))


def wrong_lane(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(encode(messages.Ping(1)), lane=Lane.DATA)


def unknown_type(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(dag_cbor.array([dag_cbor.unsigned(99)]))


def unread_programs(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.Channel(b"no program says this"))


def unasked_acceptance(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.JoinAccepted(UNKNOWN, {"bundle": str(UNKNOWN)}))


def unannounced_vector(ground: Ground, villain: Villain) -> list[bytes]:
    return frames_of(messages.VectorRequest(UNKNOWN))


def malformed_search(ground: Ground, villain: Villain) -> list[bytes]:
    search = {"salt": "00" * SALT_BYTES, "hashes": ["no hash"]}
    return frames_of(messages.JoinAccepted(RECORDS_ID, {"search": search}))


def endless_search(ground: Ground, villain: Villain) -> list[bytes]:
    search = {"salt": "00" * SALT_BYTES, "hashes": ["00" * HASH_BYTES] * 100_000}
    return frames_of(messages.JoinAccepted(RECORDS_ID, {"search": search}))


@dataclass(frozen=True)
class Expected:
    attack: Attack
    code: str


ATTACKS = [
    Expected(truncated_frame, "bad_message"),
    Expected(truncated_message, "bad_message"),
    Expected(flipped_header, "bad_signature"),
    Expected(flipped_frame, "bad_message"),
    Expected(oversized_frame, "too_large"),
    Expected(oversized_message, "too_large"),
    Expected(oversized_control_message, "too_large"),
    Expected(nested_cbor, "bad_message"),
    Expected(nested_json, "bad_message"),
    Expected(bomb, "too_large"),
    Expected(lying_bomb, "bad_message"),
    Expected(replayed_commit, "bad_message"),
    Expected(unsent_pong, "bad_message"),
    Expected(too_much_granted, "bad_message"),
    Expected(second_hello, "bad_message"),
    Expected(wrong_lane, "bad_message"),
    Expected(unknown_type, "bad_message"),
    Expected(unread_programs, "bad_message"),
    Expected(unasked_acceptance, "bad_message"),
    Expected(unannounced_vector, "bad_message"),
    Expected(malformed_search, "bad_message"),
    Expected(endless_search, "bad_message"),
]
TRIED_BY_STRANGERS = (truncated_frame, oversized_message, nested_json, bomb, unread_programs, second_hello)
BY_STRANGERS = [one for one in ATTACKS if one.attack in TRIED_BY_STRANGERS]


@pytest.mark.parametrize("expected", ATTACKS, ids=lambda one: one.attack.__name__)
def test_a_member_that_sends_what_no_honest_peer_sends_is_blamed_and_changes_nothing(
    stage: Stage, expected: Expected
) -> None:
    villain, talk = stage.member()
    with stage.unchanged(), stage.bounded(60):
        villain.do(talk.raw(*expected.attack(stage.ground, villain)))
        villain.do(talk.end())
        stage.blamed(villain, expected.code)


@pytest.mark.parametrize("expected", BY_STRANGERS, ids=lambda one: one.attack.__name__)
def test_a_stranger_that_does_so_is_blamed_too(stage: Stage, expected: Expected) -> None:
    villain, talk = stage.stranger()
    with stage.unchanged(), stage.bounded(60):
        villain.do(talk.raw(*expected.attack(stage.ground, villain)))
        villain.do(talk.end())
        # the commit before a bomb is refused first
        stage.blamed(villain, "refused_policy" if expected.attack is bomb else expected.code)


def test_data_that_was_not_granted_ends_the_link_while_the_database_is_busy(stage: Stage) -> None:
    villain, talk = stage.member()
    parts = [b"".join(b"%d\t%d%s\n" % (n, part, b"x" * 200) for n in range(1000, 9000)) for part in range(3)]
    made = with_data(honest(stage.ground, villain), parts[0])
    section = made.header.sections[0]
    made = made.changed(sections=tuple(named_as(section, part) for part in parts))
    made = Made(made.key, made.header, tuple(parts))
    with stage.unchanged(), stage.bounded(60), stage.ann.database.connect(autocommit=False) as busy:
        busy.execute("LOCK TABLE peer_internal.section IN ACCESS EXCLUSIVE MODE")
        villain.do(talk.raw(*frames_of(*made.said())))
        last = villain.do(talk.end())
        busy.rollback()
        stage.blamed(villain, "quota")
        assert last is not None
        assert last.code == "quota"
    assert stage.goes_on() < 10


def test_a_conversation_that_was_recorded_is_worth_nothing_on_another_link(stage: Stage) -> None:
    villain, talk = stage.member()
    villain.do(talk.say(*update(stage.ground, villain.key, "once").said()))
    stage.ann.wait_until("SELECT name = 'once' FROM public.city WHERE id = 1")
    recorded = list(talk.sent)
    villain.do(talk.close())
    with stage.unchanged():
        replay = villain.record(stage.ann.peer_id)
        villain.do(replay.raw(*recorded))
        last = villain.do(replay.end())
    assert last is not None
    assert last.code == "bad_signature"
    assert stage.event(villain, "connect-failed")[:2] == ("identity", "bad_signature")
    stage.counted(villain, "bad_signature", kind="connect-failed")


def test_who_says_something_else_than_a_hello_on_a_path_is_blamed(stage: Stage) -> None:
    villain, talk = stage.member()
    villain.do(talk.close())
    with stage.unchanged():
        villain.knock(stage.ann.peer_id, b"no hello at all")
        stage.blamed(villain, "bad_message", ("identity",))


def test_after_all_that_the_members_agree(stage: Stage) -> None:
    stage.goes_on()
    stage.agree()
    assert stage.ann.worker is not None
    assert stage.ann.worker.process.poll() is None
