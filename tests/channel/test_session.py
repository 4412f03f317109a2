"""What applications say travels in the session of two workers: after authentication, bounded, in order."""

from __future__ import annotations

from uuid import UUID

import pytest

from pgpeer.channel import limits as channel_limits
from pgpeer.channel.messages import Data, encode
from pgpeer.errors import LocalProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events, limits
from pgpeer.protocol.session import Session

ANN, BOB = PrivateKey.from_seed(b"a" * 32), PrivateKey.from_seed(b"b" * 32)


def sessions() -> tuple[Session, Session]:
    return (
        Session(ANN, "offerer", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, BOB.peer_id, "ann", 0.0),
        Session(BOB, "answerer", b"\x02" * 32, b"\x01" * 32, b"\x04" * 32, None, "bob", 0.0),
    )


def run(ann: Session, bob: Session) -> None:
    moved = True
    while moved:
        moved = False
        for sender, receiver in ((ann, bob), (bob, ann)):
            frame = sender.next_frame()
            if frame is not None:
                moved = True
                receiver.receive_frame(frame, 0.0)


def established() -> tuple[Session, Session]:
    ann, bob = sessions()
    run(ann, bob)
    ann.events()
    bob.events()
    return ann, bob


def test_what_is_said_arrives_in_order() -> None:
    ann, bob = established()
    for n in range(3):
        ann.send_channel(b"%d" % n)
    run(ann, bob)
    assert bob.events() == [events.ChannelReceived(b"%d" % n) for n in range(3)]


def test_nothing_is_said_before_the_other_side_is_known() -> None:
    ann, bob = sessions()
    assert not ann.wants_channel()
    with pytest.raises(LocalProtocolError):
        ann.send_channel(b"early")
    run(ann, bob)
    assert ann.wants_channel()


def test_one_message_waits_at_a_time_and_answers_go_before_it() -> None:
    ann, bob = established()
    ann.send_acknowledgement(UUID(int=1), [])
    ann.send_channel(b"x" * limits.MAX_FRAME_BYTES)
    assert not ann.wants_channel()
    frame = ann.next_frame()
    assert frame is not None
    bob.receive_frame(frame, 0.0)
    assert [type(event) for event in bob.events()] == [events.AcknowledgementReceived]
    run(ann, bob)
    assert ann.wants_channel()


def test_the_largest_message_of_an_application_fits_and_nothing_larger() -> None:
    ann, bob = established()
    largest = encode(Data(UUID(int=1), 2**62, "x" * channel_limits.MAX_DATA_BYTES))
    assert len(largest) <= channel_limits.MAX_FRAME_BYTES == limits.MAX_CHANNEL_BYTES
    ann.send_channel(largest)
    run(ann, bob)
    assert bob.events() == [events.ChannelReceived(largest)]
    with pytest.raises(LocalProtocolError):
        ann.send_channel(b"x" * (limits.MAX_CHANNEL_BYTES + 1))
