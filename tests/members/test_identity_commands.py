"""`pgpeer identity` and `pgpeer friend`: the key of a database, shown, copied and changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fixtures.databases import Database
from typer.testing import CliRunner

from pgpeer.cli.main import app
from pgpeer.errors import IdentityError
from pgpeer.identity.grant import read_grant
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.roster import roster
from pgpeer.identity.rotation import discard_next, install_next, next_file, prepare_next
from pgpeer.store.database import Connection
from pgpeer.worker.registry import Registry
from pgpeer.worker.reporter import Reporter

from .cast import key_of, peer


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGPEER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.delenv("PGPEER_DSN", raising=False)
    return tmp_path


class Place:
    """A database with its identity file."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.file = IdentityFile(folder / "identity")
        self.file.create(database.key)
        self.people = database.connect()

    def run(self, *words: str, code: int = 0) -> Any:
        options = ["--dsn", self.database.dsn]
        if words[0] == "identity":
            options += ["--identity", str(self.file.path)]
        result = CliRunner().invoke(app, [*words, *options], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if "--json" in words and not code else result.stderr

    def value(self, statement: str, *values: object) -> Any:
        row = self.people.execute(statement.encode(), values or None).fetchone()
        return None if row is None else row[0]

    def roles(self) -> dict[str, str]:
        rows = self.people.execute("SELECT peer_id, role, state FROM peer.member").fetchall()
        return {peer_id: role if state == "active" else state for peer_id, role, state in rows}


@pytest.fixture
def place(make_database: Callable[..., Database], tmp_path: Path) -> Place:
    return Place(make_database("ann"), tmp_path)


async def shared(place: Place) -> object:
    """A bundle with one other member."""
    bundle = place.value("SELECT peer.create_bundle('shelf')")
    for name in ("add_member", "request_role"):
        place.value(f"SELECT peer_internal.{name}(%s, %s, 'writer')", bundle, key_of("bob").public_key)
    connection = await Connection.open(place.database.dsn)
    try:
        await Registry(place.database.key, connection, Reporter(connection)).sign_requests()
    finally:
        await connection.close()
    return bundle


def test_show_tells_the_peer_id_and_the_file(place: Place) -> None:
    assert place.run("identity", "show", "--json") == {
        "peer_id": place.database.peer_id,
        "identity": str(place.file.path),
        "is_in_use": True,
    }


def test_a_backup_is_whole_private_and_overwrites_nothing(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "safe" / "copy"
    place.run("identity", "backup", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert IdentityFile(copy).load().seed == place.database.key.seed
    assert "exists already" in place.run("identity", "backup", str(copy), code=1)


def test_a_new_key_takes_the_place_of_the_old_one(place: Place) -> None:
    old = place.file.load()
    told = place.run("identity", "rotate", "--json")
    new = place.file.load()
    assert told["peer_id"] == new.peer_id != old.peer_id
    assert place.value("SELECT peer.identity()") == new.peer_id
    assert place.file.path.stat().st_mode & 0o777 == 0o600
    assert IdentityFile(Path(told["former_identity"])).load().peer_id == old.peer_id
    assert not next_file(place.file).exists()


async def test_the_old_key_names_the_new_one_in_every_bundle_and_ends(place: Place) -> None:
    await shared(place)
    old = place.file.load()
    epoch = place.value("SELECT epoch FROM peer_internal.identity")
    assert "nobody would know the new key" in place.run("identity", "rotate", code=1)
    assert place.file.load().peer_id == old.peer_id
    place.run("identity", "rotate", "--alone")
    new = place.file.load()
    assert place.roles() == {old.peer_id: "removed", new.peer_id: "admin", peer("bob"): "writer"}
    assert place.value("SELECT epoch FROM peer_internal.identity") != epoch
    records = place.people.execute("SELECT record FROM peer_internal.bundle_grant").fetchall()
    found = roster(old.peer_id, [read_grant(bytes(record)) for (record,) in records])
    assert found.roles[new.peer_id] == "admin", "everybody with these grants reads the same"
    place.value("SELECT peer.set_role('shelf', %s, 'reader')", peer("bob"))
    connection = await Connection.open(place.database.dsn)
    try:
        assert await Registry(new, connection, Reporter(connection)).sign_requests()
    finally:
        await connection.close()
    assert place.roles()[peer("bob")] == "reader"


async def test_while_a_worker_has_the_key_it_is_only_announced_and_then_goes_on(place: Place) -> None:
    await shared(place)
    place.value(
        "INSERT INTO peer_internal.connection (connection_id, author_id, direction, path, engine, state)"
        " SELECT gen_random_uuid(), peer_internal.author_id(%s), 'outgoing', 'webrtc', 'x', 'open' RETURNING 1",
        key_of("bob").public_key,
    )
    old = place.file.load()
    with place.file.hold(), psycopg.connect(place.database.dsn, autocommit=True) as other:
        # the member that has heard ends its link
        other.execute(
            "CREATE FUNCTION public.hang_up() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN DELETE FROM peer_internal.connection; RETURN NULL; END';"
            "CREATE TRIGGER hang_up AFTER INSERT ON peer_internal.bundle_grant EXECUTE FUNCTION public.hang_up()"
        )
        refused = place.run("identity", "rotate", code=1)
    assert "in use by another worker" in refused
    following = next_file(place.file).load()
    assert place.roles()[following.peer_id] == "admin"
    assert place.file.load().peer_id == old.peer_id == place.value("SELECT peer.identity()")
    place.run("identity", "rotate")
    assert place.file.load().peer_id == following.peer_id == place.value("SELECT peer.identity()")
    assert place.value("SELECT count(*) FROM peer_internal.bundle_grant") == 2


async def test_a_crash_after_the_database_has_changed_is_mended_by_running_it_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shared(place)

    def crash(_: IdentityFile) -> Path:
        raise IdentityError("power is gone", code="internal")

    with monkeypatch.context() as patched:
        patched.setattr("pgpeer.cli.identity.install_next", crash)
        place.run("identity", "rotate", "--alone", code=1)
    new = next_file(place.file).load()
    assert place.value("SELECT peer.identity()") == new.peer_id != place.file.load().peer_id
    place.run("identity", "rotate")
    assert place.file.load().peer_id == new.peer_id
    assert place.roles()[new.peer_id] == "admin"


def test_a_file_of_another_database_is_not_rotated(place: Place) -> None:
    place.value("SELECT peer_internal.set_identity(%s)", key_of("eve").public_key)
    assert "not the key of this database" in place.run("identity", "rotate", code=1)


def test_steps_of_a_rotation_on_disk_can_be_repeated(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path / "identity")
    old = file.create()
    with file.hold() as held:
        held.ledger.record(UUID(int=1), 1, 1, b"\1" * 32)
    new = prepare_next(file)
    assert prepare_next(file).peer_id == new.peer_id
    discard_next(file)
    assert not next_file(file).exists()
    new = prepare_next(file)
    os.link(
        file.path, file.path.with_name(f"identity.old-{old.peer_id[:11]}")
    )  # crashed after the first step
    retired = install_next(file)
    assert file.load().peer_id == new.peer_id
    assert IdentityFile(retired).load().peer_id == old.peer_id
    assert IdentityFile(retired).ledger_path.exists()
    assert not file.ledger_path.exists()
    with pytest.raises(IdentityError):
        install_next(file)


def test_friends_by_command(place: Place) -> None:
    bob = peer("bob")
    assert "not a peer id" in place.run("friend", "add", "bob", code=1)
    place.run("friend", "add", bob, "--note", "hello")
    (row,) = place.run("friend", "list", "--json")
    assert (row["peer_id"], row["state"], row["note"]) == (bob, "requested", "hello")
    assert "has not asked" in place.run("friend", "accept", bob, code=1)
    assert "only two friends" in place.run("friend", "introduce", bob, peer("cid"), code=1)
    place.run("friend", "block", bob)
    assert place.value("SELECT state FROM peer.friend") == "blocked"
    place.run("friend", "remove", bob)
    assert place.run("friend", "list", "--json") == []
