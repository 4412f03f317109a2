"""`import pgpeer` loads nothing heavy; the names of the contract come when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pgpeer


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_pgpeer_loads_no_other_package() -> None:
    shown = run(
        "import sys; before = set(sys.modules); import pgpeer;"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('_')))"
    )
    packages = {name.partition(".")[0] for name in shown.split()}
    assert packages - {"pgpeer"} <= sys.stdlib_module_names
    assert [name for name in shown.split() if name.startswith("pgpeer.")] == []
    assert "asyncio" not in shown.split()


def test_the_names_of_the_contract_are_there() -> None:
    shown = run(
        "import pgpeer; from pgpeer import PeerConnectionManager, PeerConnection;"
        "print(PeerConnectionManager.__module__, PeerConnection.__name__, pgpeer.PeerInfo.__name__)"
    )
    assert shown.split() == ["pgpeer.client.peers", "PeerConnection", "PeerInfo"]
    assert {"PeerConnectionManager", "PeerConnection", "__version__"} <= set(dir(pgpeer))


def test_a_program_does_not_load_the_network_engines() -> None:
    shown = run("import sys; from pgpeer import PeerConnectionManager; print(*sorted(sys.modules))")
    assert not {"aiortc", "websockets", "sqlalchemy", "typer", "av"} & set(shown.split())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Peer'"):
        pgpeer.Peer  # noqa: B018
