"""Sessions of a worker that end in the middle of what they do, phase by phase."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest
from system.processes import Peer, wait_until_equal

from faults.site import surprises

Make = Callable[..., Peer]

PHASES = {
    "sealing": ("ann", "worker_seal"),
    "signing": ("ann", "worker_sign"),
    "reading": ("ann", "worker_page"),
    "sending": ("ann", "section_data"),
    "receiving": ("bob", "receive_commit"),
    "storing": ("bob", "receive_section"),
    "merging": ("bob", "worker_receive"),
    "merging later": ("bob", "worker_merge"),
    "looking": ("bob", "worker_look"),
    "acknowledging": ("ann", "worker_acknowledged"),
    "linking": ("bob", "worker_connected"),
    "announcing": ("bob", "vector_json"),
}
"""Which side's session is ended while it runs which function."""

LARGE = ("receiving", "storing", "sending", "merging later", "reading")
"""Where the commits must be large: small ones go another way."""

LOCKED = {"looking": "peer.hub", "linking": "peer_internal.connection", "announcing": "peer_internal.lane"}
"""What is too seldom or short to be met waits for a table."""

CUT = """
    SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a
     WHERE a.datname = current_database() AND a.application_name = 'pgpeer worker' AND a.state = 'active' AND a.query LIKE %s
"""


class Cutter:
    """Ends the sessions that run a function, as often as asked."""

    def __init__(self, peer: Peer, function: str, times: int) -> None:
        self.count = 0
        self._peer, self._function, self._times = peer, function, times
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._peer.database.dsn, autocommit=True) as connection:
            while not self._over.is_set() and self.count < self._times:
                row = connection.execute(CUT, [f"%{self._function}%"]).fetchone()
                assert row is not None
                if row[0]:
                    self.count += 1
                    self._over.wait(0.3)


@pytest.mark.slow
def test_sessions_that_are_lost_in_any_phase_lose_and_repeat_nothing(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    sides = {"ann": ann, "bob": bob}
    for peer in (ann, bob):
        peer.run("UPDATE peer.config SET reconnect_delay_max = '1 s'")
    bob.start()
    bob.join(ann)
    row = 1000
    missed = []
    for phase, (side, function) in PHASES.items():
        ann.wait_until("SELECT EXISTS (SELECT FROM peer.connection)")
        if phase == "linking":  # the end of the link before must not be what waits for the table
            ann.end()
            bob.wait_until("SELECT NOT EXISTS (SELECT FROM peer.connection)")
        with ExitStack() as stack:
            if phase in LOCKED:
                lock = stack.enter_context(psycopg.connect(sides[side].database.dsn))
                lock.execute(f"LOCK TABLE {LOCKED[phase]} IN ACCESS EXCLUSIVE MODE".encode())
                if phase == "looking":
                    bob.run("NOTIFY pgpeer_config")
                elif phase == "linking":
                    ann.start()
                elif phase == "announcing":
                    ann.run("SELECT peer_internal.end_worker_sessions()")
            cutter = stack.enter_context(Cutter(sides[side], function, 1))
            deadline = time.monotonic() + 20
            while not cutter.count and time.monotonic() < deadline:
                size = 3000 if phase in LARGE else 20
                ann.run(
                    "INSERT INTO public.city SELECT n, repeat('name ', 30), n FROM generate_series(%s::int, %s) AS n",
                    row,
                    row + size - 1,
                )
                row += size
                time.sleep(0.1)
            if not cutter.count:
                missed.append(phase)
    wait_until_equal(ann, bob)
    assert missed == []
    assert bob.value("SELECT count(*) FROM public.city") == 500 + row - 1000
    for peer in (ann, bob):
        assert peer.value("SELECT count(*) FROM peer.problem WHERE kind NOT LIKE 'hub%%'") == 0
        assert peer.value("SELECT bool_and(signed) FROM peer.log('atlas')")
        assert surprises(peer.log.read_text()) == []
