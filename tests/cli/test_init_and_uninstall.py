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


def test_init_does_not_silently_make_a_copy_bear_the_identity_of_the_original(
    run: Run, databases: Databases, tmp_path: Path
) -> None:
    cluster, name = databases.bare()
    original = cluster.dsn(name)
    first = run("init", "--dsn", original, "--json").json
    copy = f"{name}_copy"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"'.encode())
    refused = run("init", "--dsn", cluster.dsn(copy))
    assert refused.code == 1
    assert f"The database {copy} is a copy of another one" in refused.err
    assert first["peer_id"] in refused.err
    assert "--identity NEWFILE" in refused.err
    other = run("init", "--dsn", cluster.dsn(copy), "--identity", str(tmp_path / "new"), "--json").json
    assert other["peer_id"] != first["peer_id"]
    assert run("init", "--dsn", original, "--json").json["peer_id"] == first["peer_id"]
    for each in (name, copy):
        databases.drop_named(cluster, each)


def test_init_prints_sql_that_needs_no_database_to_be_named(run: Run, bare: str) -> None:
    text = run("init", "--print-sql")
    assert text.code == 0
    assert text.out == run("init", "--print-sql", "--json").json["sql"]
    with psycopg.connect(bare, autocommit=True) as connection:
        connection.execute(text.out.encode())
    assert run("init", "--dsn", bare, "--json").json["state"] == "unchanged"


def test_init_writes_the_files_of_the_extension(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "share" / "extension"
    outcome = run("init", "--write-extension", str(folder))
    assert outcome.code == 0
    assert sorted(outcome.out.split()) == sorted(
        word for path in folder.iterdir() for word in ("Wrote", f"{path}.")
    )
    both = run("init", "--write-extension", str(folder), "--print-sql")
    assert both.code == 2


def test_init_as_an_extension_that_the_server_lacks_says_what_to_do(
    run: Run, bare: str, state_directory: Path
) -> None:
    refused = run("init", "--dsn", bare, "--extension")
    assert refused.code == 1
    assert "has no files of the extension" in refused.err
    assert "--write-extension" in refused.err
    assert [path for path in state_directory.rglob("*") if path.is_file()] == []


def test_init_as_an_extension_where_it_is_none_is_refused(run: Run, bare: str) -> None:
    run("init", "--dsn", bare)
    refused = run("init", "--dsn", bare, "--extension")
    assert refused.code == 1
    assert "not as an extension" in refused.err


@pytest.mark.parametrize("label", ["", "x" * 201])
def test_a_label_that_cannot_be_one_is_refused(run: Run, bare: str, label: str) -> None:
    refused = run("init", "--dsn", bare, "--label", label)
    assert refused.code == 1
    assert "A label has 1 to 200 characters" in refused.err


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
