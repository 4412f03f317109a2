import asyncio
import json
import secrets
import time
import urllib.error
import urllib.request

import pytest
from meeting import ALICE, BOB, CAROL, Meet, authenticate_raw, next_event
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pgpeer.errors import ConfigError, HubError, IdentityError, LocalProtocolError
from pgpeer.hub.server import Hub
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.client import HubClosed, PeerOffline, PeerOnline
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.signal import ReplayGuard, Signal, read_signal, sign_signal
from pgpeer.transport.hub_events import HubEvents, SignalReceived
from pgpeer.transport.hub_link import HubClient


async def test_a_signal_goes_from_peer_to_peer_and_is_signed(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE), await meeting.join(BOB)
    offer = Signal("s1", ALICE.peer_id, BOB.peer_id, "offer", "v=0", b"n" * 16, int(time.time()) + 60)

    assert await alice.send_signal(BOB.peer_id, "s1", sign_signal(ALICE, offer))

    event = await next_event(bob)
    assert isinstance(event, SignalReceived)
    read = read_signal(
        event.plaintext,
        sender=event.sender,
        recipient=BOB.peer_id,
        sid=event.sid,
        now=time.time(),
        guard=ReplayGuard(),
    )
    assert read == offer


async def test_the_hub_never_sees_what_a_signal_says(meet: Meet) -> None:
    meeting = await meet()
    alice = await meeting.join(ALICE)
    frames: list[str] = []
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url)
        assert await alice.send_signal(BOB.peer_id, "s1", b"candidate:1 1 udp 10.1.2.3")
        frames.append(str(await raw.recv()))
    assert "10.1.2.3" not in frames[0]
    assert json.loads(frames[0])["from"] == ALICE.peer_id


async def test_watchers_hear_of_peers_that_come_and_go(meet: Meet) -> None:
    meeting = await meet()
    bob = await meeting.join(BOB, "bob's laptop")
    alice = await meeting.join(ALICE)
    await alice.watch([BOB.peer_id, CAROL.peer_id])
    first = {await next_event(alice), await next_event(alice)}
    assert first == {PeerOnline(BOB.peer_id, "bob's laptop"), PeerOffline(CAROL.peer_id)}

    carol = await meeting.join(CAROL, "carol")
    assert await next_event(alice) == PeerOnline(CAROL.peer_id, "carol")
    await bob.close()
    assert await next_event(alice) == PeerOffline(BOB.peer_id)
    await alice.watch([])
    await carol.close()
    await meeting.join(BOB)
    await alice.watch([BOB.peer_id])
    assert await next_event(alice) == PeerOnline(BOB.peer_id, "")


async def test_a_signal_to_a_peer_that_is_not_here_says_so(meet: Meet) -> None:
    alice = await (await meet()).join(ALICE)
    assert not await alice.send_signal(BOB.peer_id, "s1", b"offer")


async def test_a_signal_to_what_is_no_peer_id_is_refused_here(meet: Meet) -> None:
    alice = await (await meet()).join(ALICE)
    with pytest.raises(IdentityError):
        await alice.send_signal("bob", "s1", b"offer")
    with pytest.raises(LocalProtocolError):
        await alice.send_signal(BOB.peer_id, "s1", b"x" * 60_000)
    assert not alice.is_closed


async def test_the_newest_connection_of_a_peer_counts(meet: Meet) -> None:
    meeting = await meet()
    watcher = await meeting.join(CAROL)
    await watcher.watch([ALICE.peer_id])
    assert await next_event(watcher) == PeerOffline(ALICE.peer_id)
    older = await meeting.join(ALICE, "older")
    assert await next_event(watcher) == PeerOnline(ALICE.peer_id, "older")
    newer = await meeting.join(ALICE, "newer")
    assert await next_event(watcher) == PeerOnline(ALICE.peer_id, "newer")

    closed = await next_event(older)
    assert isinstance(closed, HubClosed)
    assert closed.error.code == "replaced"
    assert await watcher.send_signal(ALICE.peer_id, "s1", b"hello")
    assert isinstance(await next_event(newer), SignalReceived)
    assert meeting.hub.online_count == 2


async def test_a_hub_that_stops_is_reported_and_its_successor_is_found_at_the_same_place() -> None:
    async with Hub() as hub:
        client = HubClient(hub.url, ALICE, "")
        await client.connect()
        pending = asyncio.create_task(next_event(client))
        await asyncio.sleep(0)
        await hub.stop()
        closed = await pending
        assert isinstance(closed, HubClosed)
        assert closed.error.retryable
        with pytest.raises(HubError):
            await client.send_signal(BOB.peer_id, "s1", b"offer")
        with pytest.raises(HubError):
            await client.watch([])
        await client.close()
    port = int(hub.url.rpartition(":")[2])
    async with Hub(port=port) as successor:
        assert successor.url == hub.url
        again = HubClient(hub.url, ALICE, "")
        await again.connect()
        await again.close()


async def test_an_unreachable_hub_gives_one_sentence_and_a_remedy() -> None:
    async with Hub() as hub:
        url = hub.url
    client = HubClient(url, ALICE, "")
    with pytest.raises(HubError, match="cannot be reached") as caught:
        await client.connect()
    assert caught.value.retryable
    assert caught.value.phase == "hub_connect"
    assert caught.value.remedy
    assert isinstance(await next_event(client), HubClosed)


async def test_a_server_that_is_no_hub_is_reported() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HubError):
            await HubClient(f"ws://127.0.0.1:{port}", ALICE, "").connect()


async def test_a_taken_port_gives_one_sentence_and_a_remedy(meet: Meet) -> None:
    port = int((await meet()).hub.url.rpartition(":")[2])
    with pytest.raises(HubError, match="cannot listen") as caught:
        await Hub(port=port).start()
    assert "--listen" in caught.value.remedy


def test_a_url_that_is_no_hubs_is_refused_at_once() -> None:
    with pytest.raises(ConfigError):
        HubClient("http://example.com", ALICE, "")


async def test_closing_ends_the_events_and_is_not_an_error_of_the_hub(meet: Meet) -> None:
    alice = await (await meet()).join(ALICE)
    await alice.close()
    await alice.close()
    events = [event async for event in alice]
    assert [type(event) for event in events] == [HubClosed]
    assert isinstance(events[0], HubClosed)
    assert events[0].error.code == "local_closed"
    assert alice.is_closed


async def test_a_connection_attempt_that_is_cancelled_leaves_nothing_open(meet: Meet) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        client = HubClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", ALICE, "")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.connect()
        await client.close()


async def test_a_client_that_does_not_authenticate_is_put_out(meet: Meet) -> None:
    meeting = await meet(HubLimits(unauthenticated_seconds=0.5))
    async with connect(meeting.hub.url) as raw:
        assert json.loads(await raw.recv())["t"] == "hello"
        error = json.loads(await raw.recv())
        assert (error["t"], error["code"]) == ("error", "timeout")
        with pytest.raises(ConnectionClosed):
            await raw.recv()


async def test_a_silent_client_goes_offline_after_its_lease(meet: Meet) -> None:
    meeting = await meet(HubLimits(lease_seconds=1.5))
    alice = await meeting.join(ALICE)
    await alice.watch([BOB.peer_id])
    assert await next_event(alice) == PeerOffline(BOB.peer_id)
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url, "mute")
        assert await next_event(alice) == PeerOnline(BOB.peer_id, "mute")
        assert await next_event(alice) == PeerOffline(BOB.peer_id)
    assert not alice.is_closed


async def test_connections_that_have_not_authenticated_are_limited_per_address(meet: Meet) -> None:
    meeting = await meet(HubLimits(unauthenticated_per_address=2))
    async with connect(meeting.hub.url) as first, connect(meeting.hub.url):
        with pytest.raises(HubError):
            await meeting.join(ALICE)
        await authenticate_raw(first, BOB, meeting.hub.url)
        await meeting.join(ALICE)


async def test_a_full_hub_says_so(meet: Meet) -> None:
    meeting = await meet(HubLimits(connections_total=1))
    await meeting.join(ALICE)
    with pytest.raises(HubError, match="full") as caught:
        await meeting.join(BOB)
    assert caught.value.code == "quota"
    await meeting.join(ALICE)


@pytest.mark.parametrize("limits", [HubLimits(signals_burst=2), HubLimits(address_signals_burst=2)])
async def test_too_many_signals_are_refused_with_a_time_and_the_connection_stays(
    meet: Meet, limits: HubLimits
) -> None:
    meeting = await meet(limits)
    alice = await meeting.join(ALICE)
    for _ in range(2):
        assert not await alice.send_signal(BOB.peer_id, "s1", b"offer")
    with pytest.raises(HubError, match="too many signals") as caught:
        await alice.send_signal(BOB.peer_id, "s1", b"offer")
    assert caught.value.code == "rate_limited"
    assert "Try again in" in caught.value.remedy
    await alice.watch([BOB.peer_id])
    assert await next_event(alice) == PeerOffline(BOB.peer_id)


async def test_a_target_that_does_not_read_is_overloaded_and_others_are_served(meet: Meet) -> None:
    meeting = await meet(
        HubLimits(signals_burst=100_000, messages_burst=100_000, address_signals_burst=100_000)
    )
    alice, carol = await meeting.join(ALICE), await meeting.join(CAROL)
    async with connect(meeting.hub.url, max_queue=1, close_timeout=0.1) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url)
        raw.transport.pause_reading()

        async def flood() -> None:
            for _ in range(2_000):
                assert await alice.send_signal(BOB.peer_id, "s1", secrets.token_bytes(30_000))

        with pytest.raises(HubError) as caught:
            await flood()
        assert caught.value.code == "target_overloaded"
        assert await alice.send_signal(CAROL.peer_id, "s2", b"offer")
        assert isinstance(await next_event(carol), SignalReceived)
        raw.transport.resume_reading()


async def test_a_box_that_was_not_sealed_for_us_is_dropped_and_counted(meet: Meet) -> None:
    meeting = await meet()
    alice = await meeting.join(ALICE)
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url)
        for box in ("AAAA", "AAAA"):
            await raw.send(json.dumps({"t": "signal", "id": 1, "to": ALICE.peer_id, "sid": "s", "box": box}))
            assert json.loads(await raw.recv())["t"] == "delivered"
        await alice.watch([CAROL.peer_id])
        assert await next_event(alice) == PeerOffline(CAROL.peer_id)
    assert alice.refused_signals == 2


async def test_a_frame_above_the_limit_ends_the_connection(meet: Meet) -> None:
    meeting = await meet()
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url)
        await raw.send("x" * 70_000)
        with pytest.raises(ConnectionClosed):
            await raw.recv()
    assert (await meeting.join(ALICE)).hub_id


async def test_fifty_peers_meet_at_once(meet: Meet) -> None:
    meeting = await meet(HubLimits(unauthenticated_per_address=64))
    keys = [PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(50)]
    clients = await asyncio.gather(*(meeting.join(key, str(number)) for number, key in enumerate(keys)))
    assert meeting.hub.online_count == 50
    await asyncio.gather(*(client.watch(key.peer_id for key in keys) for client in clients))
    for client in clients:
        online = {await next_event(client) for _ in keys}
        assert online == {PeerOnline(key.peer_id, str(number)) for number, key in enumerate(keys)}


async def test_the_hub_says_that_it_is_healthy(meet: Meet) -> None:
    url = (await meet()).hub.url.replace("ws://", "http://")

    def ask(path: str) -> int:
        try:
            with urllib.request.urlopen(url + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    assert await asyncio.to_thread(ask, "/healthz") == 200
    assert await asyncio.to_thread(ask, "/other") == 426


async def test_a_hub_behind_a_proxy_is_reached_under_its_public_name() -> None:
    async with Hub(public_names=["Hub.Example"]) as hub:
        port = int(hub.url.rpartition(":")[2])
        async with connect("ws://hub.example/", host="127.0.0.1", port=port) as raw:
            assert (await authenticate_raw(raw, BOB, "ws://hub.example/"))["t"] == "ok"
        async with connect(hub.url) as raw:
            reply = await authenticate_raw(raw, BOB, "ws://evil.example/")
            assert (reply["t"], reply["code"]) == ("error", "identity_mismatch")


async def test_waiting_events_are_bounded() -> None:
    events = HubEvents()
    for number in range(1000):
        events.put(PeerOnline(ALICE.peer_id, str(number)))
    taken = [events.put(SignalReceived(BOB.peer_id, "s", b"")) for _ in range(300)]
    assert taken.count(True) == 256
    assert await events.get() == PeerOnline(ALICE.peer_id, "999")
    assert isinstance(await events.get(), SignalReceived)
    assert events.put(SignalReceived(BOB.peer_id, "s", b""))
