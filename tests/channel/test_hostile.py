"""A peer that does not keep to the rules: typed errors, nothing changed, other connections unharmed."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.pair import ID, Side, hostile, opened
from pgpeer.channel import limits, messages
from pgpeer.channel.messages import Ack, Close, Closed, Data, Open, Opened, Resume, encode
from pgpeer.commit.dag_cbor import array, byte_string, text, unsigned
from pgpeer.errors import LocalProtocolError, RemoteProtocolError

OTHER = UUID(int=9)


@pytest.mark.parametrize(
    "message",
    [
        Data(ID, 2, "a gap"),
        Data(ID, 1, "x" * limits.MAX_DATA_BYTES),
        Ack(ID, 1, 0),
        Opened(ID, 1),
        Closed(ID),
        Resume(ID, 5, b"x" * 32, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_broken_rule_ends_the_connection_and_no_other(message: messages.Message) -> None:
    pair = opened()
    pair.ann.connect(connection_id=OTHER)
    pair.run()
    if isinstance(message, Data) and message.number == 1:
        for number in (1, 2):
            hostile(pair.bob, encode(Data(ID, number, message.data)))
            pair.bob.is_storing = False
        message = Data(ID, 3, "more than the window")
    error = hostile(pair.bob, encode(message))
    assert error is None
    pair.bob.is_storing = True
    pair.bob.work(0)
    end = pair.bob.closed()
    assert end is not None
    assert end[0] == "connection-error"
    assert end[1] in ("bad_message", "quota")
    pair.ann.send("goes on", connection_id=OTHER)
    pair.run()
    assert pair.bob.stored[OTHER].received == ["goes on"]
    assert pair.ann.closed() is not None


def malformed() -> list[bytes]:
    data = encode(Data(ID, 1, "abc"))
    return [
        b"",
        data[:-1],
        data + b"\0",
        array([unsigned(99), byte_string(ID.bytes)]),
        array([unsigned(7), byte_string(b"short")]),
        array([unsigned(3), byte_string(ID.bytes), unsigned(1)]),
        array([unsigned(3), byte_string(ID.bytes), unsigned(1), text("nul \0")]),
        array([unsigned(3), byte_string(ID.bytes), unsigned(1), text("x" * (limits.MAX_DATA_BYTES + 1))]),
        array([unsigned(3), byte_string(ID.bytes), unsigned(1), b"\x62\xff\xfe"]),
        array([unsigned(4), byte_string(ID.bytes), unsigned(0), unsigned(limits.WINDOW_BYTES + 1)]),
    ]


@pytest.mark.parametrize("data", malformed())
def test_what_cannot_be_read_is_an_error_of_the_other_side(data: bytes) -> None:
    pair = opened()
    assert isinstance(hostile(pair.bob, data), RemoteProtocolError)
    assert pair.bob.closed() is None
    assert pair.bob.stored[ID].received == []


@given(data=st.binary(max_size=80))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    hostile(Side(), data)


def test_words_about_unknown_connections_are_answered_within_bounds() -> None:
    side = Side()
    side.machine.link_up(0)
    assert hostile(side, encode(Resume(OTHER, 0, b"x" * 32, 0))) is None
    answer = side.machine.next_message(0)
    assert answer is not None
    assert isinstance(messages.decode(answer), Close)
    for message in (Data(OTHER, 1, "x"), Ack(OTHER, 1, 1), Closed(OTHER), Close(OTHER, False, "timeout", "")):
        assert hostile(side, encode(message)) is None
        assert side.machine.next_message(0) is None
    errors = [hostile(side, encode(Opened(UUID(int=n), 0))) for n in range(300)]
    assert any(isinstance(error, RemoteProtocolError) and error.code == "rate_limited" for error in errors)


def test_an_unknown_code_or_odd_text_of_the_other_side_reaches_nobody() -> None:
    pair = opened()
    hostile(pair.bob, encode(Close(ID, False, "drop table", "a\x1b[31mred\n")))
    end = pair.bob.stored[ID].closed
    assert end is not None
    assert end.code == "internal"
    assert "\x1b" not in end.detail


def test_an_owner_that_gives_the_wrong_message_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = opened()
    with pytest.raises(LocalProtocolError):
        pair.ann.machine.send(ID, 2, "not next", 0)
    with pytest.raises(LocalProtocolError):
        pair.ann.machine.send(ID, 1, "x" * (limits.MAX_DATA_BYTES + 1), 0)
    with pytest.raises(LocalProtocolError):
        pair.bob.machine.stored(ID, 1, 0, 0)


def test_asking_twice_on_one_link_changes_nothing() -> None:
    pair = opened()
    assert hostile(pair.bob, encode(Open(ID, False, 5))) is None
    pair.ann.send("a")
    pair.run()
    assert pair.bob.stored[ID].received == ["a"]
