"""What is special about WebRTC: SDP from outside, candidates, time-outs and sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import ifaddr
import pytest

from pgpeer.errors import ConfigError, LinkClosed, TransportError
from pgpeer.transport import webrtc
from pgpeer.transport.ice import IceServer, IceSettings
from pgpeer.transport.session_description import MAX_CANDIDATES, MAX_SDP_BYTES, read_description


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return count


@pytest.fixture
def silent_stun_server() -> Iterator[str]:
    """A UDP port that takes everything and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"stun:127.0.0.1:{silent.getsockname()[1]}"


async def connect() -> tuple[webrtc.WebRTCLink, webrtc.WebRTCLink]:
    offer = await webrtc.offer()
    answer = await webrtc.answer(offer.sdp)
    first, second = await asyncio.gather(offer.accept(answer.sdp), answer.opened())
    return first, second


async def test_the_selected_candidate_pair_is_known() -> None:
    first, second = await connect()
    assert (first.path.kind, first.path.engine) == ("webrtc", "aiortc")
    assert first.path.local_candidate.type == "host"
    assert first.path.local_candidate.protocol == "udp"
    assert first.path.local_candidate == second.path.remote_candidate
    assert first.path.local_candidate.port > 0
    await first.close()
    await second.close()


async def test_closing_leaves_no_socket_task_or_thread_behind() -> None:
    sockets, tasks, threads = open_sockets(), len(asyncio.all_tasks()), threading.active_count()
    for _ in range(3):
        first, second = await connect()
        await first.send(b"hello")
        assert await second.receive() == b"hello"
        await first.close()
        await second.close()
    pending = await webrtc.offer()
    await pending.close()
    await asyncio.sleep(0.05)
    assert open_sockets() == sockets
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() == threads


async def test_a_host_with_no_network_uses_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [adapter for adapter in ifaddr.get_adapters() if adapter.name == "lo"]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)
    first, second = await connect()
    assert first.path.local_candidate.address == "127.0.0.1"
    await first.close()
    await second.close()


async def test_a_silent_stun_server_delays_an_offer_by_two_seconds_at_most(silent_stun_server: str) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    offer = await webrtc.offer(IceSettings((IceServer(silent_stun_server),)))
    assert loop.time() - began < 3
    assert "typ host" in offer.sdp
    await offer.close()


async def test_a_peer_that_never_answers_checks_is_reported_slow_and_then_failed() -> None:
    sockets = open_sockets()
    offer, other = await webrtc.offer(), await webrtc.offer()
    answer = await webrtc.answer(other.sdp)
    phases: list[str] = []
    with pytest.raises(TransportError) as refused:
        await offer.accept(answer.sdp, on_slow=phases.append, slow_seconds=0.1, fail_seconds=0.4)
    assert phases == ["ice"]
    assert (refused.value.code, refused.value.phase, refused.value.retryable) == ("timeout", "ice", True)
    assert refused.value.remedy
    with pytest.raises(TransportError):
        await answer.opened(slow_seconds=0.1, fail_seconds=0.2)
    await other.close()
    await asyncio.sleep(0.05)
    assert open_sockets() == sockets


async def test_a_certificate_other_than_the_signalled_one_is_refused() -> None:
    offer = await webrtc.offer()
    answer = await webrtc.answer(offer.sdp)
    swapped = answer.sdp.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:", 1)
    swapped = "\r\n".join(
        line[:-3] if line.startswith("a=fingerprint:sha-256 ") else line for line in swapped.split("\r\n")
    )
    with pytest.raises(TransportError) as refused:
        await offer.accept(swapped, fail_seconds=5)
    assert refused.value.phase == "dtls"
    await answer.close()


async def test_a_cancelled_accept_closes_everything() -> None:
    sockets = open_sockets()
    offer, other = await webrtc.offer(), await webrtc.offer()
    answer = await webrtc.answer(other.sdp)
    accepting = asyncio.create_task(offer.accept(answer.sdp))
    await asyncio.sleep(0.05)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    await answer.close()
    await other.close()
    await asyncio.sleep(0.05)
    assert open_sockets() == sockets


@pytest.mark.parametrize("message", [b"", "text"])
async def test_what_is_no_frame_ends_the_link(message: bytes | str) -> None:
    first, second = await connect()
    first._channel.send(message)  # around the check of what is sent
    with pytest.raises(LinkClosed) as ended:
        await asyncio.wait_for(second.receive(), 10)
    assert ended.value.code == "bad_message"
    await asyncio.gather(first.close(), second.close())


async def test_a_lost_connection_is_an_error_for_a_waiting_sender() -> None:
    first, second = await connect()

    async def flood() -> None:
        while True:
            await first.send(b"x" * 60_000)

    flooding = asyncio.create_task(flood())
    await second.receive()
    await second.close()
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(flooding, 5)
    await first.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("v=0", "x" * (MAX_SDP_BYTES + 1)),
        ("m=application", "m=audio"),
        ("a=ice-ufrag:", "a=x-ufrag:"),
        ("a=ice-pwd:", "a=x-pwd:"),
        ("a=sctp-port:5000", "a=sctp-port:many"),
        ("a=sctp-port:5000", "a=x:5000"),
        ("a=fingerprint:sha-256 ", "a=fingerprint:sha-1 "),
        ("a=candidate:", "a=x-candidate:"),
        ("a=candidate:", "a=candidate:1 1 udp"),
        ("a=setup:actpass", "a=setup:sometimes"),
        ("m=application", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nm=application"),
    ],
)
async def test_a_bad_offer_is_refused_with_one_sentence(before: str, after: str) -> None:
    offer = await webrtc.offer()
    await offer.close()
    assert before in offer.sdp
    with pytest.raises(TransportError) as refused:
        await webrtc.answer(offer.sdp.replace(before, after))
    assert refused.value.phase == "signalling"
    assert not refused.value.retryable


async def test_an_offer_with_too_many_candidates_is_refused() -> None:
    offer = await webrtc.offer()
    await offer.close()
    line = next(line for line in offer.sdp.split("\r\n") if line.startswith("a=candidate:"))
    with pytest.raises(TransportError) as refused:
        read_description(offer.sdp.replace(line, "\r\n".join([line] * (MAX_CANDIDATES + 1)), 1))
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("url", ["http://example.org", "stun:", "turn:host:port:more", ""])
async def test_a_malformed_server_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await webrtc.offer(IceSettings((IceServer(url),)))
    assert refused.value.remedy


async def test_relays_alone_without_a_relay_is_an_error_at_once() -> None:
    with pytest.raises(TransportError) as refused:
        await webrtc.offer(IceSettings(relay_only=True))
    assert "no network address" in str(refused.value)
