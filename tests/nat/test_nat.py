"""Peers behind real NATs: endpoint-independent ones by STUN, symmetric ones by TURN or the hub's relay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest
from lab import PUBLIC, Lab, Program

Build = Callable[..., Lab]
STUN = [[f"stun:{PUBLIC}:3478"]]
TURN = [[f"turn:{PUBLIC}:3478", "pgpeer", "secret"]]


def peers(lab: Lab, *kinds: str, ice: list[list[str]] = STUN) -> tuple[Program, Program]:
    """Start both peers and wait until they are at the hub."""
    pair = tuple(
        lab.run(
            f"host-{side}", "lab_peer.py", seed=seed, other=3 - seed, hub=lab.hub_url, ice=ice, kinds=kinds
        )
        for side, seed in (("a", 1), ("b", 2))
    )
    for peer in pair:
        peer.hear("hub", 30)
    return pair[0], pair[1]


def connect(a: Program, b: Program) -> dict[str, object]:
    a.ask(do="connect")
    connected = a.hear("connected", 25)
    b.hear("linked", 5)
    return connected


def transfer(
    source: Program, target: Program, count: int = 200, size: int = 1000, pause: float = 0.0
) -> None:
    source.ask(do="send", count=count, size=size, pause=pause)
    arrived = target.until("received", lambda answer: answer["count"] >= count, 30)
    assert (arrived["count"], arrived["in_order"]) == (count, True)


def on(kind: str) -> Callable[[dict[str, object]], bool]:
    return lambda answer: answer["kind"] == kind


def test_behind_endpoint_independent_nats_stun_leads_to_a_direct_path(build: Build) -> None:
    lab = build("cone")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connect(a, b)
    for peer in (a, b):
        path = peer.until("path", on("webrtc"))
        assert path["remote"] in ("srflx", "prflx")
    transfer(a, b)


def test_behind_symmetric_nats_stun_alone_leaves_the_relay_and_nothing_hangs(build: Build) -> None:
    lab = build("symmetric")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    assert connect(a, b)["kind"] == "relay"
    transfer(a, b, count=100, pause=0.03)
    path = a.until("path", lambda _: True)
    assert path["kind"] == "relay"
    assert path["changes"] == ["relay"]


def test_where_udp_is_blocked_the_relay_carries_everything(build: Build) -> None:
    lab = build("cone")
    lab.block_udp("a")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connected = connect(a, b)
    assert connected["kind"] == "relay"
    assert float(str(connected["seconds"])) < 10, "WebRTC needs twenty seconds to fail"
    transfer(b, a, count=200, size=20_000)
    assert a.until("path", lambda _: True)["kind"] == "relay"


# The full set.


@pytest.mark.usefixtures("full")
def test_behind_endpoint_independent_nats_no_relay_is_needed(build: Build) -> None:
    lab = build("cone")
    lab.start_hub(relay=False)
    a, b = peers(lab, "relay", "webrtc")
    assert connect(a, b)["kind"] == "webrtc"
    transfer(a, b)


@pytest.mark.usefixtures("full")
def test_behind_symmetric_nats_without_turn_or_relay_the_failure_is_said_in_time(build: Build) -> None:
    lab = build("symmetric")
    lab.start_hub(relay=False)
    a, _ = peers(lab, "webrtc")
    a.ask(do="connect")
    failed = a.hear("failed", 25)
    assert failed["phase"] == "ice"


@pytest.mark.usefixtures("full")
@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed")
@pytest.mark.parametrize("kinds", [("webrtc",), ("relay", "webrtc")], ids=["turn alone", "after the relay"])
def test_behind_symmetric_nats_turn_leads_to_a_webrtc_path(build: Build, kinds: tuple[str, ...]) -> None:
    lab = build("symmetric")
    lab.start_turn()
    lab.start_hub(stun=False)
    a, b = peers(lab, *kinds, ice=STUN + TURN)
    connect(a, b)
    path = a.until("path", on("webrtc"), 25)
    assert "relay" in (path["local"], path["remote"])
    transfer(a, b)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("nat", ["cone", "symmetric", "blocked"])
def test_the_kind_of_nat_is_found_out(build: Build, nat: str) -> None:
    lab = build("symmetric" if nat == "symmetric" else "cone")
    if nat == "blocked":
        lab.block_udp("a")
    lab.start_hub()
    urls = [f"stun:{PUBLIC}:{port}" for port in (3478, 3479)]
    report = lab.run("host-a", "lab_probe.py", urls=urls).hear("report")
    assert report["mapping"] == {"cone": "endpoint_independent"}.get(nat, nat)


@pytest.mark.usefixtures("full")
def test_when_udp_is_let_through_the_path_is_upgraded_live(build: Build) -> None:
    lab = build("cone")
    lab.block_udp("a")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connect(a, b)
    a.ask(do="send", count=2000, size=1000, pause=0.02)
    a.until("path", on("relay"))
    lab.unblock_udp("a")
    a.until("path", on("webrtc"), 60)
    arrived = b.until("received", lambda answer: answer["count"] >= 2000, 60)
    assert (arrived["count"], arrived["in_order"]) == (2000, True)


@pytest.mark.usefixtures("full")
def test_when_udp_is_blocked_in_use_the_relay_takes_over_within_fifteen_seconds(build: Build) -> None:
    lab = build("cone")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connect(a, b)
    a.until("path", on("webrtc"))
    a.ask(do="send", count=1000, size=1000, pause=0.02)
    lab.block_udp("b")
    a.until("path", on("relay"), 15)
    arrived = b.until("received", lambda answer: answer["count"] >= 1000, 60)
    assert (arrived["count"], arrived["in_order"]) == (1000, True)


@pytest.mark.usefixtures("full")
def test_a_host_that_moves_to_another_address_goes_on_with_the_same_link(build: Build) -> None:
    lab = build("cone")
    lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connect(a, b)
    a.until("path", on("webrtc"))
    a.ask(do="send", count=1500, size=1000, pause=0.02)
    lab.move("a")
    arrived = b.until("received", lambda answer: answer["count"] >= 1500, 60)
    assert (arrived["count"], arrived["in_order"]) == (1500, True)
    a.until("path", on("webrtc"), 60)


@pytest.mark.usefixtures("full")
def test_a_link_with_a_direct_path_does_not_need_the_hub_any_more(build: Build) -> None:
    lab = build("cone")
    hub = lab.start_hub()
    a, b = peers(lab, "relay", "webrtc")
    connect(a, b)
    for peer in (a, b):
        peer.until("path", on("webrtc"))
    hub.kill()
    transfer(a, b, count=500, pause=0.02)
    lab.start_hub()
    for peer in (a, b):
        peer.hear("hub", 30)
    assert a.until("path", lambda _: True)["kind"] == "webrtc"


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("kinds", [("relay",), ("relay", "webrtc")], ids=["relay", "webrtc"])
def test_over_a_long_and_lossy_way_everything_arrives(
    build: Build, kinds: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    lab = build("cone", far=True)
    lab.start_hub()
    a, b = peers(lab, *kinds)
    connect(a, b)
    path = a.until("path", on(kinds[-1]), 30)
    count, size = 60, 20_000
    began = time.monotonic()
    a.ask(do="send", count=count, size=size, pause=0)
    arrived = b.until("received", lambda answer: answer["count"] >= count, 100)
    assert (arrived["count"], arrived["in_order"]) == (count, True)
    path = a.until("path", lambda answer: answer["rtt"] is not None)
    goodput = count * size / (time.monotonic() - began)
    assert 0.09 < path["rtt"] < 5
    record_property("goodput_bytes_per_second", round(goodput))
    record_property("rtt_seconds", path["rtt"])
    print(f"{kinds[-1]}: {goodput / 1000:.0f} kB/s, rtt {path['rtt'] * 1000:.0f} ms")
