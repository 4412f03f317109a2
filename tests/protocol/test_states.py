"""Every message and every command in every state: accepted as the table says, refused otherwise."""

from collections.abc import Callable

import pytest
from wiring import ANSWERER_KEY, BUNDLE, DIGEST, SIGNATURE, answerer, entry, established, offerer

from pgpeer.errors import LocalProtocolError, RemoteProtocolError
from pgpeer.protocol import events, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.messages import DATA_TYPES, Message, MessageType
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import ACCEPTED, State

MESSAGES: dict[MessageType, Message] = {
    MessageType.HELLO: messages.Hello(1, ANSWERER_KEY.peer_id, b"\x04" * 32, "harbour"),
    MessageType.AUTHENTICATION: messages.Authentication(SIGNATURE),
    MessageType.JOIN: messages.Join(BUNDLE, bytes(32)),
    MessageType.JOIN_ACCEPTED: messages.JoinAccepted(BUNDLE, {"tables": []}),
    MessageType.JOIN_REFUSED: messages.JoinRefused(BUNDLE, "refused_policy", "no"),
    MessageType.VECTOR: messages.Vector(BUNDLE, (entry(1),), {DIGEST: (1, 2)}),
    MessageType.VECTOR_DIGEST: messages.VectorDigest(BUNDLE, DIGEST),
    MessageType.VECTOR_REQUEST: messages.VectorRequest(BUNDLE),
    MessageType.COMMIT: messages.Commit(BUNDLE, b"header", SIGNATURE),
    MessageType.SECTION: messages.Section(BUNDLE, DIGEST, 1, False, b"row"),
    MessageType.ACKNOWLEDGEMENT: messages.Acknowledgement(BUNDLE, (entry(1),), b""),
    MessageType.GRANT: messages.Grant(0),
    MessageType.PING: messages.Ping(1),
    MessageType.PONG: messages.Pong(1),
    MessageType.ERROR: messages.Error("timeout", "sync", True, "slow disk", "wait"),
    MessageType.CLOSE: messages.Close("remote_closed", "bye"),
    MessageType.CHANNEL: messages.Channel(b"an application"),
}

HAPPENS: dict[MessageType, events.Event | None] = {
    MessageType.JOIN: events.JoinRequested(BUNDLE, bytes(32)),
    MessageType.JOIN_ACCEPTED: events.JoinAccepted(BUNDLE, {"tables": []}),
    MessageType.JOIN_REFUSED: events.JoinRefused(BUNDLE, "refused_policy", "no"),
    MessageType.VECTOR: events.VectorReceived(BUNDLE, (entry(1),), {DIGEST: (1, 2)}),
    MessageType.ACKNOWLEDGEMENT: events.AcknowledgementReceived(BUNDLE, (entry(1),), b""),
    MessageType.ERROR: events.RemoteError("timeout", "sync", True, "slow disk", "wait"),
    MessageType.CLOSE: events.SessionClosed("remote_closed", "", "bye", True),
    MessageType.CHANNEL: events.ChannelReceived(b"an application"),
    MessageType.VECTOR_DIGEST: None,
    MessageType.VECTOR_REQUEST: None,
    MessageType.GRANT: None,
    MessageType.PING: None,
    MessageType.PONG: None,
}


def session_in(state: State) -> Session:
    """An offerer in this state, with nothing waiting in it."""
    if state is State.ESTABLISHED:
        session = established().offerer
        session.send_vector(BUNDLE, [entry(number) for number in range(1, 40)])
    else:
        session = offerer()
        if state is not State.AWAITING_HELLO:
            hello = answerer().next_frame()
            assert hello is not None
            session.receive_frame(hello, 0.0)
        if state is State.CLOSED:
            session.close()
    assert session.state is state
    while session.next_frame():
        pass
    session.events()
    return session


def frame_of(kind: MessageType) -> bytes:
    outbox = Outbox()
    outbox.put(Lane.DATA if kind in DATA_TYPES else Lane.CONTROL, encode(MESSAGES[kind]))
    found = outbox.next_frame(10_000)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("kind", MessageType)
@pytest.mark.parametrize("state", State)
def test_each_message_in_each_state(state: State, kind: MessageType) -> None:
    session = session_in(state)
    if state is State.CLOSED:
        session.receive_frame(frame_of(kind), 1.0)
        assert session.events() == []
        assert session.next_frame() is None
    elif kind in ACCEPTED[state] and kind is not MessageType.AUTHENTICATION:
        session.receive_frame(frame_of(kind), 1.0)
        happened = session.events()
        if kind is MessageType.HELLO:
            assert session.state is State.AWAITING_AUTHENTICATION
        elif kind is MessageType.CLOSE:
            assert session.state is State.CLOSED
        elif kind in DATA_TYPES:
            assert isinstance(happened[0], events.CommitReceived | events.SectionReceived)
            assert happened[0].credit == len(frame_of(kind))
        else:
            assert session.state is state
            assert happened == ([HAPPENS[kind]] if HAPPENS[kind] else [])
    else:
        with pytest.raises(RemoteProtocolError):
            session.receive_frame(frame_of(kind), 1.0)
        assert session.state is State.CLOSED
        assert [type(event) for event in session.events()] == [events.SessionClosed]
        assert session.next_frame() is not None, "the other side is told why"


def test_the_table_names_every_state() -> None:
    assert set(ACCEPTED) == set(State)


COMMANDS: dict[str, Callable[[Session], None]] = {
    "send_join": lambda s: s.send_join(BUNDLE, bytes(32)),
    "accept_join": lambda s: s.accept_join(BUNDLE, {}),
    "refuse_join": lambda s: s.refuse_join(BUNDLE, "refused_policy", ""),
    "send_vector": lambda s: s.send_vector(BUNDLE, []),
    "send_commit": lambda s: s.send_commit(BUNDLE, b"header", SIGNATURE),
    "send_section": lambda s: s.send_section(BUNDLE, DIGEST, 1, b"row"),
    "send_acknowledgement": lambda s: s.send_acknowledgement(BUNDLE, []),
    "send_error": lambda s: s.send_error("timeout", "sync", True, ""),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", State)
def test_each_command_in_each_state(state: State, command: str) -> None:
    session = session_in(state)
    if state is State.ESTABLISHED:
        COMMANDS[command](session)
        assert session.next_frame() is not None
    else:
        with pytest.raises(LocalProtocolError):
            COMMANDS[command](session)
        assert session.next_frame() is None
        assert session.state is state


@pytest.mark.parametrize("state", State)
def test_a_close_ends_every_state_once(state: State) -> None:
    session = session_in(state)
    session.close("enough")
    session.close("enough")
    expected = [] if state is State.CLOSED else [events.SessionClosed("local_closed", "", "enough", True)]
    assert session.events() == expected
    assert (session.next_frame() is None) is (state is State.CLOSED)
    assert session.next_frame() is None
    assert session.next_deadline() is None


@pytest.mark.parametrize("state", State)
def test_a_lost_link_ends_every_state_once(state: State) -> None:
    session = session_in(state)
    session.link_lost("remote_closed", "transfer", "gone")
    session.link_lost("remote_closed", "transfer", "gone")
    expected = events.SessionClosed("remote_closed", "transfer", "gone", True)
    assert session.events() == ([] if state is State.CLOSED else [expected])


@pytest.mark.parametrize("kind", DATA_TYPES)
def test_data_in_the_control_lane_is_refused(kind: MessageType) -> None:
    outbox = Outbox()
    outbox.put(Lane.CONTROL, encode(MESSAGES[kind]))
    found = outbox.next_frame(0)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        session_in(State.ESTABLISHED).receive_frame(found[0], 1.0)


def test_control_in_the_data_lane_is_refused() -> None:
    outbox = Outbox()
    outbox.put(Lane.DATA, encode(MESSAGES[MessageType.PING]))
    found = outbox.next_frame(10_000)
    assert found is not None
    with pytest.raises(RemoteProtocolError):
        session_in(State.ESTABLISHED).receive_frame(found[0], 1.0)
