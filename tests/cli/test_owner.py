"""`pgpeer owner`: one key for the databases of one person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Run
from fixtures.databases import Database

from pgpeer.identity.keyfile import IdentityFile, OwnerFile

MakeDatabase = Callable[..., Database]


@pytest.fixture
def key(run: Run, tmp_path: Path) -> str:
    path = tmp_path / "safe" / "owner.key"
    assert run("owner", "create", str(path)).code == 0
    return str(path)


def test_the_key_is_made_once_and_for_its_maker_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    made = run("owner", "create", str(path), "--json").json
    assert made == {"owner": OwnerFile(path).load().peer_id, "file": str(path)}
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    refused = run("owner", "create", str(path))
    assert refused.code == 1
    assert "exists already" in refused.err
    assert path.read_bytes() == before


def test_a_database_is_adopted_shown_and_disowned(run: Run, database: Database, key: str) -> None:
    assert "has no owner" in run("owner", "show", "--dsn", database.dsn).out
    told = run("owner", "adopt", "--owner", key, "--dsn", database.dsn, "--json").json
    owner = OwnerFile(Path(key)).load().peer_id
    assert (told["owner"], told["peer_id"], told["is_revoked"]) == (owner, database.peer_id, False)
    shown = run("owner", "show", "--dsn", database.dsn, "--json").json
    assert shown["owner"] == owner
    assert [(one["peer_id"], one["state"]) for one in shown["devices"]] == [(database.peer_id, "here")]
    table = run("owner", "show", "--dsn", database.dsn).out
    assert owner in table
    assert database.peer_id in table
    again = run("owner", "adopt", "--owner", key, "--dsn", database.dsn, "--json").json
    assert again["seq"] > told["seq"]
    assert owner in run("owner", "disown", "--dsn", database.dsn).out
    assert run("owner", "disown", "--dsn", database.dsn, "--json").json == {"owner": None}
    assert "has no owner" in run("owner", "show", "--dsn", database.dsn).out


def test_a_device_that_was_revoked_is_adopted_again_by_the_owner_only(
    run: Run, database: Database, key: str
) -> None:
    run("owner", "adopt", "--owner", key, "--dsn", database.dsn)
    revoked = run("owner", "revoke", database.peer_id, "--owner", key, "--dsn", database.dsn, "--json").json
    assert revoked["is_revoked"]
    shown = run("owner", "show", "--dsn", database.dsn, "--json").json
    assert [one["state"] for one in shown["devices"]] == ["revoked"]
    again = run("owner", "adopt", "--owner", key, "--dsn", database.dsn, "--json").json
    assert again["seq"] > revoked["seq"]
    shown = run("owner", "show", "--dsn", database.dsn, "--json").json
    assert [one["state"] for one in shown["devices"]] == ["here"]


def test_another_owner_is_refused_until_the_first_is_forgotten(
    run: Run, database: Database, key: str, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.key")
    run("owner", "create", other)
    run("owner", "adopt", "--owner", key, "--dsn", database.dsn)
    refused = run("owner", "adopt", "--owner", other, "--dsn", database.dsn)
    assert refused.code == 1
    assert "another owner" in refused.err
    assert "pgpeer owner disown" in refused.err
    refused = run("owner", "revoke", database.peer_id, "--owner", other, "--dsn", database.dsn)
    assert refused.code == 1
    assert "no device of owner" in refused.err
    states = database.connect().execute("SELECT state FROM peer.device").fetchall()
    assert states == [("here",)]
    run("owner", "disown", "--dsn", database.dsn)
    assert run("owner", "adopt", "--owner", other, "--dsn", database.dsn).code == 0


def test_what_cannot_be_an_owner_or_a_device_is_refused_with_a_remedy(
    run: Run, database: Database, key: str, tmp_path: Path
) -> None:
    missing = run("owner", "adopt", "--owner", str(tmp_path / "none"), "--dsn", database.dsn)
    assert missing.code == 1
    assert "pgpeer owner create" in missing.err
    identity = tmp_path / "identity"
    IdentityFile(identity).create()
    assert (
        "no usable pgpeer owner" in run("owner", "adopt", "--owner", str(identity), "--dsn", database.dsn).err
    )
    itself = tmp_path / "itself"
    OwnerFile(itself).create(database.key)
    refused = run("owner", "adopt", "--owner", str(itself), "--dsn", database.dsn)
    assert refused.code == 1
    assert "the key of this very database" in refused.err
    assert run("owner", "show", "--dsn", database.dsn, "--json").json["owner"] is None
    run("owner", "adopt", "--owner", key, "--dsn", database.dsn)
    mistyped = run("owner", "revoke", database.peer_id[:-1], "--owner", key, "--dsn", database.dsn)
    assert mistyped.code == 1
    Path(key).chmod(0o644)
    assert "chmod 600" in run("owner", "adopt", "--owner", key, "--dsn", database.dsn).err
