"""What is special about TLS links: certificates, what an eavesdropper sees, and hostile bytes."""

import asyncio
import os
import socket
import ssl
import sys
from pathlib import Path

import pytest
import uvloop
from engines import HUB, relayed, tls_loopback

from pgpeer.errors import ConfigError, LinkClosed, TransportError
from pgpeer.transport.base import MAX_FRAME_BYTES, Candidate, LinkPath
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.direct import OPENING_LIMIT, OPENING_PER_ADDRESS_LIMIT, dial, listen
from pgpeer.transport.pipe import MemoryPipe, memory_pipe_pair
from pgpeer.transport.relay import open_relay
from pgpeer.transport.tls import TlsLink, open_tls

HERE = Candidate("memory", "here", 0, "memory")
PATH = LinkPath("tls", "openssl", HERE, HERE)


def open_sockets() -> int:
    links = (entry for entry in Path("/proc/self/fd").iterdir())
    count = 0
    for entry in links:
        try:
            count += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return count


async def never(_: TlsLink) -> None:
    raise AssertionError("nothing that fails may open")


async def test_the_hub_sees_ciphertext_only() -> None:
    first, second = await relayed()
    assert isinstance(first, TlsLink)
    assert isinstance(first._pipe, MemoryPipe)
    secret = b"the patient's name is written here " * 20
    await first.send(secret)
    assert await second.receive() == secret
    await second.send(secret)
    assert await first.receive() == secret
    for end in (first._pipe, first._pipe.other_end):
        assert len(end.carried) > len(secret)
        assert secret[:16] not in end.carried
    assert (first.path.kind, first.path.engine) == ("relay", "hub")
    assert HUB in str(first.path)
    await asyncio.gather(first.close(), second.close())


async def test_a_direct_link_names_its_addresses_and_speaks_tls_1_3() -> None:
    first, second = await tls_loopback()
    assert isinstance(first, TlsLink)
    assert (first.path.kind, first.path.engine) == ("tls", "openssl")
    assert first.path.remote_candidate == second.path.local_candidate
    assert first.path.local_candidate.protocol == "tcp"
    assert first._connection.get_protocol_version_name() == "TLSv1.3"
    await asyncio.gather(first.close(), second.close())


async def test_another_certificate_than_the_expected_one_is_refused() -> None:
    ends = memory_pipe_pair()
    theirs, other = Certificate.generate(), Certificate.generate()
    answering = asyncio.create_task(open_tls(ends[1], theirs, PATH, is_client=False))
    with pytest.raises(TransportError) as refused:
        await open_tls(
            ends[0], Certificate.generate(), PATH, is_client=True, expected_fingerprint=other.fingerprint
        )
    assert (refused.value.code, refused.value.phase, refused.value.retryable) == (
        "identity_mismatch",
        "identity",
        False,
    )
    with pytest.raises(TransportError):  # while it opens, or with the first frame
        await (await answering).receive()


async def test_the_expected_certificate_is_taken() -> None:
    ends = memory_pipe_pair()
    mine, theirs = Certificate.generate(), Certificate.generate()
    first, second = await asyncio.gather(
        open_tls(ends[0], mine, PATH, is_client=True, expected_fingerprint=theirs.fingerprint),
        open_tls(ends[1], theirs, PATH, is_client=False, expected_fingerprint=mine.fingerprint),
    )
    assert first.remote_fingerprint == theirs.fingerprint
    assert second.remote_fingerprint == mine.fingerprint
    assert mine.fingerprint.hex() in repr(mine)
    await asyncio.gather(first.close(), second.close())


async def test_somebody_in_the_middle_shows_other_fingerprints_to_both_sides() -> None:
    left, middle_left = memory_pipe_pair()
    middle_right, right = memory_pipe_pair()
    mallory = Certificate.generate()
    alice, bob = Certificate.generate(), Certificate.generate()
    first, _, _, second = await asyncio.gather(
        open_relay(left, alice, hub_url=HUB, is_opener=True),
        open_relay(middle_left, mallory, hub_url=HUB, is_opener=False),
        open_relay(middle_right, mallory, hub_url=HUB, is_opener=True),
        open_relay(right, bob, hub_url=HUB, is_opener=False),
    )
    assert first.remote_fingerprint != bob.fingerprint  # so the transcripts that both sign differ
    assert second.remote_fingerprint != alice.fingerprint
    for end in (left, right):
        end.cut()


async def test_a_side_that_says_nothing_fails_in_time() -> None:
    here, _ = memory_pipe_pair()
    with pytest.raises(TransportError) as refused:
        await open_tls(here, Certificate.generate(), PATH, is_client=True, seconds=0.05)
    assert (refused.value.code, refused.value.retryable) == ("timeout", True)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(400), b"\x16\x03\x01" + bytes(600)])
async def test_a_stranger_without_tls_is_refused_and_costs_nothing(junk: bytes) -> None:
    sockets = open_sockets()
    listener = await listen("127.0.0.1", 0, Certificate.generate(), never)
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(junk)
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    await listener.close()
    await asyncio.sleep(0.05)
    assert open_sockets() == sockets


async def test_a_client_without_a_certificate_or_with_another_protocol_is_refused() -> None:
    listener = await listen("127.0.0.1", 0, Certificate.generate(), never)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(listener.host, listener.port, ssl=context)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):  # TLS 1.3 tells it with the first read
        await asyncio.wait_for(reader.read(), 5)
    writer.close()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(listener.host, listener.port, ssl=context)
    await listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at all of 127.0.0.0/8")
async def test_strangers_that_never_finish_are_limited() -> None:
    listener = await listen("127.0.0.1", 0, Certificate.generate(), never)
    strangers = [
        await asyncio.open_connection(listener.host, listener.port, local_addr=(f"127.0.0.{2 + n // 16}", 0))
        for n in range(OPENING_LIMIT + 1)
    ]
    reader, _ = strangers[-1]
    assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, writer in strangers:
        writer.close()
    await listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at all of 127.0.0.0/8")
async def test_one_stranger_does_not_keep_others_out() -> None:
    incoming: asyncio.Queue[TlsLink] = asyncio.Queue()
    listener = await listen("127.0.0.1", 0, Certificate.generate(), incoming.put)
    stranger = [
        await asyncio.open_connection(listener.host, listener.port, local_addr=("127.0.0.9", 0))
        for _ in range(OPENING_PER_ADDRESS_LIMIT + 1)
    ]
    assert await asyncio.wait_for(stranger[-1][0].read(), 5) == b""
    first = await dial(listener.host, listener.port, Certificate.generate())
    second = await incoming.get()
    await asyncio.gather(first.close(), second.close())
    for _, writer in stranger:
        writer.close()
    await listener.close()


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
async def test_a_frame_of_a_wrong_size_ends_the_link(length: int) -> None:
    first, second = await relayed()
    assert isinstance(first, TlsLink)
    first._connection.sendall(length.to_bytes(4, "big") + b"x")
    first._has_output.set()
    with pytest.raises(LinkClosed) as refused:
        await asyncio.wait_for(second.receive(), 5)
    assert refused.value.code == "too_large"
    await asyncio.gather(first.close(), second.close())


async def test_damaged_ciphertext_ends_the_link() -> None:
    first, second = await relayed()
    assert isinstance(first, TlsLink)
    assert isinstance(first._pipe, MemoryPipe)
    first._pipe.other_end.arrive(os.urandom(500))
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(second.receive(), 5)
    await asyncio.gather(first.close(), second.close())


async def test_a_reader_that_takes_nothing_holds_up_the_sender_and_nothing_grows() -> None:
    first, second = await tls_loopback()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await first.send(b"x" * MAX_FRAME_BYTES)
            sent += MAX_FRAME_BYTES

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0.5)
    stuck_at = sent
    await asyncio.sleep(0.2)
    assert sent == stuck_at
    assert second.bytes_received < 1024 * 1024
    flooding.cancel()
    await asyncio.wait([flooding])
    await asyncio.gather(first.close(), second.close())


def test_links_work_in_the_workers_own_event_loop() -> None:
    async def echo() -> None:
        first, second = await tls_loopback()
        await first.send(b"x" * 60_000)
        assert await second.receive() == b"x" * 60_000
        await asyncio.gather(first.close(), second.close())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(echo())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at all of 127.0.0.0/8")
async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    incoming: asyncio.Queue[TlsLink] = asyncio.Queue()
    listener = await listen("127.0.0.1", 0, Certificate.generate(), incoming.put)

    async def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, listener.port)) for address in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    first = await dial("peer.example", listener.port, Certificate.generate())
    second = await incoming.get()
    assert first.path.remote_candidate.address == "127.0.0.1"
    await asyncio.gather(first.close(), second.close())
    await listener.close()


async def test_nobody_listening_is_said_plainly() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError) as refused:
            await dial("127.0.0.1", unused.getsockname()[1], Certificate.generate())
    assert (refused.value.phase, refused.value.retryable) == ("resolve", True)
    assert refused.value.remedy


async def test_an_address_that_cannot_be_listened_at_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError) as refused:
        await listen("192.0.2.1", 0, Certificate.generate(), never)
    assert refused.value.remedy
