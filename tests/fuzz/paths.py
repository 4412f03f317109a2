"""Targets of the transport room: what comes over a path before and after it is proven."""

from __future__ import annotations

from pgpeer.errors import LinkClosed, RemoteProtocolError
from pgpeer.signaling.wire import CIRCUIT_HEADER_BYTES, circuit_frame, read_circuit_frame
from pgpeer.transport import multipath_frames
from pgpeer.transport.multipath import PathSwitch
from pgpeer.transport.negotiation import Negotiation, read_negotiation
from pgpeer.transport.path_proof import (
    NONCE_BYTES,
    TOKEN_BYTES,
    Hello,
    PathProof,
    read_hello,
    read_proof,
    refusal,
)
from pgpeer.worker.addresses import read_address, write_address

from . import samples
from .conversations import frames_of, stream_of
from .signalling import ALICE, BOB

HERE, THERE = b"h" * 32, b"t" * 32
LARGEST = 64 * 1024


def _hello(sender: str, recipient: str, letter: bytes) -> Hello:
    return Hello(letter * TOKEN_BYTES, letter * NONCE_BYTES, sender, recipient)


def _expecting() -> PathProof:
    """Alice has opened a path to Bob."""
    return PathProof(ALICE, "opener", "tls", HERE, THERE, _hello(ALICE.peer_id, BOB.peer_id, b"a"))


def _bobs_proof() -> bytes:
    mine = _hello(BOB.peer_id, ALICE.peer_id, b"b")
    proof = PathProof(BOB, "taker", "tls", THERE, HERE, mine)
    proof.take_hello(_hello(ALICE.peer_id, BOB.peer_id, b"a"))
    return proof.proof()


def hello(data: bytes) -> None:
    """The first frame of a path: whom it names is proven by nothing yet."""
    read = read_hello(data)
    assert read.encode() == data
    _expecting().take_hello(read)
    assert (read.sender, read.recipient) == (BOB.peer_id, ALICE.peer_id)


def hello_samples() -> list[bytes]:
    return [_hello(BOB.peer_id, ALICE.peer_id, b"b").encode()]


def proof(data: bytes) -> None:
    """The second: nothing but the one right proof is taken."""
    waiting = _expecting()
    waiting.take_hello(_hello(BOB.peer_id, ALICE.peer_id, b"b"))
    waiting.check(read_proof(data))
    assert data == _bobs_proof()


def proof_samples() -> list[bytes]:
    return [_bobs_proof(), refusal("refused_policy")]


def negotiation(data: bytes) -> None:
    read = read_negotiation(data)
    assert read_negotiation(read.encode()) == read


def negotiation_samples() -> list[bytes]:
    return [Negotiation("offer", 1, samples.DESCRIPTION).encode(), Negotiation("refuse", 2).encode()]


def circuit(data: bytes) -> None:
    number, content = read_circuit_frame(data, LARGEST)
    assert circuit_frame(number, content) == data
    assert len(data) > CIRCUIT_HEADER_BYTES


def circuit_samples() -> list[bytes]:
    return [circuit_frame(1, b"ciphertext")]


def switch(data: bytes) -> None:
    """A stream hands out only what was sent, in bounded memory, or it ends."""
    stream = PathSwitch(0.0)
    stream.add_path(1, 1, 0.0, is_preferred=True)
    stream.send(b"mine" * 50)
    moment = 0.0
    for frame in frames_of(data):
        moment += 0.25
        try:
            stream.receive(1, frame, moment)
        except RemoteProtocolError as error:
            _check_end(stream, error)
            raise
        for message, _ in stream.messages():
            assert message
            stream.consumed(len(message), moment)
        while stream.next_frame(1, moment) is not None:
            pass
        stream.tick(moment)


def _check_end(stream: PathSwitch, error: RemoteProtocolError) -> None:
    assert isinstance(stream.ended, LinkClosed)
    assert stream.ended.code == error.code


def switch_samples() -> list[bytes]:
    parts = list(multipath_frames.split(b"x" * 300, is_signal=False))
    parts += multipath_frames.split(b"signal", is_signal=True)
    frames = [multipath_frames.data(part, number, 0) for number, part in enumerate(parts)]
    frames += [multipath_frames.pong(1), multipath_frames.ping(7), multipath_frames.acknowledgement(1, 10**7)]
    end = multipath_frames.data(multipath_frames.Part(multipath_frames.Flag.FIN, b""), len(parts), 1)
    return [
        stream_of(*frames),
        stream_of(*frames, end),
        stream_of(*reversed(frames)),
        stream_of(*frames, multipath_frames.abort("timeout")),
    ]


def address(data: bytes) -> None:
    """An address in a peer's record is read as one place, or not at all."""
    read = read_address(data.decode("utf-8", "replace"))
    if read is None:
        raise RemoteProtocolError("It is no address.")
    assert read_address(write_address(*read)) == read


def address_samples() -> list[bytes]:
    return [b"tls://192.0.2.1:7432", b"tls://[2001:db8::1]:7432", b"tls://peer.example:1"]
