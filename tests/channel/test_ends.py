"""A connection ends once, and the same way on both sides, whatever one of them forgets in a crash."""

from __future__ import annotations

from uuid import UUID

import pytest

from channel.pair import ID, opened
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
