"""Members and strangers that send too much: memory, time and tables are bounded, and others go on."""

from __future__ import annotations

import hashlib
import secrets
import time
from uuid import uuid4

from pgpeer.commit.vector import VectorEntry
from pgpeer.identity.invite import parse_invite
from pgpeer.protocol import messages
from pgpeer.protocol.limits import LARGE_MESSAGE_BYTES
from pgpeer.protocol.packing import Packer, unpacked_size
from pgpeer.worker.exchange import REFUSED_JOINS
from pgpeer.worker.tally import TOLD_PER_PEER

from .crafting import update
from .stage import MEGABYTE, Stage


def test_a_flood_of_errors_is_counted_and_told_a_few_times(stage: Stage) -> None:
    villain, talk = stage.member()
    error = messages.Error("internal", "sync", True, "Nobody wants to know \x1b[31m this\n.", "Do nothing.")
    with stage.unchanged():
        villain.do(talk.say(*[error] * 1500))
        assert stage.goes_on() < 10
    stage.counted(villain, "internal", 1500, kind="peer-error")
    assert villain.do(talk.stays())
    rows = stage.ann.run(
        "SELECT detail FROM peer.event WHERE kind = 'peer-error' AND peer_id = %s", villain.peer_id
    )
    assert len(rows) == TOLD_PER_PEER
    assert {detail for (detail,) in rows} == {"Nobody wants to know \ufffd[31m this\ufffd."}


def test_guessing_at_invites_ends_the_link(stage: Stage) -> None:
    villain, talk = stage.stranger()
    with stage.unchanged():
        invite_id = parse_invite(stage.invite).invite_id
        guesses = [messages.Join(invite_id, secrets.token_bytes(32)) for _ in range(200)]
        villain.do(talk.say(*guesses))
        villain.do(talk.end())
        stage.blamed(villain, "rate_limited")
    stage.counted(villain, "refused_policy", REFUSED_JOINS, kind="join-refused")
    assert not stage.ann.value("SELECT EXISTS (SELECT FROM peer.member WHERE peer_id = %s)", villain.peer_id)


def test_vectors_of_the_largest_size_slow_only_their_sender(stage: Stage) -> None:
    villain, talk = stage.member()
    entries = tuple(VectorEntry(secrets.token_bytes(32), 1, 1, bytes(32)) for _ in range(20_000))
    vector = messages.Vector(stage.ground.bundle_id, entries, {})
    with stage.unchanged(), stage.bounded(150):
        work = villain.start(talk.say(*[vector] * 24))
        took = [stage.goes_on(20) for _ in range(3)]
        print("others went on within", [round(one, 1) for one in took])
        work.cancel()
    assert min(took) < 10


def test_sections_that_unpack_to_the_largest_size_take_turns(stage: Stage) -> None:
    """Three members at once send half a megabyte that becomes 128 each, within every limit."""
    packed = Packer()._compressor.compress(
        b"".join(secrets.token_bytes(9) + bytes(2200) for _ in range(52_000))
    )
    assert 2 * LARGE_MESSAGE_BYTES < 100 * MEGABYTE < unpacked_size(packed)
    villains = [stage.member() for _ in range(3)]
    with stage.unchanged(), stage.bounded(450):
        for villain, talk in villains:
            made = update(stage.ground, villain.key, "large")
            section = messages.Section(stage.ground.bundle_id, made.header.digest, 1, True, packed)
            villain.do(talk.say(made.commit(), section))
        assert stage.goes_on() < 10
        for villain, talk in villains:
            villain.do(talk.end())
            phase, code, *_ = stage.event(villain)
            assert phase == "transfer"
            assert code in ("bad_message", "too_large")


def test_a_header_with_many_sections_takes_bounded_time_and_memory(stage: Stage) -> None:
    villain, talk = stage.member()
    made = update(stage.ground, villain.key, "many")
    sections = tuple(made.header.sections[0] for _ in range(3_000))
    made = made.changed(sections=sections)
    began = time.monotonic()
    with stage.unchanged(), stage.bounded(250):
        villain.do(talk.say(made.commit()))
        stage.goes_on(20)
        stage.ann.wait_until(
            "SELECT EXISTS (SELECT FROM peer_internal.commit WHERE digest = %s)", made.header.digest
        )
    print(f"{time.monotonic() - began:.1f} s for {len(made.header.encode())} bytes")
    assert stage.goes_on() < 10


def test_commits_of_endlessly_many_bundles_and_programs_are_refused(stage: Stage) -> None:
    villain, talk = stage.member()
    with stage.unchanged(), stage.bounded(60):
        villain.do(talk.say(*[messages.Vector(uuid4(), (), {}) for _ in range(2000)]))
        villain.do(
            talk.say(*[messages.VectorDigest(uuid4(), hashlib.sha256().digest()) for _ in range(2000)])
        )
        assert stage.goes_on() < 10
    stage.agree()
