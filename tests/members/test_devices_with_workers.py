"""Devices of one owner with real workers: linked with no hand on the accepting side, and cut off by a revocation (row B3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from system.conftest import hub, make_peer
from system.processes import Peer
from typer.testing import CliRunner

from pgpeer.cli.main import app

__all__ = ["hub", "make_peer"]

Make = Callable[..., Peer]

LINKED = "SELECT EXISTS (SELECT FROM peer.connection WHERE kind = 'link' AND peer_id = %s AND state = 'open')"
NOT_LINKED = "SELECT NOT EXISTS (SELECT FROM peer.connection WHERE peer_id = %s)"
STATE = "SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s AND state = %s)"
DEVICE = "SELECT EXISTS (SELECT FROM peer.device WHERE peer_id = %s AND state = %s)"
CLOSED = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s)"
END = "SELECT code FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s"


def owner(*words: str) -> None:
    """Run `pgpeer owner` as its user does."""
    result = CliRunner().invoke(app, ["owner", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("accept", ["friends", "invited"])
def test_devices_of_one_owner_are_linked_by_themselves_and_those_of_another_are_not(
    make_peer: Make, tmp_path: Path, accept: str
) -> None:
    laptop, phone, stranger = (make_peer(name) for name in ("laptop", "phone", "stranger"))
    key, other = str(tmp_path / "owner.key"), str(tmp_path / "other.key")
    owner("create", key)
    owner("create", other)
    for device in (laptop, phone):
        owner("adopt", "--owner", key, "--dsn", device.database.dsn)
    owner("adopt", "--owner", other, "--dsn", stranger.database.dsn)
    for peer in (laptop, phone, stranger):
        peer.run("UPDATE peer.config SET accept = %s", accept)
        peer.start()
    laptop.run("SELECT peer.befriend(%s)", phone.peer_id)
    stranger.run("SELECT peer.befriend(%s)", phone.peer_id)
    laptop.wait_until(LINKED, phone.peer_id)
    phone.wait_until(LINKED, laptop.peer_id)
    assert phone.value(STATE, laptop.peer_id, "accepted")
    assert laptop.value(STATE, phone.peer_id, "accepted")
    phone.wait_until(STATE, stranger.peer_id, "requested")
    refused = stranger.value("SELECT peer.connect(%s)", phone.peer_id)
    stranger.wait_until(CLOSED, refused, seconds=40)
    assert stranger.value(END, refused) == "refused_policy"
    assert phone.value(NOT_LINKED, stranger.peer_id)
    assert phone.value(STATE, stranger.peer_id, "requested")
    connection_id = laptop.value("SELECT peer.connect(%s)", phone.peer_id)
    laptop.run("SELECT peer.send(%s, 'from the same owner')", connection_id)
    phone.wait_until("SELECT EXISTS (SELECT FROM peer.message WHERE data = 'from the same owner')")


def test_a_revocation_reaches_the_other_devices_and_ends_the_link(make_peer: Make, tmp_path: Path) -> None:
    laptop, phone, desktop = (make_peer(name) for name in ("laptop", "phone", "desktop"))
    key = str(tmp_path / "owner.key")
    owner("create", key)
    for device in (laptop, phone, desktop):
        owner("adopt", "--owner", key, "--dsn", device.database.dsn)
        device.start()
    for device in (laptop, desktop):
        device.run("SELECT peer.befriend(%s)", phone.peer_id)
        phone.wait_until(LINKED, device.peer_id)
    desktop.wait_until(DEVICE, laptop.peer_id, "device")  # phone has told it
    owner("revoke", laptop.peer_id, "--owner", key, "--dsn", phone.database.dsn)
    phone.wait_until(NOT_LINKED, laptop.peer_id)
    desktop.wait_until(DEVICE, laptop.peer_id, "revoked")
    assert not phone.value("SELECT EXISTS (SELECT FROM peer.friend WHERE peer_id = %s)", laptop.peer_id)
    assert phone.value(LINKED, desktop.peer_id)
    # it goes on to show its certificate, which counts nothing any more
    laptop.run("SELECT peer.befriend(%s)", desktop.peer_id)
    desktop.wait_until(STATE, laptop.peer_id, "requested")
    assert desktop.value(NOT_LINKED, laptop.peer_id)
    assert desktop.value(DEVICE, laptop.peer_id, "revoked")
