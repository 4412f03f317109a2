"""A connection ends once, and the same way on both sides, whatever one of them forgets in a crash."""

from __future__ import annotations

from uuid import UUID

import pytest

from channel.pair import ID, Pair, Side, hostile, opened
from pgpeer.channel import messages
from pgpeer.channel.channels import MAX_ENDED, Channels


@pytest.mark.parametrize("forgetful", ["who left", "the other side"])
def test_an_end_that_one_side_forgot_in_a_crash_is_the_same_end_afterwards(forgetful: str) -> None:
    pair = opened()
    pair.ann.send("the last word")
    pair.run()
    side = pair.ann if forgetful == "who left" else pair.bob
    pair.ann.disconnect()
    side.is_storing = False
    pair.run()
    pair.down()
    for one in (pair.ann, pair.bob):  # both, so that no memory but the durable one is left
        one.crash(1.0)
        one.is_storing = True
    pair.up(2.0).run(2.0)
    assert pair.ann.closed() == ("peer-requested-closed", "local_closed")
    assert pair.bob.closed() == ("peer-requested-closed", "remote_closed")
    assert pair.bob.stored[ID].received == ["the last word"]


@pytest.mark.parametrize("leaver", ["who asked", "the other side"])
def test_an_end_whose_very_beginning_was_forgotten_is_the_same_end_afterwards(leaver: str) -> None:
    pair = Pair().up()
    pair.ann.is_storing = False  # she never learns durably that it was accepted
    pair.ann.connect()
    pair.ann.send("the last word")
    pair.run()
    side = pair.ann if leaver == "who asked" else pair.bob
    side.disconnect()
    pair.run()
    pair.down()
    for one in (pair.ann, pair.bob):
        one.crash(1.0)
        one.is_storing = True
    assert pair.ann.stored[ID].state == "connecting"
    pair.up(2.0).run(2.0)
    ends = (pair.ann.closed(), pair.bob.closed())
    here, there = ("peer-requested-closed", "local_closed"), ("peer-requested-closed", "remote_closed")
    assert ends == ((here, there) if side is pair.ann else (there, here))
    assert pair.bob.stored[ID].received == ["the last word"]


def test_an_end_that_nobody_here_wished_is_no_answer_to_a_request() -> None:
    side = Side()
    side.connect()
    side.machine.link_up(0.0)
    assert hostile(side, messages.encode(messages.Closed(ID))) is None
    end = side.stored[ID].closed
    assert end is not None
    assert (end.reason, end.retryable) == ("connection-error", False)


def test_a_connection_may_be_ended_before_its_acceptance_is_told() -> None:
    pair = Pair().up()
    pair.bob.is_storing = False
    pair.ann.connect()
    pair.run()
    pair.bob.machine.disconnect(ID, 1, 0.0)
    pair.bob.is_storing = True
    pair.bob.work(0.0)
    pair.bob.send("the last word")
    pair.run()
    assert pair.ann.stored[ID].received == ["the last word"]
    assert pair.bob.closed() == ("peer-requested-closed", "local_closed")
    assert pair.ann.closed() == ("peer-requested-closed", "remote_closed")


def test_of_ends_the_oldest_are_forgotten_first() -> None:
    machine = Channels()
    for number in range(MAX_ENDED + 1):
        machine.remember(UUID(int=number), was_here=True)
    machine.link_up(0.0)
    answers = []
    for number in (0, 1):
        machine.receive(messages.encode(messages.Resume(UUID(int=number), 0, bytes(32), 0)), 0.0)
        said = machine.next_message(0.0)
        assert said is not None
        answers.append(messages.decode(said))
    assert [(one.requested, one.code) for one in answers if isinstance(one, messages.Close)] == [
        (False, "id_unknown"),
        (True, "remote_closed"),
    ]
