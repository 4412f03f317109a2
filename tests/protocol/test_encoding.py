"""Messages survive the way through bytes, and nothing else is taken for a message."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.protocol import limits, messages
from pgpeer.protocol.encoding import decode, encode
from pgpeer.protocol.messages import Message

number = st.integers(0, 2**63 - 1)
bytes32 = st.binary(min_size=32, max_size=32)
bytes64 = st.binary(min_size=64, max_size=64)
uuids = st.uuids()
short = st.text(max_size=20)
flag = st.booleans()
entries = st.lists(st.builds(VectorEntry, bytes32, number, number, bytes32), max_size=5).map(tuple)
section_no = st.integers(1, limits.MAX_SECTIONS)
partial = st.dictionaries(bytes32, st.lists(section_no, max_size=4).map(tuple), max_size=3)
json_text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
json_value = st.recursive(
    st.none() | flag | st.integers(-(2**53), 2**53) | json_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_text, inner, max_size=3),
    max_leaves=8,
)

any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(messages.Hello, number, short, bytes32, short),
    st.builds(messages.Authentication, bytes64),
    st.builds(messages.Join, uuids, bytes32),
    st.builds(messages.JoinAccepted, uuids, st.dictionaries(json_text, json_value, max_size=3)),
    st.builds(messages.JoinRefused, uuids, short.filter(lambda s: len(s.encode()) <= 64), short),
    st.builds(messages.Vector, uuids, entries, partial),
    st.builds(messages.VectorDigest, uuids, bytes32),
    st.builds(messages.VectorRequest, uuids),
    st.builds(messages.Commit, uuids, st.binary(max_size=200), bytes64),
    st.builds(messages.Section, uuids, bytes32, section_no, flag, st.binary(max_size=200)),
    st.builds(messages.Acknowledgement, uuids, entries, st.just(b"") | bytes64),
    st.builds(messages.Grant, st.integers(0, limits.MAX_DATA_MESSAGE_BYTES)),
    st.builds(messages.Ping, number),
    st.builds(messages.Pong, number),
    st.builds(messages.Error, st.just("timeout"), st.just("sync"), flag, short, short),
    st.builds(messages.Close, st.just("remote_closed"), short),
).filter(lambda m: not isinstance(m, messages.Hello) or len(m.peer_id.encode()) <= limits.MAX_PEER_ID_BYTES)


def refused_or_message(data: bytes) -> None:
    """Decoding gives a message that encodes to the same bytes, or the one error that it may give."""
    try:
        _, message = decode(data)
    except RemoteProtocolError:
        return
    if not isinstance(message, messages.JoinAccepted):  # JSON has more than one form
        assert encode(message) == data


@given(any_message)
def test_every_message_is_the_same_after_the_way_through_bytes(message: Message) -> None:
    kind, read = decode(encode(message))
    assert read == message
    assert kind.name.replace("_", "") == type(message).__name__.upper()


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message_are_refused_by_one_error(data: bytes) -> None:
    refused_or_message(data)


@given(any_message, st.data())
def test_a_changed_message_is_refused_or_a_message(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    refused_or_message(bytes(encoded))


@given(any_message)
def test_a_message_cut_short_or_followed_by_anything_is_refused(message: Message) -> None:
    encoded = encode(message)
    for wrong in [encoded + b"\0", encoded * 2, *(encoded[:size] for size in range(len(encoded)))]:
        with pytest.raises(RemoteProtocolError):
            decode(wrong)


@pytest.mark.parametrize(
    "huge",
    [
        b"\x84\x06\x50" + bytes(16) + b"\x9a\xff\xff\xff\xff",  # a vector of four thousand million entries
        b"\x84\x09\x50" + bytes(16) + b"\x58\x40" + bytes(64) + b"\x5b" + b"\x7f" * 8,  # an endless header
        b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff",  # a message of endless items
        b"\x83\x04\x50" + bytes(16) + b"\x7a\x7f\xff\xff\xff",  # an endless payload
    ],
)
def test_an_announced_length_above_its_limit_is_refused_at_once(huge: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(huge)


@pytest.mark.parametrize(
    "payload",
    [
        *("[]", "1", "{", '{"a":' * 5000, "NaN", "1" * 5000, '{"a":NaN}', '{"a":-Infinity}', '{"a":1e999}'),
        *('{"a":"\\ud800"}', '{"\\ud800":1}', '{"a":["\\u0000"]}', '{"a":' * 65 + "1" + "}" * 65),
    ],
)
def test_a_join_payload_must_be_a_json_object(payload: str) -> None:
    text = payload.encode()
    data = b"\x83\x04\x50" + bytes(16) + b"\x79" + len(text).to_bytes(2, "big") + text
    with pytest.raises(RemoteProtocolError):
        decode(data)


@pytest.mark.parametrize(
    "message",
    [
        messages.Hello(1, "p", b"short", ""),
        messages.Hello(1, "p", bytes(32), "x" * (limits.MAX_LABEL_BYTES + 1)),
        messages.Authentication(b"short"),
        messages.JoinAccepted(UUID(int=1), {"x": "y" * limits.MAX_PAYLOAD_BYTES}),
        messages.JoinAccepted(UUID(int=1), {"x": float("nan")}),
        messages.JoinAccepted(UUID(int=1), {"x": ["\0"]}),
        messages.Commit(UUID(int=1), bytes(limits.MAX_HEADER_BYTES + 1), bytes(64)),
        messages.Commit(UUID(int=1), b"", b"short"),
        messages.Section(UUID(int=1), bytes(32), 0, False, b""),
        messages.Section(UUID(int=1), bytes(32), limits.MAX_SECTIONS + 1, False, b""),
        messages.Section(UUID(int=1), bytes(32), 1, False, bytes(limits.MAX_SECTION_BYTES + 1)),
        messages.Acknowledgement(UUID(int=1), (), b"short"),
        messages.Vector(UUID(int=1), (), {bytes([n % 256, n // 256] * 16): () for n in range(4097)}),
        messages.Close("x" * (limits.MAX_CODE_BYTES + 1), ""),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_other_side_would_refuse_is_not_sent(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_a_long_sentence_is_cut_at_a_character() -> None:
    _, read = decode(encode(messages.Close("internal", "ä" * limits.MAX_TEXT_BYTES)))
    assert isinstance(read, messages.Close)
    assert read.detail == "ä" * (limits.MAX_TEXT_BYTES // 2)
