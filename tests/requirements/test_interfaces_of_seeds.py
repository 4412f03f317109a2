"""The interfaces of the seed documents, by name and type (rows B4 to B8, B18, B19, A11, A12)."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest
from channel.pair import ID, hostile, opened
from fixtures.databases import Database

import pgpeer
from pgpeer import PeerConnection, PeerConnectionManager, PeerInfo
from pgpeer.channel import events
from pgpeer.channel.messages import Close, encode
from pgpeer.errors import CODES
from pgpeer.transport.base import Link
from pgpeer.transport.memory import MemoryLink
from pgpeer.transport.peer_link import PeerLink
from pgpeer.transport.tls import TlsLink
from pgpeer.transport.webrtc import WebRTCLink

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio
from pgpeer import PeerConnection, PeerConnectionManager, PeerInfo

async def use(manager: PeerConnectionManager, peer_id: str) -> str | None:
    found: list[PeerInfo] = await manager.get_online_peers()
    names: list[tuple[str, str]] = [(peer.id, peer.label) for peer in found]
    connection: PeerConnection = await manager.connect_to_peer(peer_id, confirm_data_receival=True)
    manager.events.on("incoming_connection", lambda connection: None)
    manager.events.on("connection_closed", lambda connection, reason: None)
    connection.events.on("data", lambda data: None)
    await connection.send("text")
    await connection.send(b"bytes")  # type: ignore[arg-type]
    await manager.connect_to_peer(7)  # type: ignore[arg-type]
    await connection.disconnect()
    return connection.closed_reason if names else None
"""


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    hints = typing.get_type_hints(function)
    return [
        (name, hints[name], one.default)
        for name, one in inspect.signature(function).parameters.items()
        if name != "self"
    ]


def test_b4_a_peer_is_known_by_an_id_and_a_label() -> None:
    hints = typing.get_type_hints(PeerInfo)
    assert [(one.name, hints[one.name]) for one in fields(PeerInfo)] == [("id", str), ("label", str)]


def test_b5_to_b8_the_names_parameters_and_events_are_those_of_the_seed() -> None:
    empty = inspect.Parameter.empty
    assert parameters(PeerConnectionManager.get_online_peers) == []
    assert parameters(PeerConnectionManager.connect_to_peer) == [
        ("id", str, empty),
        ("confirm_data_receival", bool, False),
    ]
    assert parameters(PeerConnection.send) == [("data", str, empty)]
    assert parameters(PeerConnection.disconnect) == []
    for method in (
        PeerConnectionManager.get_online_peers,
        PeerConnectionManager.connect_to_peer,
        PeerConnection.send,
        PeerConnection.disconnect,
    ):
        assert inspect.iscoroutinefunction(method)
    manager = PeerConnectionManager("postgresql:///nowhere")
    for name in ("incoming_connection", "connection_closed"):
        manager.events.on(name, print)
    with pytest.raises(ValueError, match="incomingConnection"):
        manager.events.on("incomingConnection", print)


def test_b5_to_b8_a_program_that_is_written_after_the_seed_is_type_checked(tmp_path: Path) -> None:
    """As a user would do it; an `ignore` that nothing needs is an error too, so wrong types are noticed."""
    assert (Path(pgpeer.__file__).parent / "py.typed").exists()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file", "",
         "--follow-imports", "silent", str(program)],
        capture_output=True, text=True, timeout=240, check=False, cwd=ROOT,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("requested", [True, False])
@pytest.mark.parametrize("code", [*sorted(CODES), "made_up"])
def test_b7_every_end_has_one_of_the_two_reasons(code: str, requested: bool) -> None:
    """Whatever the other side says: one reason when somebody asked for the end, else the other."""
    pair = opened()
    assert hostile(pair.ann, encode(Close(ID, requested, code, "Said by the other side."))) is None
    pair.run()
    end = pair.ann.closed()
    assert end is not None
    reason, shown = end
    assert reason in typing.get_args(events.Reason)
    assert reason == ("peer-requested-closed" if requested else "connection-error")
    assert (shown == "remote_closed") if requested else (shown in CODES)


def test_b7_the_database_takes_no_other_reason(database: Database) -> None:
    with database.connect() as sql:
        own = "(SELECT peer_internal.author_id(public_key) FROM peer_internal.identity)"
        insert = (
            "INSERT INTO peer_internal.channel (connection_id, author_id, direction, confirm_data_receival, state, reason)"
            f" VALUES (gen_random_uuid(), {own}, 'outgoing', false, 'closed', %s)"
        )
        for reason in typing.get_args(events.Reason):
            sql.execute(insert.encode(), [reason])
        with pytest.raises(psycopg.errors.CheckViolation):
            sql.execute(insert.encode(), ["bored"])


def test_a11_every_way_to_carry_messages_is_one_interface() -> None:
    """Engines are found by what they promise: each class of a link has every member of `Link`."""
    promised = {name for name in dir(Link) if not name.startswith("_")} | set(Link.__annotations__)
    for engine in (MemoryLink, PeerLink, TlsLink, WebRTCLink):
        source = ast.parse(inspect.getsource(engine).lstrip())
        own = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)} | set(dir(engine))
        assert promised <= own, (engine, promised - own)


def test_a12_what_a_crash_of_the_server_empties_is_short_term_and_rebuilt(database: Database) -> None:
    with database.connect() as sql:
        unlogged = {
            name
            for (name,) in sql.execute(
                "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind = 'r' AND c.relpersistence = 'u'"
                " AND c.relnamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace)"
            )
        }
    short_term = {"peer_internal.connection", "peer_internal.presence"}
    assert unlogged - {"peer_internal.diagnostics"} == short_term
