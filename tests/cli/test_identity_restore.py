"""A lost identity file comes back from the copy that `pgpeer identity backup` made."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.conftest import Run
from fixtures.databases import Database

from pgpeer.identity.keyfile import IdentityFile

EPOCH = "SELECT epoch FROM peer_internal.identity"


@pytest.fixture
def copy(run: Run, cities: Database, tmp_path: Path) -> Path:
    """A backup of the identity file, which itself is lost then."""
    lost = IdentityFile(tmp_path / "lost")
    lost.create(cities.key)
    path = tmp_path / "safe" / "copy"
    assert run("identity", "backup", str(path), "--dsn", cities.dsn, "--identity", str(lost.path)).code == 0
    lost.path.unlink()
    return path


def test_the_copy_is_put_where_the_worker_looks_and_a_new_epoch_begins(
    run: Run, cities: Database, copy: Path, state_directory: Path
) -> None:
    before = cities.connect().execute(EPOCH).fetchone()
    lost = run("identity", "show", "--dsn", cities.dsn)
    assert lost.code == 1
    assert "pgpeer identity restore" in lost.err
    told = run("identity", "restore", str(copy), "--dsn", cities.dsn, "--json").json
    restored = IdentityFile(Path(told["identity"]))
    assert restored.path.is_relative_to(state_directory)
    assert restored.path.stat().st_mode & 0o777 == 0o600
    assert restored.load().peer_id == told["peer_id"] == cities.peer_id
    assert cities.connect().execute(EPOCH).fetchone() != before
    assert run("identity", "show", "--dsn", cities.dsn, "--json").json["is_in_use"]


def test_what_is_there_is_not_overwritten(run: Run, cities: Database, copy: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    IdentityFile(here).create(cities.key)
    before = cities.connect().execute(EPOCH).fetchone()
    refused = run("identity", "restore", str(copy), "--dsn", cities.dsn, "--identity", str(here))
    assert refused.code == 1
    assert "exists already" in refused.err
    assert cities.connect().execute(EPOCH).fetchone() == before


def test_a_copy_of_another_peer_and_a_running_worker_are_refused(
    run: Run, cities: Database, copy: Path, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    IdentityFile(stranger).create()
    refused = run("identity", "restore", str(stranger), "--dsn", cities.dsn)
    assert refused.code == 1
    assert "the database is " + cities.peer_id in refused.err
    assert cities.connect().execute("SELECT peer_internal.try_worker_lock()").fetchone() == (True,)
    refused = run("identity", "restore", str(copy), "--dsn", cities.dsn)
    assert refused.code == 1
    assert "A worker runs" in refused.err
    copy.chmod(0o644)
    assert "chmod 600" in run("identity", "restore", str(copy), "--dsn", cities.dsn).err
