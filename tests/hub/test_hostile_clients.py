"""A hub under attack: typed refusals, bounded memory, and no other peer harmed.

Row B15 (sizes, types, user ids), B16 and B17 (every failure typed), threat 7 (floods), anchors section 4c."""

from __future__ import annotations

import asyncio
import json
import secrets
import time

import psutil
import pytest
from meeting import (
    ALICE,
    BOB,
    BOTH,
    CAROL,
    Meet,
    Meeting,
    authenticate_raw,
    eventually,
    listed,
    next_of,
    pipe,
    read_all,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pgpeer.errors import CODES, HubError, LinkClosed
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import (
    CIRCUITS,
    MAILBOX,
    Accept,
    AskTurn,
    Credit,
    Discover,
    End,
    OpenCircuit,
    Post,
    Register,
    Watch,
)
from pgpeer.signaling.record import sign_registration
from pgpeer.signaling.wire import circuit_frame, encode
from pgpeer.transport.hub_events import SignalReceived

MIB = 1024 * 1024


async def last_words(raw: ClientConnection) -> dict:
    """What the hub said last before it closed the connection."""
    last: dict = {}
    try:
        async with asyncio.timeout(10):
            while True:
                frame = await raw.recv()
                last = json.loads(frame) if isinstance(frame, str) else last
    except ConnectionClosed:
        return last


async def unharmed(meeting: Meeting) -> None:
    """Two other peers meet, and get through to each other."""
    carol, dora = await meeting.join(CAROL), await meeting.join(PrivateKey.from_seed(b"d" * 32))
    began = time.monotonic()
    assert await carol.send_signal(dora._key.peer_id, "s", b"hello")
    assert (await next_of(dora, SignalReceived)).plaintext == b"hello"
    assert time.monotonic() - began < 2.0
    await carol.close()
    await dora.close()


FATAL = {
    "not JSON": ("x" * 100, "bad_message"),
    "nested deeply": ("[" * 50_000, "bad_message"),
    "no type": ("{}", "bad_message"),
    "a strange type": ('{"t":"DROP TABLE hub.mail"}', "bad_message"),
    "a hub's message": ('{"t":"pong"}', "bad_message"),
    "a second proof": ('{"t":"auth"}', "bad_message"),
    "a namespace with a quote": ('{"t":"discover","id":1,"ns":"\';--","cookie":0,"limit":1}', "bad_message"),
    "a number too large": ('{"t":"unregister","id":1e400,"ns":"n"}', "bad_message"),
    "no peer id": ('{"t":"open","id":1,"to":"pg1bob"}', "id_unknown"),
    "a fraction of credit": ('{"t":"credit","circuit":1,"bytes":0.5}', "bad_message"),
    "negative credit": ('{"t":"credit","circuit":1,"bytes":-5}', "bad_message"),
    "a circuit that never was": ('{"t":"end","circuit":12}', "bad_message"),
    "bytes on a circuit that never was": (circuit_frame(12, b"x"), "bad_message"),
    "an empty binary frame": (b"", "bad_message"),
    "a binary frame without data": (b"\0" * 8, "bad_message"),
    "too many namespaces": (json.dumps({"t": "follow", "ns": [f"n{n}" for n in range(65)]}), "quota"),
    "too many letters taken": (json.dumps({"t": "taken", "mails": list(range(257))}), "bad_message"),
    "what this hub does not offer": (encode(AskTurn(1)), "refused_policy"),
    "a record too long": (encode(Register(1, "n", 60, b"x" * 1025)), "too_large"),
    "a lone surrogate": ('{"t":"watch","peers":["\\ud800"]}', "id_unknown"),
}


@pytest.mark.parametrize("name", FATAL)
async def test_b15_what_breaks_the_rules_ends_the_connection_with_a_code(meet: Meet, name: str) -> None:
    meeting = await meet()
    frame, code = FATAL[name]
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url, features=BOTH)
        await raw.send(frame)
        words = await last_words(raw)
    assert (words["t"], words["code"]) == ("error", code)
    assert code in CODES
    assert meeting.hub.online_count == 0
    await unharmed(meeting)


async def test_a_binary_frame_above_the_limit_ends_the_connection(meet: Meet) -> None:
    meeting = await meet()
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url)
        await raw.send(circuit_frame(1, b"x" * 65_536))
        with pytest.raises(ConnectionClosed) as caught:
            await raw.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    await unharmed(meeting)


async def test_a_client_cannot_send_without_credit_nor_speak_for_another(meet: Meet) -> None:
    meeting = await meet()
    bob = await meeting.join(BOB, takes=BOTH)
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url)
        await raw.send(encode(OpenCircuit(1, BOB.peer_id)))
        async with asyncio.timeout(5):
            async for event in bob:
                circuit = event.circuit  # type: ignore[union-attr]
                break
        assert circuit.peer_id == ALICE.peer_id
        circuit.accept()
        while json.loads(await raw.recv())["t"] != "credit":
            pass
        for _ in range(15):  # two windows are 8.7 frames
            await raw.send(circuit_frame(circuit._number, b"x" * 60_000))
        assert (await last_words(raw))["code"] == "bad_message"
    with pytest.raises(LinkClosed) as caught:
        await read_all(circuit)
    assert caught.value.code == "peer_offline"
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url)
        await raw.send(
            json.dumps(
                {"t": "signal", "id": 1, "from": CAROL.peer_id, "to": BOB.peer_id, "sid": "s", "box": ""}
            )
        )
        assert json.loads(await raw.recv())["t"] == "delivered"
    assert bob.refused_signals == 1  # it was said to come from who sent it, and did not open


async def test_a_flood_of_requests_is_refused_with_a_time_and_then_ended(meet: Meet) -> None:
    meeting = await meet(HubLimits(requests_burst=10))
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url)
        frames = [
            encode(Register(1, "n", 60, sign_registration(ALICE, listed(ALICE, "n")))),
            encode(Discover(2, "n", 0, 10)),
            encode(Post(3, BOB.peer_id, 60, b"x" * 100)),
            encode(OpenCircuit(4, BOB.peer_id)),
        ]
        codes = []
        for number in range(20):
            await raw.send(frames[number % 4])
            reply = json.loads(await raw.recv())
            codes.append(reply.get("code", "fine"))
        assert codes[10:] == ["rate_limited"] * 10
        assert "rate_limited" not in codes[:10]
        for _ in range(400):
            await raw.send(frames[1])
        assert (await last_words(raw))["code"] == "rate_limited"
    await unharmed(meeting)


async def test_a_flood_of_words_about_circuits_ends_the_connection(meet: Meet) -> None:
    meeting = await meet(HubLimits(controls_per_second=10.0, controls_burst=20))
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    for _ in range(100):
        alice._conversation._data.append(encode(Credit(here._number, 1)))
    alice.flush()
    with pytest.raises(LinkClosed) as caught:
        await there.receive()
    assert caught.value.code == "peer_offline"
    await eventually(lambda: alice.is_closed)
    with pytest.raises(HubError) as refused:
        await alice.watch([])
    assert refused.value.code == "rate_limited"
    await unharmed(meeting)


async def test_one_address_cannot_ask_for_more_by_many_keys(meet: Meet) -> None:
    meeting = await meet(
        HubLimits(address_requests_burst=30, address_requests_per_minute=1.0, unauthenticated_per_address=64)
    )
    keys = [PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(40)]
    refused = 0
    for key in keys:
        client = await meeting.join(key)
        try:
            await client.discover("n")
        except HubError as error:
            refused += error.code == "rate_limited"
        await client.close()
    assert refused >= 8


async def test_bytes_that_nobody_reads_stay_within_the_windows(meet: Meet) -> None:
    """Eight senders, one receiver that gives endless credit and reads nothing from its socket."""
    limits = HubLimits(dead_seconds=3.0, requests_burst=1000)
    meeting = await meet(limits)
    async with connect(meeting.hub.url, max_queue=1, close_timeout=0.1) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url, features=(CIRCUITS, MAILBOX))
        senders, circuits = [], []
        for index in range(8):
            sender = await meeting.join(PrivateKey.from_seed(bytes([200 + index]) * 32), takes=BOTH)
            opening = asyncio.create_task(sender.open_circuit(BOB.peer_id))
            number = 0
            while not number:
                frame = await raw.recv()
                told = json.loads(frame) if isinstance(frame, str) else {}
                number = told["circuit"] if told.get("t") == "circuit" else 0
            await raw.send(encode(Accept(number)))
            await raw.send(encode(Credit(number, 2**31)))
            circuits.append(await opening)
            senders.append(sender)
        raw.transport.pause_reading()
        before = psutil.Process().memory_info().rss
        floods = [asyncio.create_task(circuit.send(secrets.token_bytes(20 * MIB))) for circuit in circuits]
        await asyncio.sleep(1.5)
        desk = meeting.hub._desk
        assert desk is not None
        assert desk.relay.waiting_bytes <= 8 * limits.circuit_window_bytes
        assert (
            psutil.Process().memory_info().rss - before < 8 * 20 * MIB + 40 * MIB
        )  # mostly the senders' own
        await unharmed(meeting)
        results = await asyncio.gather(*floods, return_exceptions=True)
        assert {type(one) for one in results} == {LinkClosed}
        assert {one.code for one in results if isinstance(one, LinkClosed)} == {"peer_offline"}
        assert desk.tally["closed", "target_overloaded"] == 1
        assert desk.relay.waiting_bytes == 0


async def test_a_half_open_connection_is_given_up_and_its_circuit_ended(meet: Meet) -> None:
    meeting = await meet(HubLimits(lease_seconds=1.5))
    alice = await meeting.join(ALICE, takes=BOTH)
    async with connect(meeting.hub.url, close_timeout=0.1) as raw:
        await authenticate_raw(raw, BOB, meeting.hub.url, features=BOTH)
        opening = asyncio.create_task(alice.open_circuit(BOB.peer_id))
        number = json.loads(await raw.recv())["circuit"]
        await raw.send(encode(Accept(number)))
        circuit = await opening
        raw.transport.pause_reading()  # no word, no close: as if its cable was pulled
        with pytest.raises(LinkClosed) as caught:
            await asyncio.wait_for(circuit.receive(), 10)
        assert caught.value.code == "peer_offline"
    assert not alice.is_closed


async def test_a_visitor_can_do_nothing_but_open_circuits(meet: Meet) -> None:
    meeting = await meet()
    alice = await meeting.join(ALICE, "the real one", takes=BOTH)
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, ALICE, meeting.hub.url, visitor=True)
        await raw.send(encode(Discover(1, "n", 0, 10)))
        assert json.loads(await raw.recv())["code"] == "refused_policy"
        await raw.send(encode(Watch((BOB.peer_id,))))
        assert json.loads(await raw.recv())["t"] == "presence"
    assert not alice.is_closed
    assert meeting.hub.online_count == 1


async def test_connections_that_open_and_die_leave_nothing_behind(meet: Meet) -> None:
    meeting = await meet()
    desk = meeting.hub._desk
    assert desk is not None
    for number in range(60):
        raw = await connect(meeting.hub.url)
        if number % 3:
            await authenticate_raw(raw, ALICE, meeting.hub.url, features=BOTH)
        if number % 3 == 2:
            await raw.send(encode(Watch((BOB.peer_id, CAROL.peer_id))))
            await raw.send(encode(OpenCircuit(1, ALICE.peer_id)))
        raw.transport.abort()
    await eventually(lambda: not meeting.hub._wakers)
    board = desk.switchboard
    assert (board.online_count, board._watched, dict(board._watchers)) == (0, {}, {})
    assert (desk.relay.count, desk.relay._of, desk.mailroom._rounds) == (0, {}, {})
    assert meeting.hub._admission._total == 0
    await unharmed(meeting)


async def test_an_end_without_a_circuit_of_ones_own_changes_nothing(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    async with connect(meeting.hub.url) as raw:
        await authenticate_raw(raw, CAROL, meeting.hub.url)
        for message in (End(here._number), Credit(here._number, 5)):
            await raw.send(encode(message))
        await raw.send(circuit_frame(here._number, b"injected"))
        await raw.send('{"t":"ping"}')
        assert json.loads(await raw.recv())["t"] == "pong"
    await here.send(b"mine")
    assert await there.receive() == b"mine"


async def test_limits_count_by_the_address_that_a_known_proxy_names_and_no_other(meet: Meet) -> None:
    limits = HubLimits(unauthenticated_per_address=1)
    behind, open_to_all = await meet(limits, proxies=["127.0.0.1"]), await meet(limits)

    async def first_word(meeting: Meeting, forwarded: str) -> str:
        raw = await connect(meeting.hub.url, additional_headers={"X-Forwarded-For": forwarded})
        try:
            return str(json.loads(await raw.recv())["t"])
        except ConnectionClosed as closed:
            return str(closed.rcvd and closed.rcvd.code)
        finally:
            left.append(raw)

    left: list[ClientConnection] = []
    words = [
        await first_word(behind, header) for header in ("9.9.9.9, 1.1.1.1", "2.2.2.2", "9.9.9.9, 2.2.2.2")
    ]
    assert words == ["hello", "hello", "1013"]
    assert [await first_word(open_to_all, header) for header in ("1.1.1.1", "2.2.2.2")] == ["hello", "1013"]
    for raw in left:
        await raw.close()
