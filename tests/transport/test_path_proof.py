"""Proving who is at both ends of a path, and what somebody in the middle can do about it."""

import asyncio
import secrets
from dataclasses import replace

import pytest
from virtual_time import in_virtual_time

from pgpeer.errors import LinkClosed, RemoteProtocolError, TransportError
from pgpeer.identity.key import PrivateKey
from pgpeer.transport.base import Link, PathKind
from pgpeer.transport.memory import memory_pair
from pgpeer.transport.negotiation import Negotiation, read_negotiation
from pgpeer.transport.path_proof import (
    NONCE_BYTES,
    PATH_VERSION,
    TOKEN_BYTES,
    Hello,
    PathProof,
    read_hello,
    read_proof,
    refusal,
    stream_fingerprints,
)
from pgpeer.transport.proving import prove_as_opener, prove_as_taker

ALICE, BOB, MALLORY = (PrivateKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
FINGERPRINTS = {key.peer_id: bytes([number]) * 32 for number, key in enumerate((ALICE, BOB, MALLORY))}


def hello(sender: PrivateKey, recipient: PrivateKey) -> Hello:
    token, nonce = secrets.token_bytes(TOKEN_BYTES), secrets.token_bytes(NONCE_BYTES)
    return Hello(token, nonce, sender.peer_id, recipient.peer_id)


def sides(kind: PathKind = "relay") -> tuple[PathProof, PathProof, Hello, Hello]:
    first, second = hello(ALICE, BOB), hello(BOB, ALICE)
    a, b = FINGERPRINTS[ALICE.peer_id], FINGERPRINTS[BOB.peer_id]
    opener = PathProof(ALICE, "opener", "relay", a, b, first)
    taker = PathProof(BOB, "taker", kind, b, a, second)
    opener.take_hello(read_hello(second.encode()))
    taker.take_hello(read_hello(first.encode()))
    return opener, taker, first, second


def test_both_sides_prove_themselves_to_each_other() -> None:
    opener, taker, first, second = sides()
    taker.check(read_proof(opener.proof()))
    opener.check(read_proof(taker.proof()))
    mine, theirs = stream_fingerprints(first, second)
    assert stream_fingerprints(second, first) == (theirs, mine)
    assert mine != theirs
    assert stream_fingerprints(replace(first, token=bytes(16)), second) != (mine, theirs)


def test_a_proof_is_worth_nothing_when_it_is_sent_back() -> None:
    opener, _, _, _ = sides()
    with pytest.raises(RemoteProtocolError) as refused:
        opener.check(read_proof(opener.proof()))
    assert refused.value.code == "bad_signature"


def test_a_proof_is_worth_nothing_on_another_path_kind_or_at_another_time() -> None:
    opener, _, _, _ = sides()
    for other in (sides("webrtc")[1], sides()[1]):
        with pytest.raises(RemoteProtocolError) as refused:
            other.check(read_proof(opener.proof()))
        assert refused.value.code == "bad_signature"


@pytest.mark.parametrize("member", ["token", "nonce"])
def test_a_hello_that_was_changed_on_its_way_spoils_the_proof(member: str) -> None:
    opener, _, first, _ = sides()
    changed = replace(first, **{member: secrets.token_bytes(len(getattr(first, member)))})
    a, b = FINGERPRINTS[ALICE.peer_id], FINGERPRINTS[BOB.peer_id]
    taker = PathProof(BOB, "taker", "relay", b, a, hello(BOB, ALICE))
    taker.take_hello(changed)
    with pytest.raises(RemoteProtocolError):
        taker.check(read_proof(opener.proof()))


def test_somebody_in_the_middle_of_tls_cannot_pass_proofs_on() -> None:
    """Mallory ends TLS on both sides and forwards every frame: the fingerprints differ."""
    first, second = hello(ALICE, BOB), hello(BOB, ALICE)
    a, b, m = (FINGERPRINTS[key.peer_id] for key in (ALICE, BOB, MALLORY))
    opener = PathProof(ALICE, "opener", "relay", a, m, first)
    taker = PathProof(BOB, "taker", "relay", b, m, second)
    opener.take_hello(second)
    taker.take_hello(first)
    for here, there in ((opener, taker), (taker, opener)):
        with pytest.raises(RemoteProtocolError) as refused:
            here.check(read_proof(there.proof()))
        assert (refused.value.code, refused.value.phase) == ("identity_mismatch", "identity")
        assert refused.value.remedy


def test_a_proof_whose_fingerprints_were_changed_on_its_way_is_no_proof() -> None:
    """Mallory writes into the proof the certificates that each side sees: they are signed."""
    first, second = hello(ALICE, BOB), hello(BOB, ALICE)
    a, b, m = (FINGERPRINTS[key.peer_id] for key in (ALICE, BOB, MALLORY))
    opener = PathProof(ALICE, "opener", "relay", a, m, first)
    taker = PathProof(BOB, "taker", "relay", b, m, second)
    opener.take_hello(second)
    taker.take_hello(first)
    honest = read_proof(taker.proof())
    with pytest.raises(RemoteProtocolError) as refused:
        opener.check(replace(honest, fingerprints=(m, a)))
    assert refused.value.code == "bad_signature"


@pytest.mark.parametrize(
    "other", [hello(MALLORY, ALICE), hello(BOB, MALLORY), hello(ALICE, ALICE)], ids=["from", "for", "self"]
)
def test_a_hello_from_or_for_somebody_else_is_refused(other: Hello) -> None:
    a, b = FINGERPRINTS[ALICE.peer_id], FINGERPRINTS[BOB.peer_id]
    opener = PathProof(ALICE, "opener", "relay", a, b, hello(ALICE, BOB))
    with pytest.raises(RemoteProtocolError) as refused:
        opener.take_hello(other)
    assert refused.value.code == "identity_mismatch"


def test_malformed_frames_are_refused() -> None:
    good = hello(ALICE, BOB).encode()
    for cut in range(1, len(good)):
        with pytest.raises(RemoteProtocolError):
            read_hello(good[:cut])
    for bad in (good + b"x", b"\x02" + good[1:], good[:-3] + b"\xff\xff\xff", good[:60] + b"zz" + good[62:]):
        with pytest.raises(RemoteProtocolError):
            read_hello(bad)
    right = 1 + 2 * 32 + 64
    for bad in (b"\x02", b"\x02" + bytes(right - 2), b"\x02" + bytes(right), b"\x01" + bytes(right - 1)):
        with pytest.raises(RemoteProtocolError):
            read_proof(bad)


def test_another_version_says_which_side_to_upgrade_whatever_else_it_says() -> None:
    good = hello(ALICE, BOB).encode()
    for version, older in ((PATH_VERSION + 1, "this side"), (PATH_VERSION - 1, "the other side")):
        head = b"\x01" + version.to_bytes(2, "big")
        for rest in (good[3:], b"", b"something of another form", bytes(60_000)):
            with pytest.raises(RemoteProtocolError) as refused:
                read_hello(head + rest)
            assert (refused.value.code, refused.value.phase) == ("version_mismatch", "hello")
            assert f"version {version}" in str(refused.value)
            assert f"Upgrade pgpeer on {older}" in refused.value.remedy
        for read in (read_hello, read_proof):  # the other side was the one that noticed
            with pytest.raises(TransportError) as told:
                read(b"\x03" + version.to_bytes(2, "big") + b"version_mismatch")
            assert (told.value.code, told.value.phase) == ("version_mismatch", "hello")
            assert told.value.remedy == refused.value.remedy


@in_virtual_time
async def test_two_versions_tell_each_other_on_a_path_whoever_opened_it() -> None:
    for version in (PATH_VERSION - 1, PATH_VERSION + 1):
        for prove in (
            lambda link: prove_as_opener(ALICE, link, BOB.peer_id, bytes(16)),
            lambda link: prove_as_taker(ALICE, link, lambda _: bytes(16)),
        ):
            mine, theirs = memory_pair()
            proving = asyncio.ensure_future(prove(mine))
            await theirs.send(b"\x01" + version.to_bytes(2, "big") + b"a hello of that version")
            with pytest.raises(RemoteProtocolError) as refused:
                await proving
            assert refused.value.code == "version_mismatch"
            assert mine.closed
            said: list[bytes] = []
            with pytest.raises(LinkClosed):
                await read_all(theirs, said)
            # it learns from it which version is spoken here, and what to do
            assert said[-1] == b"\x03" + PATH_VERSION.to_bytes(2, "big") + b"version_mismatch"


@in_virtual_time
async def test_an_opener_that_is_told_of_another_version_says_so() -> None:
    mine, theirs = memory_pair()
    proving = asyncio.ensure_future(prove_as_opener(ALICE, mine, BOB.peer_id, bytes(16)))
    assert (await theirs.receive())[:1] == b"\x01"
    await theirs.send(b"\x03" + (PATH_VERSION + 1).to_bytes(2, "big") + b"version_mismatch")
    with pytest.raises(TransportError) as told:
        await proving
    assert told.value.code == "version_mismatch"
    assert "this side" in told.value.remedy


def test_a_refusal_before_the_proof_says_why_but_is_never_the_peers_no() -> None:
    for read in (read_hello, read_proof):
        for code, known in (
            ("bad_signature", "bad_signature"),
            ("identity_mismatch", "identity_mismatch"),
            ("refused_policy", "remote_closed"),
            ("refused_blocked", "remote_closed"),
            ("nonsense", "remote_closed"),
            ("", "remote_closed"),
        ):
            with pytest.raises(TransportError) as refused:
                read(refusal(code))
            assert (refused.value.code, refused.value.retryable) == (known, True)
        with pytest.raises(TransportError):
            read(b"\x03")


@in_virtual_time
async def test_a_stolen_identity_is_refused_and_both_links_are_closed() -> None:
    """Mallory says that she is Alice; she does not have Alice's key."""
    first, second = memory_pair()
    liar = PrivateKey.from_seed(bytes([3]) * 32)
    liar.peer_id = ALICE.peer_id
    results = await asyncio.gather(
        prove_as_opener(liar, first, BOB.peer_id, bytes(16)),
        prove_as_taker(BOB, second, lambda _: bytes(16), ""),
        return_exceptions=True,
    )
    refused = results[1]
    assert isinstance(refused, RemoteProtocolError)
    assert refused.code == "bad_signature"
    assert second.closed
    said: list[bytes] = []
    with pytest.raises(LinkClosed):
        await read_all(first, said)
    assert {frame[0] for frame in said} <= {3}  # the refusal, and nothing of the application


async def read_all(link: Link, into: list[bytes]) -> None:
    while True:
        into.append(await link.receive())


def test_negotiations_are_read_or_refused() -> None:
    step = Negotiation("offer", 7, "v=0\r\n")
    assert read_negotiation(step.encode()) == step
    for bad in (
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"kind": "offer"}',
        b'{"kind": "other", "number": 1, "sdp": ""}',
        b'{"kind": "offer", "number": true, "sdp": ""}',
        b'{"kind": "offer", "number": 1, "sdp": null}',
        b"[" * 50_000,
    ):
        with pytest.raises(RemoteProtocolError):
            read_negotiation(bad)
