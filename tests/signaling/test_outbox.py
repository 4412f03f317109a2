"""What waits for a client that reads slowly stays small. Row B15, and "hub queue" of the limits."""

from __future__ import annotations

import json

from conversation_pair import ALICE, BOB, CAROL, Pair

from pgpeer.signaling.client_events import MailReceived, NamespaceChanged
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import Follow, Mail
from pgpeer.signaling.outbox import Outbox


def test_a_newer_state_of_a_peer_in_a_namespace_replaces_one_that_waits() -> None:
    pair = Pair()
    pair.client.say(Follow(("n", "m")))
    pair.exchange()
    pair.server.push_change("n", BOB.peer_id, b"first")
    pair.server.push_change("n", CAROL.peer_id, b"carol")
    pair.server.push_change("n", BOB.peer_id, b"second")
    pair.server.push_change("m", BOB.peer_id, None)
    pair.exchange()
    assert pair.client_events == [
        NamespaceChanged("n", (b"second", b"carol"), (), False),
        NamespaceChanged("m", (), (BOB.peer_id,), False),
    ]


def test_more_changes_than_are_kept_become_a_word_to_discover_again() -> None:
    outbox = Outbox(HubLimits(queued_changes=100))
    for number in range(10_000):
        outbox.put_change("n", f"peer {number}", b"r" * 1000)
    frames = []
    while (frame := outbox.next_frame()) is not None:
        frames.append(json.loads(frame))
    assert frames == [{"t": "changes", "ns": "n", "joined": [], "left": [], "missed": True}]


def test_the_largest_change_fits_a_frame() -> None:
    outbox = Outbox(HubLimits())
    for number in range(40):
        outbox.put_change("n" * 128, f"peer {number}", b"r" * 1024)
    sizes = []
    while (frame := outbox.next_frame()) is not None:
        sizes.append(len(frame.encode()))
    assert len(sizes) == 2
    assert max(sizes) < 64 * 1024


def test_mail_is_pushed_only_while_there_is_room_and_forgotten_changes_do_not_come() -> None:
    pair = Pair(HubLimits(queued_messages=2))
    mail = Mail(1, ALICE.peer_id, 5, b"box")
    assert [pair.server.push_mail(mail) for _ in range(3)] == [True, True, False]
    pair.server.push_change("n", BOB.peer_id, b"first")
    pair.server.push_missed("m")
    pair.server.forget_changes()
    pair.exchange()
    assert pair.client_events == [MailReceived(1, ALICE.peer_id, 5, b"box")] * 2
