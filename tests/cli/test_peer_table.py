"""`pgpeer peers`: once, as JSON, and live in a terminal; with real workers, and with what they leave behind."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from cli.conftest import Run
from fixtures.databases import Database
from system.conftest import atlas, hub, make_peer
from system.processes import Peer, wait_until, wait_until_equal

__all__ = ["atlas", "hub", "make_peer"]

KEYS = [
    "peer_id", "label", "state", "bundles", "roles", "connection_id", "direction", "path", "engine", "rtt",
    "bytes_sent_per_second", "bytes_received_per_second", "bytes_sent", "bytes_received", "since", "behind",
    "ahead", "last_seen",
]  # fmt: skip
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
Make = Callable[..., Peer]


def admit(connection: psycopg.Connection, label: str, bundle: str = "atlas") -> None:
    connection.execute(
        "SELECT peer_internal.add_member(peer_internal.bundle_id(%s), %s, 'writer', %s)",
        [bundle, label.encode().ljust(32, b"."), label],
    )


def test_a_database_alone_says_so(run: Run, cities: Database) -> None:
    told = run("peers", "--dsn", cities.dsn).out
    assert f"This database is peer, {cities.peer_id}." in told
    assert "There are no other members. Invite one: pgpeer invite" in told
    assert "of atlas" in run("peers", "atlas", "--once", "--dsn", cities.dsn).out
    assert run("peers", "--dsn", cities.dsn, "--json").json == []
    assert run("peers", "nowhere", "--dsn", cities.dsn).code == 1


def test_members_friends_and_links_stand_once_each(run: Run, cities: Database) -> None:
    connection = cities.connect()
    connection.execute("SELECT peer.create_bundle('second', 'manual')")
    for bundle in ("atlas", "second"):
        admit(connection, "tokyo", bundle)
    admit(connection, "oslo")
    connection.execute(
        "UPDATE peer_internal.member SET state = 'removed' WHERE author_id = peer_internal.author_id(%s)",
        [b"oslo".ljust(32, b".")],
    )
    connection.execute("SELECT peer_internal.author_id(%s)", [b"rome".ljust(32, b".")])
    connection.execute(
        "INSERT INTO peer.friend (peer_id, label, state) SELECT peer_id, 'rome', 'accepted' FROM peer_internal.author WHERE public_key = %s",
        [b"rome".ljust(32, b".")],
    )
    rows = {row["label"]: row for row in run("peers", "--dsn", cities.dsn, "--json").json}
    assert set(rows) == {"tokyo", "oslo", "rome"}
    assert all(list(row) == KEYS for row in rows.values())
    assert rows["tokyo"]["bundles"] == ["atlas", "second"]
    assert rows["tokyo"]["roles"] == {"atlas": "writer", "second": "writer"}
    assert (rows["tokyo"]["state"], rows["tokyo"]["connection_id"]) == (
        "unknown",
        None,
    )  # no worker could know
    assert (rows["oslo"]["state"], rows["oslo"]["bundles"]) == ("removed", [])
    assert (rows["rome"]["bundles"], rows["rome"]["behind"]) == ([], None)
    assert [row["label"] for row in run("peers", "second", "--dsn", cities.dsn, "--json").json] == ["tokyo"]
    told = run("peers", "--dsn", cities.dsn).out
    assert "No worker runs" in told
    assert rows["tokyo"]["peer_id"] in told, "a pipe gets whole ids"
    assert re.search(r"tokyo .* unknown +atlas, second .* never", told)


def test_behind_and_ahead_count_commits(run: Run, cities: Database) -> None:
    connection = cities.connect()
    admit(connection, "tokyo")
    connection.execute("UPDATE public.city SET people = 1")
    connection.execute("SELECT peer.commit('atlas')")
    connection.execute("UPDATE peer_internal.commit SET signature = decode(repeat('00', 64), 'hex')")

    def gaps(acknowledged: str | None) -> tuple[int | None, int | None]:
        connection.execute("UPDATE peer_internal.member SET acknowledged = %s", [acknowledged])
        (row,) = run("peers", "--dsn", cities.dsn, "--json").json
        return row["behind"], row["ahead"]

    own = connection.execute(
        "SELECT encode(author, 'hex'), epoch, seq FROM peer_internal.vector(peer_internal.bundle_id('atlas'))"
    ).fetchone()
    assert own is not None
    entry = '{{"author": "{}", "epoch": {}, "seq": {}}}'
    assert own[2] == 2
    assert gaps(None) == (None, None)
    assert "not told" in run("peers", "--dsn", cities.dsn).out
    assert gaps("[]") == (2, 0)
    assert gaps(f"[{entry.format(own[0], own[1], 1)}]") == (1, 0)
    assert gaps(f"[{entry.format(own[0], own[1], 2)}]") == (0, 0)
    assert "in sync" in run("peers", "--dsn", cities.dsn).out
    assert gaps(f"[{entry.format(own[0], own[1], 1)}, {entry.format('ab' * 32, 7, 5)}]") == (1, 5)
    assert "behind by 1, ahead by 5" in run("peers", "--dsn", cities.dsn).out


@pytest.mark.slow
def test_real_workers_are_seen_linked_in_sync_behind_and_offline(
    run: Run, atlas: Make, make_peer: Make
) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    wait_until_equal(ann, bob)

    def row() -> dict:
        (found,) = run("peers", "atlas", "--dsn", ann.database.dsn, "--json").json
        return dict(found)

    wait_until(
        lambda: row()["state"] == "linked" and row()["rtt"] is not None and row()["behind"] == 0,
        "a link in sync",
    )
    assert row()["path"] in {"relay", "webrtc", "tls"}
    told = run("peers", "--dsn", ann.database.dsn).out
    assert re.search(r"bob +pg1\w+ +linked +atlas +(relay|webrtc|tls) +[\d.]+ ms .*in sync +now", told)
    ann.wait_until(
        "SELECT NOT EXISTS (SELECT FROM peer.problem)"
    )  # a slow start may have left one for a moment
    assert "Problems" not in run("peers", "--dsn", ann.database.dsn).out
    bob.run("UPDATE public.city SET name = 'of bob' WHERE id = 2")  # which bob has no need to acknowledge
    wait_until_equal(ann, bob)
    assert (row()["behind"], row()["ahead"]) == (0, 0)
    bob.end()
    ann.run("UPDATE public.city SET name = 'new' WHERE id = 1")
    wait_until(lambda: row()["state"] == "offline" and row()["behind"] == 1, "bob behind and offline")
    assert re.search(r"offline .* behind by 1 +\d+ s ago", run("peers", "--dsn", ann.database.dsn).out)


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="160")
            os.execv(sys.executable, [sys.executable, "-m", "pgpeer.cli", *words])
        self.seen = b""

    def wait_for(self, text: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in ESCAPES.sub(b"", self.seen):
            assert time.monotonic() < deadline, self.seen.decode(errors="replace")
            self._read(0.2)

    def type(self, keys: bytes) -> None:
        os.write(self._handle, keys)

    def end(self) -> int:
        while self._read(10):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._handle)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._handle], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._handle, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.seen += data
        return bool(data)


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    shown = Terminal(*words)
    try:
        yield shown
    except BaseException:
        os.kill(shown.pid, signal.SIGKILL)
        shown.end()
        raise


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_table_follows_what_happens_until_ctrl_c(cities: Database) -> None:
    connection = cities.connect()
    with terminal("peers", "--dsn", cities.dsn) as shown:
        shown.wait_for("There are no other members")
        shown.wait_for("No worker runs")
        admit(connection, "tokyo")
        shown.wait_for("tokyo  pg1")
        assert connection.execute("SELECT peer_internal.try_worker_lock()").fetchone() == (True,)
        connection.execute(
            "SELECT peer_internal.announce('connected', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        shown.wait_for("offline")
        shown.type(b"\x03")
        assert shown.end() == 0
    assert b"Traceback" not in shown.seen


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_live_table_whose_server_goes_away_ends_with_a_sentence(cities: Database) -> None:
    with terminal("peers", "--dsn", cities.dsn) as shown:
        shown.wait_for("There are no other members")
        cities.connect().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgpeer' AND datname = current_database()"
        )
        shown.wait_for("remedy:")
        assert shown.end() == 1
    assert b"Traceback" not in shown.seen
