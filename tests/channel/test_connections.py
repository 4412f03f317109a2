"""What the connections between two peers promise, on a perfect, a broken and a restarted pair."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.pair import ID, Pair, Side, opened
from pgpeer.channel import events, limits, messages

OTHER = UUID(int=8)


def test_a_connection_is_opened_and_messages_go_both_ways() -> None:
    pair = opened()
    pair.ann.send("one", "two", "")
    pair.bob.send("réponse")
    pair.run()
    assert pair.bob.stored[ID].received == ["one", "two", ""]
    assert pair.ann.stored[ID].received == ["réponse"]
    assert (pair.ann.stored[ID].acknowledged, pair.bob.stored[ID].acknowledged) == (3, 1)
    assert pair.ann.kinds()[0] == "ConnectionOpened"
    assert pair.bob.told[0] == events.ConnectionRequested(ID, False)


def test_the_other_side_knows_whether_confirmations_are_wanted() -> None:
    pair = Pair().up()
    pair.ann.connect(confirm=True)
    pair.run()
    assert pair.bob.told == [events.ConnectionRequested(ID, True)]


def test_what_is_sent_before_the_connection_is_open_arrives() -> None:
    pair = Pair()
    pair.ann.connect()
    pair.ann.send("early")
    pair.up().run()
    assert pair.bob.stored[ID].received == ["early"]


def test_a_message_is_acknowledged_only_when_it_is_stored() -> None:
    pair = opened()
    pair.bob.is_storing = False
    pair.ann.send("one")
    pair.run()
    assert pair.ann.stored[ID].acknowledged == 0
    pair.bob.is_storing = True
    pair.run()
    assert pair.ann.stored[ID].acknowledged == 1


def test_connections_take_turns_so_that_a_busy_one_does_not_hold_up_another() -> None:
    pair = opened()
    pair.ann.connect(connection_id=OTHER)
    pair.run()
    pair.ann.send(*["x" * 100_000] * 4)
    pair.ann.send("quick", connection_id=OTHER)
    pair.step()
    pair.step()
    assert pair.bob.stored[OTHER].received == ["quick"]


def test_messages_on_their_way_when_the_link_breaks_arrive_once_over_the_next_one() -> None:
    pair = opened()
    pair.ann.send(*"abcdef")
    pair.ann.machine.next_message(0)  # lost
    pair.down()
    pair.up().run()
    assert pair.bob.stored[ID].received == list("abcdef")
    pair.ann.send("g")
    first = pair.ann.machine.next_message(0)
    assert first is not None
    pair.bob.machine.receive(first, 0)
    pair.bob.work(0)
    pair.down()  # the acknowledgement is lost
    pair.up().run()
    assert pair.bob.stored[ID].received == list("abcdefg")
    assert pair.ann.stored[ID].acknowledged == 7


def test_what_is_stored_while_a_new_link_comes_up_is_not_sent_again_and_breaks_nothing() -> None:
    pair = opened()
    pair.bob.is_storing = False
    pair.ann.send("a", "b")
    pair.run()
    pair.down()
    pair.up()
    pair.run()
    pair.bob.is_storing = True
    pair.ann.send("c")
    pair.run()
    assert pair.bob.stored[ID].received == ["a", "b", "c"]
    assert pair.ann.stored[ID].acknowledged == 3


@pytest.mark.parametrize("who", ["ann", "bob", "both"])
def test_a_connection_survives_the_restart_of_either_worker(who: str) -> None:
    pair = opened()
    pair.ann.send("a", "b")
    pair.bob.send("A")
    pair.run()
    pair.ann.send("c", "d")
    pair.step()
    pair.down()
    for side in (pair.ann, pair.bob):
        if who == "both" or side is getattr(pair, who):
            side.crash(1.0)
    pair.ann.send("e")
    pair.up().run()
    assert pair.bob.stored[ID].received == list("abcde")
    assert pair.ann.stored[ID].received == ["A"]
    assert pair.ann.closed() is None
    assert pair.bob.closed() is None


def test_an_acceptance_that_was_lost_with_the_link_is_made_good() -> None:
    pair = Pair().up()
    pair.ann.connect()
    pair.ann.send("a")
    asked = pair.ann.machine.next_message(0)
    assert asked is not None
    pair.bob.machine.receive(asked, 0)
    pair.bob.work(0)
    pair.bob.send("b")
    pair.down()
    pair.up().run()
    assert pair.ann.stored[ID].state == "open"
    assert pair.bob.stored[ID].received == ["a"]
    assert pair.ann.stored[ID].received == ["b"]
    assert pair.bob.kinds().count("ConnectionRequested") == 1


def test_an_acceptance_that_is_stored_after_the_link_was_replaced_counts() -> None:
    pair = Pair().up()
    pair.ann.connect()
    asked = pair.ann.machine.next_message(0)
    assert asked is not None
    pair.bob.is_storing = False
    pair.bob.machine.receive(asked, 0)
    pair.down()
    pair.up()
    pair.bob.is_storing = True
    pair.bob.work(0)
    pair.ann.send("a")
    pair.run()
    assert pair.bob.stored[ID].received == ["a"]


def test_disconnecting_delivers_what_was_sent_before_and_tells_both_sides() -> None:
    pair = opened()
    pair.ann.send("a", "b")
    pair.ann.disconnect()
    pair.run()
    assert pair.bob.stored[ID].received == ["a", "b"]
    assert pair.bob.closed() == ("peer-requested-closed", "remote_closed")
    assert pair.ann.closed() == ("peer-requested-closed", "local_closed")
    assert not pair.ann.machine.connections
    assert not pair.bob.machine.connections


def test_both_sides_may_disconnect_at_once() -> None:
    pair = opened()
    pair.ann.disconnect()
    pair.bob.disconnect()
    pair.run()
    for side in (pair.ann, pair.bob):
        end = side.closed()
        assert end is not None
        assert end[0] == "peer-requested-closed"


def test_a_farewell_is_not_lost_with_the_link_or_a_restart() -> None:
    pair = opened()
    pair.ann.send("a")
    pair.ann.disconnect()
    pair.down()
    pair.ann.crash(1.0)
    pair.up().run()
    assert pair.bob.stored[ID].received == ["a"]
    assert pair.bob.closed() == ("peer-requested-closed", "remote_closed")
    assert pair.ann.closed() == ("peer-requested-closed", "local_closed")


def test_an_answer_to_a_farewell_may_be_lost() -> None:
    pair = opened()
    pair.ann.disconnect()
    close = pair.ann.machine.next_message(0)
    assert close is not None
    pair.bob.machine.receive(close, 0)
    pair.bob.work(0)
    pair.down()
    pair.up().run()
    assert pair.ann.closed() == ("peer-requested-closed", "local_closed")


def test_a_connection_that_nobody_has_heard_of_ends_at_once() -> None:
    side = Side()
    side.connect()
    side.disconnect()
    assert side.closed() == ("peer-requested-closed", "local_closed")


def test_a_refusal_names_its_code() -> None:
    pair = Pair().up()
    pair.bob.refusal = "refused_policy"
    pair.ann.connect()
    pair.run()
    end = pair.ann.stored[ID].closed
    assert end is not None
    assert (end.reason, end.code, end.phase, end.retryable) == (
        "connection-error",
        "refused_policy",
        "hello",
        False,
    )
    assert pair.bob.stored == {}
    assert not pair.bob.machine.connections


def test_what_will_not_be_accepted_does_not_wait_and_what_is_open_stays() -> None:
    pair = opened()
    pair.down()
    pair.ann.connect(connection_id=OTHER)
    pair.ann.machine.give_up("refused_policy", "signalling", "It takes no links.", 1.0)
    pair.ann.work(1.0)
    assert pair.ann.closed(OTHER) == ("connection-error", "refused_policy")
    assert pair.ann.closed(ID) is None


def test_a_side_that_forgot_the_connection_says_so() -> None:
    pair = opened()
    pair.down()
    pair.bob.stored.clear()
    pair.bob.crash(1.0)
    pair.up().run()
    assert pair.ann.closed() == ("connection-error", "id_unknown")


@pytest.mark.parametrize("restored", ["ann", "bob"])
@pytest.mark.parametrize("goes_on", [0, 1, 2, 3])
def test_a_side_that_was_restored_from_a_backup_is_found_out(restored: str, goes_on: int) -> None:
    """Nothing is lost or repeated silently, whatever the restored side has sent since."""
    pair = opened()
    pair.ann.send("a")
    pair.run()
    side = getattr(pair, restored)
    backup = side.stored[ID]
    kept = (
        backup.queue[:],
        backup.acknowledged,
        backup.acknowledged_chain,
        backup.received[:],
        backup.received_chain,
    )
    pair.ann.send("b", "c")
    pair.run()
    pair.down()
    backup.queue, backup.acknowledged, backup.acknowledged_chain, backup.received, backup.received_chain = (
        kept
    )
    side.crash(1.0)
    pair.ann.send(*["other"] * goes_on)
    pair.up(1.0).run(1.0)
    for seconds in (5.0, 40.0, 100.0):
        pair.tick(seconds)
        pair.run(seconds)
    assert pair.ann.closed() is not None
    assert pair.bob.closed() is not None
    codes = {pair.ann.stored[ID].closed.code, pair.bob.stored[ID].closed.code}  # type: ignore[union-attr]
    assert codes & {"replay", "timeout"}


def test_what_is_under_way_is_bounded_and_a_full_inbox_stops_the_sender() -> None:
    pair = opened()
    pair.bob.is_storing = False
    pair.ann.send(*["x" * 50_000] * 30)
    pair.run()
    waiting = sum(isinstance(event, events.MessageReceived) for event in pair.bob.machine.events())
    assert waiting * (50_000 + limits.MESSAGE_COST_BYTES) <= limits.WINDOW_BYTES
    assert waiting == 10

    pair = opened()
    pair.bob.room = 0
    pair.ann.send("first")
    pair.run()
    pair.ann.send("second")
    pair.run()
    assert pair.bob.stored[ID].received == ["first"]
    assert pair.bob.machine.full() == [ID]
    pair.bob.machine.give_room(ID, 1_000_000)
    pair.run()
    assert pair.bob.stored[ID].received == ["first", "second"]


def test_no_more_connections_than_allowed_are_accepted() -> None:
    pair = Pair().up()
    ids = [UUID(int=100 + n) for n in range(limits.MAX_CONNECTIONS + 1)]
    for connection_id in ids:
        pair.ann.connect(connection_id=connection_id)
    pair.run()
    assert [pair.ann.closed(one) for one in ids].count(("connection-error", "rate_limited")) == 1
    assert len(pair.bob.stored) == limits.MAX_CONNECTIONS


def test_what_was_on_its_way_when_the_other_side_disconnected_is_ignored() -> None:
    pair = opened()
    pair.bob.disconnect()
    pair.ann.send("too late")
    pair.run()
    assert pair.bob.stored[ID].received == []
    assert pair.ann.closed() == ("peer-requested-closed", "remote_closed")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["ann", "bob"]), st.integers(1, 4)),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("crash"), st.sampled_from(["ann", "bob"])),
        st.tuples(st.just("lazy"), st.sampled_from(["ann", "bob"])),
        st.tuples(st.just("lose"), st.sampled_from(["ann", "bob"])),
    ),
    max_size=40,
)


@given(actions=ACTIONS)
def test_whatever_breaks_every_message_arrives_once_and_in_order(actions: list[tuple[object, ...]]) -> None:
    pair = Pair().up()
    pair.ann.connect()
    pair.run()
    count = 0
    for action in actions:
        match action:
            case ("send", who, many):
                side = getattr(pair, str(who))
                numbers = range(count, count + int(str(many)))
                count += len(numbers)
                side.stored[ID].queue += [f"{number} " + "x" * (number % 3 * 90_000) for number in numbers]
            case ("step", many):
                for _ in range(int(str(many))):
                    pair.step()
            case ("cut",):
                pair.down()
                pair.up()
            case ("crash", who):
                pair.down()
                side = getattr(pair, str(who))
                side.crash(0.0)
                side.is_storing = True
                pair.up()
            case ("lazy", who):
                side = getattr(pair, str(who))
                side.is_storing = not side.is_storing
            case ("lose", who):
                getattr(pair, str(who)).machine.next_message(0.0)
                pair.down()
                pair.up()
    for side in (pair.ann, pair.bob):
        side.is_storing = True
    pair.run()
    assert pair.ann.closed() is None
    assert pair.bob.closed() is None
    assert pair.bob.stored[ID].received == pair.ann.stored[ID].queue
    assert pair.ann.stored[ID].received == pair.bob.stored[ID].queue
    assert pair.ann.stored[ID].acknowledged == len(pair.ann.stored[ID].queue)
    pair.ann.disconnect()
    pair.run()
    assert pair.ann.closed() == ("peer-requested-closed", "local_closed")
    assert pair.bob.closed() == ("peer-requested-closed", "remote_closed")


def test_every_message_can_be_read_again() -> None:
    for message in (
        messages.Open(ID, True, 5),
        messages.Opened(ID, 0),
        messages.Data(ID, 1, "é\n"),
        messages.Ack(ID, 2, 9),
        messages.Resume(ID, 3, b"c" * 32, 4),
        messages.Close(ID, False, "timeout", "late"),
        messages.Closed(ID),
    ):
        assert messages.decode(messages.encode(message)) == message
