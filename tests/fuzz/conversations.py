"""Targets that are conversations: the input is a row of frames for a session in some state."""

from __future__ import annotations

from functools import cache

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, messages
from pgpeer.protocol.encoding import encode
from pgpeer.protocol.framing import Lane, Outbox
from pgpeer.protocol.messages import DATA_TYPES, MessageType
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State

from . import samples

HERE, THERE = PrivateKey.from_seed(b"h" * 32), PrivateKey.from_seed(b"t" * 32)


def frames_of(data: bytes) -> list[bytes]:
    """Take the input apart: each frame has its length (2 bytes) before it; the last takes what is left."""
    frames = []
    while data:
        size = int.from_bytes(data[:2], "big")
        frames.append(data[2 : 2 + size])
        data = data[2 + size :]
    return frames


def stream_of(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


@cache
def _greeting() -> tuple[bytes, bytes]:
    """The two frames by which the other side proves itself to `_fresh`."""
    here = _fresh()
    there = Session(THERE, "answerer", b"\2" * 32, b"\1" * 32, b"\4" * 32, HERE.peer_id, "there", 0.0)
    hello = there.next_frame() or b""
    there.receive_frame(here.next_frame() or b"", 0.0)
    return hello, there.next_frame() or b""


def _fresh() -> Session:
    return Session(HERE, "offerer", b"\1" * 32, b"\2" * 32, b"\3" * 32, THERE.peer_id, "here", 0.0)


def _established() -> Session:
    session = _fresh()
    for frame in _greeting():
        session.receive_frame(frame, 0.0)
    session.send_vector(samples.ID, [VectorEntry(bytes(32), 1, 1, bytes(32))])
    return session


def handshake(data: bytes) -> None:
    """A session that knows nobody yet never takes anything but a proof."""
    session = _fresh()
    _receive(session, data)
    proven = [one for one in session.events() if isinstance(one, events.Authenticated)]
    if session.state is State.ESTABLISHED:
        assert [one.peer_id for one in proven] == [THERE.peer_id]


def session(data: bytes) -> None:
    """A session with a proven peer hands out only what is within the limits, or ends."""
    talking = _established()
    talking.events()
    _receive(talking, data)
    for event in talking.events():
        if isinstance(event, events.SectionReceived):
            talking.unpack(event)


def _receive(session: Session, data: bytes) -> None:
    moment = 0.0
    for frame in frames_of(data):
        moment += 0.5
        try:
            session.receive_frame(frame, moment)
        except RemoteProtocolError as error:
            _check_refusal(session, error)
            raise
        while session.next_frame() is not None:
            pass
    assert (session.next_deadline() is None) is (session.state is State.CLOSED)


def _check_refusal(session: Session, error: RemoteProtocolError) -> None:
    assert session.state is State.CLOSED
    closed = session.events()[-1]
    assert isinstance(closed, events.SessionClosed)
    assert closed.code == error.code
    assert session.next_frame() is not None, "the other side is told why"


def _frame(message: bytes, lane: Lane) -> bytes:
    outbox = Outbox()
    outbox.put(lane, message)
    found = outbox.next_frame(1_000_000)
    assert found is not None
    return found[0]


def streams() -> list[bytes]:
    made = []
    for message, encoded in zip(samples.MESSAGES, samples.protocol_messages(), strict=True):
        name = type(message).__name__.upper()
        is_data = name in {kind.name for kind in DATA_TYPES}
        made.append(_frame(encoded, Lane.DATA if is_data else Lane.CONTROL))
    outbox = Outbox()
    outbox.put(Lane.DATA, encode(messages.Section(samples.ID, bytes(32), 1, False, bytes(70_000))))
    found = [outbox.next_frame(2000), outbox.next_frame(200_000)]
    split = [one[0] for one in found if one is not None]
    after = [one for number, one in enumerate(made) if number not in (0, 1, 15)]
    return [stream_of(one) for one in made] + [
        stream_of(*after),
        stream_of(*split),
        stream_of(b"".join(made[8:12])),
    ]


def handshakes() -> list[bytes]:
    hello, proof = _greeting()
    close = _frame(encode(messages.Close("remote_closed", "bye")), Lane.CONTROL)
    assert MessageType.CLOSE not in DATA_TYPES
    return [
        stream_of(hello),
        stream_of(hello, proof),
        stream_of(hello, close),
        stream_of(hello, proof, close),
    ]
