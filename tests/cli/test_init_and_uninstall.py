"""Preparing a database, and taking pgpeer out again."""

from __future__ import annotations

import stat
from pathlib import Path

import psycopg
import pytest
from cli.conftest import Run
from fixtures.databases import Database, Databases


def identity_of(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT peer.identity()").fetchone()
    assert row is not None
    return str(row[0])


def test_init_installs_and_makes_an_identity_file_that_only_its_owner_reads(
    run: Run, bare: str, state_directory: Path
) -> None:
    told = run("init", "--dsn", bare, "--hub", "ws://127.0.0.1:8765", "--label", "paris", "--json").json
    assert told["state"] == "installed"
    assert told["peer_id"] == identity_of(bare)
    assert told["hub"] == "ws://127.0.0.1:8765"
    (file,) = (path for path in state_directory.rglob("*") if path.is_file())
    assert str(file) == told["identity"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_init_again_changes_nothing_and_says_so(run: Run, bare: str) -> None:
    first = run("init", "--dsn", bare, "--json").json
    again = run("init", "--dsn", bare, "--json")
    assert again.code == 0
    assert again.json["state"] == "unchanged"
    assert again.json["peer_id"] == first["peer_id"]
    assert again.json["identity"] == first["identity"]
    assert "already installed" in run("init", "--dsn", bare).out


def test_two_databases_of_one_server_get_two_identities(run: Run, databases: Databases) -> None:
    told = []
    for _ in range(2):
        cluster, name = databases.bare()
        told.append(run("init", "--dsn", cluster.dsn(name), "--json").json)
        databases.drop_named(cluster, name)
    assert len({document["peer_id"] for document in told}) == 2
    assert len({document["identity"] for document in told}) == 2


def test_init_takes_a_named_identity_file_and_makes_it_when_it_is_missing(
    run: Run, bare: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys" / "paris"
    first = run("init", "--dsn", bare, "--identity", str(file), "--json").json
    assert file.is_file()
    assert run("init", "--dsn", bare, "--identity", str(file), "--json").json["peer_id"] == first["peer_id"]


def test_init_does_not_silently_make_another_peer_of_a_database_whose_key_is_elsewhere(
    run: Run, bare: str, tmp_path: Path
) -> None:
    first = run("init", "--dsn", bare, "--identity", str(tmp_path / "key"), "--json").json
    refused = run("init", "--dsn", bare)
    assert refused.code == 1
    assert first["peer_id"] in refused.err
    assert "--identity FILE" in refused.err
    assert identity_of(bare) == first["peer_id"]


def test_a_refused_init_leaves_no_identity_file_behind(run: Run, bare: str, state_directory: Path) -> None:
    refused = run("init", "--dsn", bare, "--hub", "http://example.org")
    assert refused.code == 1
    assert "is not the address of a hub" in refused.err
    assert [path for path in state_directory.rglob("*") if path.is_file()] == []


def test_an_unreachable_database_is_one_sentence_and_a_remedy(run: Run, tmp_path: Path) -> None:
    for command in (["init"], ["status", "atlas"], ["worker"], ["uninstall"]):
        outcome = run(*command, "--dsn", f"postgresql:///x?host={tmp_path}&port=1")
        assert outcome.code == 1
        assert outcome.out == ""
        assert outcome.err.startswith("error: The database cannot be reached: ")
        assert "remedy: Check --dsn or PGPEER_DSN" in outcome.err
        assert "Traceback" not in outcome.err


def test_without_an_address_the_usage_is_wrong(run: Run) -> None:
    outcome = run("status", "atlas")
    assert outcome.code == 2
    assert "PGPEER_DSN" in outcome.err


def test_the_address_may_come_from_the_environment(
    run: Run, cities: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPEER_DSN", cities.dsn)
    assert run("status", "--json").json == []


def test_commands_in_a_database_without_pgpeer_say_what_to_do(run: Run, bare: str) -> None:
    outcome = run("log", "atlas", "--dsn", bare)
    assert outcome.code == 1
    assert "pgpeer is not installed" in outcome.err
    assert "pgpeer init" in outcome.err


def test_uninstall_leaves_the_tables(run: Run, cities: Database) -> None:
    cities.close()
    told = run("uninstall", "--dsn", cities.dsn, "--json").json
    assert told == {"database": cities.name, "removed": True, "relations": ["public.city"]}
    with psycopg.connect(cities.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM public.city").fetchone() == (2,)
    assert "nothing was changed" in run("uninstall", "--dsn", cities.dsn, "--yes").out


@pytest.mark.parametrize("words", [["nonsense"], ["log", "--nonsense"], ["invite", "a", "--role", "king"]])
def test_wrong_usage_has_exit_code_2(run: Run, words: list[str]) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert "Usage:" in outcome.err
