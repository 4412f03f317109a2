import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling import messages
from pgpeer.signaling.wire import decode_for_client, decode_for_hub, encode

PEERS = [PrivateKey.from_seed(bytes([number]) * 32).peer_id for number in range(1, 6)]
LIMIT = 64 * 1024

peers = st.sampled_from(PEERS)
labels = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=128)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
sids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
requests = st.integers(0, 2**53 - 1)
boxes = st.binary(max_size=200)

spaces = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
features = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=32), max_size=4
).map(tuple)
circuit_messages = [
    st.builds(messages.Credit, requests, st.integers(1, 2**31)),
    st.builds(messages.End, requests),
    st.builds(messages.Shut, requests, texts, texts),
]
from_client = st.one_of(
    st.builds(messages.Authenticate, peers, labels, texts, boxes, features, st.booleans()),
    st.builds(messages.Watch, st.lists(peers).map(tuple)),
    st.builds(messages.SendSignal, requests, peers, sids, boxes),
    st.just(messages.Ping()),
    st.builds(messages.Register, requests, spaces, requests, boxes),
    st.builds(messages.Unregister, requests, spaces),
    st.builds(messages.Discover, requests, spaces, requests, st.integers(1, 1000)),
    st.builds(messages.Follow, st.lists(spaces).map(tuple)),
    st.builds(messages.Post, requests, peers, requests, boxes),
    st.builds(messages.Taken, st.lists(requests).map(tuple)),
    st.builds(messages.AskTurn, requests),
    st.builds(messages.OpenCircuit, requests, peers),
    st.builds(messages.Accept, requests),
    *circuit_messages,
)
from_hub = st.one_of(
    st.builds(messages.Hello, texts, st.binary(min_size=32, max_size=32), features),
    st.builds(messages.Welcome, st.floats(0.1, 3600)),
    st.builds(messages.Presence, st.dictionaries(peers, labels), st.lists(peers).map(tuple)),
    st.builds(messages.Delivery, requests, st.booleans()),
    st.builds(messages.TakeSignal, peers, sids, boxes),
    st.builds(messages.Refusal, texts, texts, texts, st.booleans(), st.none() | requests, st.none() | texts),
    st.just(messages.Pong()),
    st.builds(messages.Registered, requests, requests),
    st.builds(
        messages.Discovered, requests, st.lists(boxes, max_size=32).map(tuple), requests, st.booleans()
    ),
    st.builds(
        messages.Changes,
        spaces,
        st.lists(boxes, max_size=32).map(tuple),
        st.lists(peers).map(tuple),
        st.booleans(),
    ),
    st.builds(messages.Posted, requests, requests),
    st.builds(messages.Mail, requests, peers, requests, boxes),
    st.builds(messages.TurnOffer, requests, st.lists(texts, max_size=16).map(tuple), texts, texts, requests),
    st.builds(messages.CircuitOpened, requests, requests),
    st.builds(messages.CircuitOffered, requests, peers),
    *circuit_messages,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | peers | sids,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
field_names = ["peer_id", "label", "url", "sig", "peers", "id", "to", "from", "sid", "box", "hub_id", "nonce"]
more_names = [
    "ns",
    "ttl",
    "record",
    "records",
    "cookie",
    "limit",
    "mail",
    "mails",
    "circuit",
    "bytes",
    "joined",
    "left",
    "proto",
    "lease",
    "online",
    "offline",
    "code",
    "detail",
    "hint",
    "retryable",
]
types = [
    "auth",
    "watch",
    "signal",
    "ping",
    "hello",
    "ok",
    "presence",
    "delivered",
    "offline",
    "error",
    "pong",
    *["register", "registered", "discover", "peers", "follow", "changes", "post", "posted", "mail", "taken"],
    *["turn", "open", "opened", "circuit", "accept", "credit", "end", "shut"],
    "x",
]
malformed = st.builds(
    lambda kind, fields: json.dumps({"t": kind} | fields),
    st.sampled_from(types),
    st.dictionaries(st.sampled_from(field_names + more_names), json_values),
)


@given(from_client)
def test_what_a_client_says_the_hub_reads(message: messages.ClientMessage) -> None:
    assert decode_for_hub(encode(message), LIMIT) == message


@given(from_hub)
def test_what_a_hub_says_the_client_reads(message: messages.HubMessage) -> None:
    assert decode_for_client(encode(message), LIMIT) == message


@settings(max_examples=50)
@given(malformed | st.text(max_size=100))
def test_malformed_input_raises_nothing_but_a_typed_error(frame: str) -> None:
    for decode in (decode_for_hub, decode_for_client):
        try:
            message = decode(frame, LIMIT)
        except RemoteProtocolError:
            continue
        assert decode(encode(message), LIMIT) == message


@given(st.text(max_size=300))
def test_any_text_makes_a_label_and_a_label_stays_as_it_is(text: str) -> None:
    label = messages.presentable_label(text)
    assert messages.is_label(label)
    assert messages.presentable_label(label) == label
    assert label == text or not messages.is_label(text)


@pytest.mark.parametrize(
    "frame", ["[" * 60_000, '{"t":' + "9" * 6000 + "}", '{"t":["ping"]}', '{"t":null}', "null", "\ud800", ""]
)
def test_hostile_json_is_refused(frame: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_for_hub(frame, LIMIT)


def test_a_frame_above_the_limit_is_refused_in_bytes_not_characters() -> None:
    frame = json.dumps({"t": "ping", "more": "é" * 100}, ensure_ascii=False)
    assert decode_for_hub(frame, len(frame.encode())) == messages.Ping()
    with pytest.raises(RemoteProtocolError) as caught:
        decode_for_hub(frame, len(frame.encode()) - 1)
    assert caught.value.code == "too_large"


def test_neither_side_takes_the_other_sides_messages() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_for_hub(encode(messages.Pong()), LIMIT)
    with pytest.raises(RemoteProtocolError):
        decode_for_client(encode(messages.Ping()), LIMIT)


def test_a_hub_of_another_version_is_refused_as_such() -> None:
    hello = json.loads(encode(messages.Hello("hub", b"n" * 32)))
    for versions in ([2], [], None, "1"):
        with pytest.raises(RemoteProtocolError) as caught:
            decode_for_client(json.dumps(hello | {"proto": versions}), LIMIT)
        assert caught.value.code == "version_mismatch"


def test_the_largest_presence_message_fits_a_frame() -> None:
    keys = [
        PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(messages.PRESENCE_ENTRIES_LIMIT)
    ]
    widest = {key.peer_id: "\U0001f6a2" * messages.LABEL_CHARACTERS_LIMIT for key in keys}
    assert len(encode(messages.Presence(widest, ())).encode()) < LIMIT


def test_the_largest_watch_message_fits_a_frame() -> None:
    peer_ids = tuple(PEERS[:1]) * 1024
    assert len(encode(messages.Watch(peer_ids)).encode()) < LIMIT
