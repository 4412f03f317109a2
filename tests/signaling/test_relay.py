"""Circuits in the hub, without clocks and sockets. Rows B2 (relay always), B12 (order, none lost or doubled),
B15 (limits), and the relay limits of the network anchors, section 4c."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.errors import HubError, RemoteProtocolError
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import CircuitOffered, CircuitOpened, Credit, End, HubMessage, Refusal, Shut
from pgpeer.signaling.relay import QUANTUM_BYTES, Relay
from pgpeer.signaling.wire import read_circuit_frame

PLENTY = 1_000_000_000


class Side:
    """One connection: what the relay told it, and the bytes that it was sent."""

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.told: list[HubMessage] = []
        self.bytes: Counter[int] = Counter()
        self.content: dict[int, bytearray] = {}

    def push(self, message: HubMessage) -> None:
        self.told.append(message)

    def granted(self, number: int) -> int:
        return sum(one.size for one in self.told if isinstance(one, Credit) and one.circuit == number)

    def last(self, kind: type) -> HubMessage:
        return [one for one in self.told if isinstance(one, kind)][-1]


class Bench:
    """A relay and some sides."""

    def __init__(self, limits: HubLimits | None = None) -> None:
        self.now = 1000.0
        self.relay = Relay(limits or HubLimits(), self.now)
        self.a, self.b, self.c = Side("a"), Side("b"), Side("c")

    def open(self, opener: Side | None = None, target: Side | None = None, credit: int = PLENTY) -> int:
        opener, target = opener or self.a, target or self.b
        self.relay.open(opener, 1, target, self.now)
        offer = target.last(CircuitOffered)
        assert isinstance(offer, CircuitOffered)
        self.relay.accept(target, offer.circuit, self.now)
        if credit:
            for side in (opener, target):
                self.relay.credit(side, offer.circuit, credit)
        return offer.circuit

    def send(self, side: Side, number: int, data: bytes) -> None:
        self.relay.data(side, number, data, self.now)
        self.relay.deal(self.now)

    def pull(self, side: Side, frames: int = PLENTY) -> int:
        """Take up to so many frames for a side; gives how many bytes that were."""
        total = 0
        while frames and (frame := self.relay.next_frame(side, self.now)) is not None:
            number, data = read_circuit_frame(frame, 65_536)
            side.bytes[number] += len(data)
            side.content.setdefault(number, bytearray()).extend(data)
            total += len(data)
            frames -= 1
        return total


def test_a_circuit_carries_bytes_both_ways_and_both_sides_know_who_is_there() -> None:
    bench = Bench()
    number = bench.open()
    assert bench.a.told[0] == CircuitOpened(1, number)
    assert bench.b.told[0] == CircuitOffered(number, "a")
    bench.send(bench.a, number, b"to b")
    bench.send(bench.b, number, b"to a")
    bench.pull(bench.a)
    bench.pull(bench.b)
    assert (bytes(bench.b.content[number]), bytes(bench.a.content[number])) == (b"to b", b"to a")


def test_nobody_sends_without_credit_and_the_credit_comes_back_as_bytes_go_on() -> None:
    bench = Bench(HubLimits(circuit_window_bytes=100))
    number = bench.open()
    assert bench.a.granted(number) == 100
    bench.send(bench.a, number, b"x" * 100)
    with pytest.raises(RemoteProtocolError, match="without credit"):
        bench.send(bench.a, number, b"x")
    assert bench.a.granted(number) == 100
    bench.pull(bench.b)
    assert bench.a.granted(number) == 200


def test_a_reader_that_gives_no_credit_holds_up_its_own_circuit_only() -> None:
    bench = Bench()
    slow = bench.open(bench.a, bench.b, credit=0)
    fast = bench.open(bench.c, bench.b)
    bench.send(bench.a, slow, b"s" * 200_000)
    bench.send(bench.c, fast, b"f" * 200_000)
    bench.pull(bench.b)
    assert bench.b.bytes == {fast: 200_000}
    bench.relay.credit(bench.b, slow, 50_000)
    bench.pull(bench.b)
    assert bench.b.bytes[slow] == 50_000


def test_circuits_of_one_connection_take_turns_by_bytes_not_by_frames() -> None:
    bench = Bench()
    big = bench.open(bench.a, bench.b)
    small = bench.open(bench.c, bench.b)
    bench.send(bench.a, big, b"b" * 250_000)
    for _ in range(2_500):
        bench.relay.data(bench.c, small, b"s" * 100, bench.now)
    bench.relay.deal(bench.now)
    bench.pull(bench.b, frames=10)
    assert abs(bench.b.bytes[big] - bench.b.bytes[small]) <= QUANTUM_BYTES


def test_when_the_hub_is_busy_circuits_of_different_peers_take_turns() -> None:
    rate = 100_000.0
    limits = HubLimits(relay_bytes_per_second=rate, relay_burst_bytes=2 * QUANTUM_BYTES)
    bench = Bench(limits)
    readers = [Side(f"reader {index}") for index in range(4)]
    numbers = [bench.open(Side(f"writer {index}"), reader) for index, reader in enumerate(readers)]
    for number, reader in zip(numbers, readers, strict=True):
        source = next(iter(bench.relay._circuits[number].directions))
        assert source is not reader
        bench.relay.data(source, number, b"x" * 200_000, bench.now)
    for _ in range(40):
        bench.now += 0.1
        bench.relay.deal(bench.now)
        for reader in readers:
            bench.pull(reader)
    sent = [sum(reader.bytes.values()) for reader in readers]
    assert max(sent) - min(sent) <= QUANTUM_BYTES
    assert sum(sent) <= 2 * QUANTUM_BYTES + 4.0 * rate
    assert sum(sent) >= 0.9 * 4.0 * rate
    assert bench.relay.has_claims


@pytest.mark.parametrize("limited", ["pair", "peer"])
def test_a_pair_and_a_peer_have_their_quota_and_others_do_not_wait_for_it(limited: str) -> None:
    limits = HubLimits(
        **{f"{limited}_bytes_per_second": 10_000.0, f"{limited}_burst_bytes": 4 * QUANTUM_BYTES}  # type: ignore[arg-type]
    )
    bench = Bench(limits)
    first, second = bench.open(bench.a, bench.b), bench.open(bench.a, bench.b)
    other = bench.open(bench.c, bench.b)
    bench.relay.data(bench.a, first, b"x" * 200_000, bench.now)
    bench.relay.data(bench.a, second, b"x" * 200_000, bench.now)
    bench.send(bench.c, other, b"x" * 50_000)
    bench.pull(bench.b)
    assert bench.b.bytes[first] + bench.b.bytes[second] == 4 * QUANTUM_BYTES
    assert bench.b.bytes[other] == 50_000
    bench.now += 10.0
    bench.relay.deal(bench.now)
    bench.pull(bench.b)
    assert 0 < bench.b.bytes[first] + bench.b.bytes[second] - 4 * QUANTUM_BYTES <= 100_000


def test_an_end_comes_after_the_last_byte_and_the_other_way_goes_on() -> None:
    bench = Bench()
    number = bench.open()
    bench.send(bench.a, number, b"last words")
    bench.relay.end(bench.a, number)
    assert not any(isinstance(one, End) for one in bench.b.told)
    bench.pull(bench.b)
    assert bench.b.told[-1] == End(number)
    with pytest.raises(RemoteProtocolError):
        bench.relay.data(bench.a, number, b"more", bench.now)
    bench.send(bench.b, number, b"answer")
    bench.relay.end(bench.b, number)
    bench.pull(bench.a)
    assert bytes(bench.a.content[number]) == b"answer"
    assert bench.a.told[-1] == End(number)
    assert bench.relay.count == 0
    bench.relay.credit(bench.a, number, 10)


def test_the_reason_of_a_shut_reaches_the_other_side_and_a_strange_one_is_made_harmless() -> None:
    bench = Bench()
    number = bench.open()
    bench.send(bench.a, number, b"never read")
    bench.relay.shut(bench.b, number, "refused_policy", "No more.")
    assert bench.a.told[-1] == Shut(number, "refused_policy", "No more.")
    assert (bench.relay.count, bench.relay.waiting_bytes, bench.pull(bench.b)) == (0, 0, 0)
    number = bench.open()
    bench.relay.shut(bench.a, number, "<script>", "")
    assert bench.b.told[-1] == Shut(number, "remote_closed", "")


def test_an_offer_can_be_refused_and_runs_out() -> None:
    bench = Bench()
    bench.relay.open(bench.a, 7, bench.b, bench.now)
    bench.relay.shut(bench.b, 1, "refused_blocked", "No.")
    assert bench.a.told[-1] == Refusal("refused_blocked", "No.", "", True, 7)
    bench.relay.open(bench.a, 8, bench.b, bench.now)
    bench.relay.tick(bench.now + 9.9)
    assert bench.relay.count == 1
    bench.relay.tick(bench.now + 10.0)
    refusal = bench.a.told[-1]
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.request, bench.relay.count) == ("timeout", 8, 0)
    assert isinstance(bench.b.told[-1], Shut)
    bench.relay.accept(bench.b, 2, bench.now)


def test_a_peer_that_leaves_takes_its_circuits_with_it() -> None:
    bench = Bench()
    open_one = bench.open()
    bench.relay.open(bench.b, 9, bench.a, bench.now)
    bench.send(bench.b, open_one, b"x" * 1000)
    bench.relay.leave(bench.a)
    told = {type(one): one for one in bench.b.told[-2:]}
    assert told[Shut] == Shut(open_one, "peer_offline", "The peer has left the hub.")
    assert isinstance(told[Refusal], Refusal)
    assert (bench.relay.count, bench.relay.waiting_bytes) == (0, 0)


def test_circuits_are_limited_for_both_peers_and_in_all() -> None:
    bench = Bench(HubLimits(circuits_per_peer=1, circuits_total=2))
    bench.open(bench.a, bench.b)
    for opener, target, code in ((bench.a, bench.c, "quota"), (bench.c, bench.b, "target_overloaded")):
        with pytest.raises(HubError) as caught:
            bench.relay.open(opener, 1, target, bench.now)
        assert (caught.value.code, caught.value.retryable) == (code, True)
    bench.open(Side("d"), Side("e"))
    with pytest.raises(HubError) as caught:
        bench.relay.open(Side("f"), 1, Side("g"), bench.now)
    assert caught.value.code == "quota"
    with pytest.raises(HubError) as caught:
        Bench().relay.open(Side("f"), 1, Side("f"), bench.now)
    assert caught.value.code == "refused_policy"


def test_a_circuit_whose_reader_takes_nothing_is_shut() -> None:
    bench = Bench()
    number = bench.open(credit=0)
    bench.relay.tick(bench.now + 1_000.0)  # nothing waits: nobody is slow
    assert bench.relay.count == 1
    bench.send(bench.a, number, b"x")
    bench.relay.tick(bench.now + 59.9)
    assert bench.relay.count == 1
    bench.relay.tick(bench.now + 60.0)
    for side in (bench.a, bench.b):
        shut = side.told[-1]
        assert isinstance(shut, Shut)
        assert shut.code == "target_overloaded"


def test_a_full_relay_gives_no_credit_and_then_shuts_who_goes_on() -> None:
    window = 10_000
    bench = Bench(HubLimits(circuit_window_bytes=window, relay_buffer_bytes=15_000))
    stuck = [bench.open(Side(f"w{index}"), Side(f"r{index}"), credit=0) for index in range(2)]
    flowing = bench.open(bench.a, bench.b)
    for number in stuck:
        source = next(iter(bench.relay._circuits[number].directions))
        bench.send(source, number, b"x" * window)
    bench.send(bench.a, flowing, b"y" * window)
    assert bench.relay.waiting_bytes == 30_000
    late = bench.open(bench.c, Side("z"), credit=0)
    with pytest.raises(RemoteProtocolError):
        bench.send(bench.c, late, b"z" * (window + 1))
    bench.send(bench.c, late, b"z")
    assert bench.c.told[-1] == Shut(late, "quota", "The hub's relay is full.")
    bench.pull(bench.b)
    assert bench.a.granted(flowing) == window
    bench.relay.leave(next(iter(bench.relay._circuits[stuck[0]].directions)))
    bench.relay.tick(bench.now)
    assert bench.a.granted(flowing) == 2 * window


@pytest.mark.parametrize(
    "attack",
    [
        lambda relay, side: relay.data(side, 99, b"x", 0.0),
        lambda relay, side: relay.data(side, 0, b"x", 0.0),
        lambda relay, side: relay.credit(side, 99, 1),
        lambda relay, side: relay.accept(side, 1, 0.0),
        lambda relay, side: relay.end(side, 99),
        lambda relay, side: relay.shut(side, 99, "timeout", ""),
    ],
)
def test_what_a_client_may_not_say_of_circuits_ends_its_conversation(attack) -> None:  # noqa: ANN001
    bench = Bench()
    bench.open()
    with pytest.raises(RemoteProtocolError):
        attack(bench.relay, bench.a)


def test_a_stranger_cannot_touch_a_circuit_and_its_bytes_for_it_run_into_a_limit() -> None:
    bench = Bench()
    number = bench.open()
    for act in (bench.relay.end, lambda side, one: bench.relay.shut(side, one, "timeout", "")):
        act(bench.c, number)
    bench.relay.credit(bench.c, number, 5)
    assert bench.relay.count == 1

    def flood() -> None:
        for _ in range(1_000):
            bench.relay.data(bench.c, number, b"x" * 65_000, bench.now)

    with pytest.raises(RemoteProtocolError) as caught:
        flood()
    assert caught.value.code == "rate_limited"
    assert bench.relay.waiting_bytes == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "pull", "pull", "credit", "deal", "end", "wait"]),
        st.booleans(),
        st.integers(1, 5_000),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps)
def test_bytes_arrive_once_and_in_order_and_no_more_waits_than_the_window(
    plan: list[tuple[str, bool, int]],
) -> None:
    bench = Bench(HubLimits(circuit_window_bytes=8_000, pair_burst_bytes=40_000, pair_bytes_per_second=500.0))
    number = bench.open(credit=0)
    sent: dict[Side, bytearray] = {bench.a: bytearray(), bench.b: bytearray()}
    ended: set[Side] = set()
    for act, first, size in plan:
        side, other = (bench.a, bench.b) if first else (bench.b, bench.a)
        if act == "send" and side not in ended:
            size = min(size, side.granted(number) - len(sent[side]))
            data = bytes((len(sent[side]) + index) % 251 for index in range(size))
            if data:
                sent[side] += data
                bench.send(side, number, data)
        elif act == "pull":
            bench.pull(side, frames=2)
        elif act == "credit":
            bench.relay.credit(side, number, size)
        elif act == "deal":
            bench.relay.deal(bench.now)
        elif act == "wait":
            bench.now += size / 1000
        elif act == "end" and side not in ended and other not in ended:
            ended.add(side)
            bench.relay.end(side, number)
        assert bench.relay.waiting_bytes <= 2 * 8_000
    for side in (bench.a, bench.b):
        bench.relay.credit(side, number, PLENTY)
    for _ in range(200):
        bench.now += 10.0
        bench.relay.deal(bench.now)
        bench.pull(bench.a)
        bench.pull(bench.b)
    assert bytes(bench.b.content.get(number, b"")) == bytes(sent[bench.a])
    assert bytes(bench.a.content.get(number, b"")) == bytes(sent[bench.b])
    assert bench.relay.waiting_bytes == 0
