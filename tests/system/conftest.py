"""A hub and peers, each a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures.databases import Database

from pgpeer.embedded import Cluster
from system.processes import Peer, Program


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path / "hub.log", "hub_program.py", "0")
    program.ready()
    yield program
    program.end(signal.SIGKILL)


@pytest.fixture
def make_peer(
    make_database: Callable[..., Database], hub: Program, tmp_path: Path
) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(label: str = "peer", cluster: Cluster | None = None) -> Peer:
        made.append(Peer(make_database(label, cluster), tmp_path, hub.ready()))
        return made[-1]

    yield make
    for peer in made:
        if peer.worker is not None:
            peer.end(signal.SIGKILL)


@pytest.fixture
def atlas(make_peer: Callable[..., Peer]) -> Callable[..., Peer]:
    """A function that makes a peer with a bundle `atlas` of one table; its worker runs."""

    def make(label: str = "ann", commit_mode: str = "auto", cluster: Cluster | None = None) -> Peer:
        peer = make_peer(label, cluster)
        peer.run("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL, population bigint)")
        peer.run("INSERT INTO public.city SELECT n, 'city ' || n, n * 1000 FROM generate_series(1, 500) AS n")
        peer.run("SELECT peer.create_bundle('atlas', %s)", commit_mode)
        peer.run("SELECT peer.track('atlas', 'public.city')")
        peer.start()
        return peer

    return make
