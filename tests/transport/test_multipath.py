"""The stream over several paths, in virtual time."""

import ast
import random
from pathlib import Path

import pytest
from path_world import PathWorld

from pgpeer.errors import LinkClosed, LocalProtocolError, RemoteProtocolError
from pgpeer.transport import multipath, multipath_frames
from pgpeer.transport.base import MAX_FRAME_BYTES
from pgpeer.transport.multipath import PATHLESS_SECONDS, PATHS_LIMIT, WARM_SECONDS, PathSwitch
from pgpeer.transport.multipath_events import PathDropped, PathInUse, PathSuspect, StreamEnded
from pgpeer.transport.multipath_frames import Acknowledgement, Data, Flag, Part
from pgpeer.transport.pulse import DEAD_SECONDS, PING_SECONDS, SUSPECT_SECONDS

RELAY, WEBRTC, TLS = 1, 2, 3
PURE = (
    "multipath",
    "multipath_events",
    "multipath_frames",
    "multipath_intake",
    "pulse",
    "race",
    "path_proof",
)


@pytest.mark.parametrize("seed", range(200))
def test_nothing_is_lost_repeated_or_reordered_whatever_happens_to_the_paths(seed: int) -> None:
    chance = random.Random(seed)
    world = PathWorld()
    world.open(RELAY, chance.choice([0.0, 0.02, 0.4]))
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for step in range(chance.randrange(50, 250)):
        action = chance.random()
        side = chance.randrange(2)
        open_paths = [number for number, wire in world.wires.items() if wire.is_open]
        if action < 0.7:
            size = chance.choice([1, 20, 2000, MAX_FRAME_BYTES])
            message = b"%d/%d " % (side, step) + chance.randbytes(4) * (size // 4)
            sent[side].append(message[:MAX_FRAME_BYTES])
            world.send(side, message[:MAX_FRAME_BYTES])
        elif action < 0.78 and open_paths:
            world.cut(chance.choice(open_paths))
        elif action < 0.8 and open_paths:
            world.wires[chance.choice(open_paths)].is_stalled = True
        elif action < 0.9 and len(open_paths) < 4:
            world.open(chance.choice([RELAY, WEBRTC, TLS]), chance.choice([0.0, 0.01, 0.3]))
        elif action < 0.93:
            chance.choice([world.pause, world.resume])(side)
        else:
            world.run(chance.choice([0.001, 0.1, 1.0, 9.0]))
        if not any(wire.is_open and not wire.is_stalled for wire in world.wires.values()):
            world.open(RELAY, 0.02)
        assert all(end.ended is None for end in world.ends), f"seed {seed}: {world.ends[0].ended}"
    world.run(60.0)
    if not any(wire.is_open and not wire.is_stalled for wire in world.wires.values()):
        world.open(RELAY)
    for side in (0, 1):
        world.resume(side)
    world.run(5.0)
    for side in (0, 1):
        assert world.received[1 - side] == sent[side], f"seed {seed}"
        assert world.ends[side].kept_count == 0, f"seed {seed}"


def in_use(world: PathWorld, side: int = 0) -> list[int | None]:
    return [event.path for _, event in world.events[side] if isinstance(event, PathInUse)]


def moments(world: PathWorld, kind: type, side: int = 0) -> list[float]:
    return [at for at, event in world.events[side] if isinstance(event, kind)]


def test_the_first_path_is_used_at_once_and_a_better_one_when_a_ping_came_back() -> None:
    world = PathWorld()
    relay = world.open(RELAY, 0.2)
    assert world.ends[0].current == relay
    world.send(0, b"by relay")
    world.run(1.0)
    direct = world.open(WEBRTC, 0.05)
    assert world.ends[0].current == relay
    world.run(0.06)
    assert world.ends[0].current == relay
    world.run(0.05)
    assert world.ends[0].current == world.ends[1].current == direct
    assert world.ends[0].rtt(direct) == pytest.approx(0.1)
    before = world.sent_on[0, relay]
    world.send(0, b"direct")
    world.run(1.0)
    assert world.received[1] == [b"by relay", b"direct"]
    assert world.sent_on[0, relay] == before


def test_a_worse_path_does_not_take_over() -> None:
    world = PathWorld()
    direct = world.open(WEBRTC)
    world.run(1.0)
    world.open(RELAY)
    world.run(1.0)
    assert in_use(world) == [direct]


def test_of_two_equal_paths_both_sides_keep_the_preferred_one() -> None:
    world = PathWorld()
    other = world.open(RELAY, is_preferred=False)
    preferred = world.open(RELAY, is_preferred=True)
    world.run(WARM_SECONDS + 6)
    assert [end.current for end in world.ends] == [preferred, preferred]
    assert {event.path for _, event in world.events[0] if isinstance(event, PathDropped)} == {other}


def test_a_surpassed_path_stays_warm_for_a_while_and_is_closed_then() -> None:
    world = PathWorld()
    relay = world.open(RELAY)
    world.run(1.0)
    world.open(WEBRTC)
    began = world.now
    world.run(WARM_SECONDS - 0.5)
    assert not moments(world, PathDropped)
    world.run(2.0)
    dropped = [(at, event) for at, event in world.events[0] if isinstance(event, PathDropped)]
    assert [event for _, event in dropped] == [PathDropped(relay, is_dead=False)]
    assert dropped[0][0] - began == pytest.approx(WARM_SECONDS, abs=0.5)


def test_the_last_working_path_is_never_dropped_for_a_better_one_that_died() -> None:
    world = PathWorld()
    relay = world.open(RELAY)
    world.run(1.0)
    direct = world.open(WEBRTC)
    world.run(20.0)
    world.wires[direct].is_stalled = True
    world.run(60.0)
    assert [end.current for end in world.ends] == [relay, relay]
    assert all(event != PathDropped(relay, is_dead=False) for _, event in world.events[0])


def test_a_stalled_path_is_doubted_after_eight_seconds_and_another_takes_over() -> None:
    world = PathWorld()
    relay = world.open(RELAY)
    world.run(1.0)
    direct = world.open(WEBRTC)
    world.run(2.0)
    world.wires[direct].is_stalled = True
    stalled_at = world.now
    world.send(0, b"into the void")
    world.run(20.0)
    assert world.received[1] == [b"into the void"]
    assert moments(world, PathSuspect)[0] - stalled_at <= PING_SECONDS + SUSPECT_SECONDS
    assert in_use(world)[-1] == relay
    dead = [at for at, event in world.events[0] if event == PathDropped(direct, is_dead=True)]
    assert dead[0] - stalled_at <= DEAD_SECONDS


def test_a_dead_only_path_is_noticed_in_fifteen_seconds_and_the_stream_waits_for_another() -> None:
    world = PathWorld()
    only = world.open(RELAY)
    world.run(7.0)
    world.wires[only].is_stalled = True
    stalled_at = world.now
    world.send(0, b"kept")
    world.run(DEAD_SECONDS)
    assert moments(world, PathDropped)[0] - stalled_at <= DEAD_SECONDS
    assert world.ends[0].current is None
    world.run(PATHLESS_SECONDS - 6)
    assert world.ends[0].ended is None
    world.open(RELAY)
    world.run(1.0)
    assert world.received[1] == [b"kept"]


def test_a_stream_without_any_path_ends_after_a_while() -> None:
    world = PathWorld()
    world.cut(world.open(RELAY))
    began = world.now
    world.run(PATHLESS_SECONDS - 0.01)
    assert world.ends[0].ended is None
    world.run(0.02)
    ended = world.ends[0].ended
    assert ended is not None
    assert (ended.code, ended.retryable) == ("timeout", True)
    assert moments(world, StreamEnded) == [began + PATHLESS_SECONDS]
    with pytest.raises(LinkClosed):
        world.ends[0].send(b"too late")


def test_a_process_that_slept_asks_before_it_gives_a_path_up() -> None:
    world = PathWorld()
    path = world.open(RELAY)
    world.run(1.0)
    world.now += 3600.0
    for end in world.ends:
        end.tick(world.now)
    world.run(1.0)
    assert [end.current for end in world.ends] == [path, path]


def test_a_reader_that_takes_nothing_stops_the_sender_at_the_window() -> None:
    world = PathWorld()
    world.open(WEBRTC)
    world.pause(1)
    total = 3 * multipath_frames.WINDOW_BYTES
    for _ in range(total // MAX_FRAME_BYTES):
        world.send(0, b"x" * MAX_FRAME_BYTES)
    world.run(5.0)
    waiting = sum(map(len, world.received[1]))
    assert 0.9 * multipath_frames.WINDOW_BYTES < waiting <= multipath_frames.WINDOW_BYTES
    assert world.ends[0].queued_bytes == pytest.approx(total - waiting, abs=MAX_FRAME_BYTES)
    assert all(end.ended is None for end in world.ends)
    world.resume(1)
    world.run(5.0)
    assert sum(map(len, world.received[1])) == total // MAX_FRAME_BYTES * MAX_FRAME_BYTES


def test_a_close_arrives_after_everything_else_even_over_a_change_of_path() -> None:
    world = PathWorld()
    relay = world.open(RELAY, 0.5)
    world.send(0, b"first")
    world.send(0, b"second")
    world.ends[0].close()
    world.run(0.1)
    world.cut(relay)
    world.open(RELAY, 0.1)
    world.run(0.5)
    assert world.received[1] == [b"first", b"second"]
    ended = world.ends[1].ended
    assert ended is not None
    assert ended.code == "remote_closed"
    assert world.ends[0].is_flushed


def test_signals_travel_in_order_beside_messages() -> None:
    world = PathWorld()
    world.ends[0].send(b"a")
    world.ends[0].send(b"s" * MAX_FRAME_BYTES, is_signal=True)
    world.ends[0].send(b"b")
    got: list[tuple[bytes, bool]] = []
    for end in world.ends:
        end.add_path(1, RELAY, world.now, is_preferred=True)
    while (frame := world.ends[0].next_frame(1, world.now)) is not None:
        world.ends[1].receive(1, frame, world.now)
        got += world.ends[1].messages()
    assert got == [(b"a", False), (b"s" * MAX_FRAME_BYTES, True), (b"b", False)]


def test_an_abort_tells_the_other_side_why() -> None:
    world = PathWorld()
    world.open(RELAY)
    world.ends[0].abort(LinkClosed("A newer stream takes its place.", code="replaced"))
    world.run(1.0)
    ended = world.ends[1].ended
    assert ended is not None
    assert ended.code == "replaced"


def test_more_paths_than_allowed_are_refused() -> None:
    world = PathWorld()
    for _ in range(PATHS_LIMIT):
        world.open(RELAY)
    with pytest.raises(LocalProtocolError):
        world.open(RELAY)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x07",
        b"\x01\x00",
        b"\x02" + bytes(15),
        b"\x02" + bytes(17),
        b"\x03" + bytes(9),
        b"\x04" + bytes(7) + b"\x09",
        multipath_frames.acknowledgement(1, 0),
        multipath_frames.data(Part(Flag.NONE, b""), 0, 0),
        multipath_frames.data(Part(Flag.FIN, b"x"), 0, 0),
        multipath_frames.data(Part(Flag(8), b"x"), 0, 0),
        multipath_frames.data(Part(Flag.NONE, b"x"), 2**40, 0),
    ],
)
def test_a_frame_against_the_rules_ends_the_stream(frame: bytes) -> None:
    switch = PathSwitch(0.0)
    switch.add_path(1, RELAY, 0.0, is_preferred=True)
    with pytest.raises(RemoteProtocolError):
        switch.receive(1, frame, 0.0)
    assert switch.ended is not None
    assert isinstance(switch.events()[-1], StreamEnded)


def test_more_than_the_window_or_than_a_message_may_have_is_refused() -> None:
    flood = PathSwitch(0.0)
    flood.add_path(1, RELAY, 0.0, is_preferred=True)
    part = Part(Flag.NONE, b"x" * 60_000)
    number = 0
    while (number + 1) * part.cost <= multipath_frames.WINDOW_BYTES:
        flood.receive(1, multipath_frames.data(part, number, 0), 0.0)
        number += 1
    with pytest.raises(RemoteProtocolError) as refused:
        flood.receive(1, multipath_frames.data(part, number, 0), 0.0)
    assert refused.value.code == "too_large"
    endless = PathSwitch(0.0)
    endless.add_path(1, RELAY, 0.0, is_preferred=True)
    part = Part(Flag.MORE, b"x" * 60_000)
    endless.receive(1, multipath_frames.data(part, 0, 0), 0.0)
    with pytest.raises(RemoteProtocolError) as refused:
        endless.receive(1, multipath_frames.data(part, 1, 0), 0.0)
    assert refused.value.code == "too_large"


def test_a_peer_that_pings_without_reading_does_not_fill_the_memory() -> None:
    switch = PathSwitch(0.0)
    switch.add_path(1, RELAY, 0.0, is_preferred=True)
    for number in range(10_000):
        switch.receive(1, multipath_frames.ping(number), 0.0)
    frames = 0
    while switch.next_frame(1, 0.0) is not None:
        frames += 1
    assert frames <= multipath_frames.CONTROL_LIMIT + 1


def test_random_bytes_never_raise_anything_but_a_protocol_error() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        frame = bytes((chance.randrange(8),)) + chance.randbytes(chance.randrange(40))
        try:
            read = multipath_frames.read(frame)
        except RemoteProtocolError:
            continue
        if isinstance(read, Data | Acknowledgement):
            assert read.arrived >= 0


def test_the_pure_files_of_the_room_do_no_io() -> None:
    folder = Path(multipath.__file__).parent
    for name in PURE:
        imported = set()
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
        assert not imported & {"asyncio", "random", "time", "socket", "ssl", "OpenSSL", "threading"}, name
