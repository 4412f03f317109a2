"""Bundles, tracking, commits and what was committed, by command."""

from __future__ import annotations

import pytest
from cli.conftest import Run
from fixtures.databases import Database

LOG_KEYS = [
    "commit_id", "author", "author_label", "seq", "committed_at", "message", "parents", "row_count", "signed"
]  # fmt: skip
CHANGE_KEYS = ["relation", "key", "operation", "column_name", "old_value", "new_value"]


def test_a_bundle_is_created_filled_and_listed(run: Run, database: Database) -> None:
    database.connect().execute("CREATE TABLE public.city (id int PRIMARY KEY, name text)")
    database.connect().execute("CREATE TABLE public.hill (id int PRIMARY KEY, metres int)")
    at = ["--dsn", database.dsn]
    created = run("bundle", "create", "atlas", "--commit-mode", "manual", *at, "--json").json
    assert list(created) == ["create_bundle"]
    assert run("track", "atlas", "public.city", "hill", *at).out == "Tracked public.city.\nTracked hill.\n"
    (listed,) = run("bundle", "list", *at, "--json").json
    assert listed["bundle_id"] == created["create_bundle"]
    assert listed["relations"] == ["city", "hill"]
    assert listed["commits"] == 2
    assert "atlas" in run("bundle", "list", *at).out
    assert run("untrack", "hill", *at).code == 0
    assert run("bundle", "list", *at, "--json").json[0]["relations"] == ["city"]


def test_track_takes_all_tables_or_none(run: Run, database: Database) -> None:
    database.connect().execute("CREATE TABLE public.city (id int PRIMARY KEY)")
    at = ["--dsn", database.dsn]
    run("bundle", "create", "atlas", *at)
    database.connect().execute("CREATE TABLE public.keyless (id int)")
    refused = run("track", "atlas", "city", "keyless", *at)
    assert refused.code == 1
    assert "has no primary key" in refused.err
    assert "remedy:" in refused.err
    assert run("bundle", "list", *at, "--json").json[0]["relations"] == []


def test_refusals_of_the_database_show_message_detail_and_hint(run: Run, cities: Database) -> None:
    outcome = run("status", "nowhere", "--dsn", cities.dsn)
    assert outcome.code == 1
    assert outcome.err == (
        "error: there is no bundle named 'nowhere'. Bundles here: 'atlas'.\n"
        "remedy: Create it with SELECT peer.create_bundle(…), or join one with SELECT peer.join(…).\n"
    )


def test_an_unknown_table_is_refused_by_name(run: Run, cities: Database) -> None:
    outcome = run("track", "atlas", "nowhere", "--dsn", cities.dsn)
    assert outcome.code == 1
    assert '"nowhere" does not exist' in outcome.err


def test_changes_show_in_status_and_diff_until_they_are_committed(run: Run, cities: Database) -> None:
    at = ["--dsn", cities.dsn]
    cities.connect().execute("UPDATE public.city SET people = 135000 WHERE id = 1")
    cities.connect().execute("DELETE FROM public.city WHERE id = 2")
    status = run("status", "atlas", *at, "--json").json
    assert list(status[0]) == ["relation", "key", "operation", "columns", "staged"]
    assert [(row["operation"], row["key"], row["columns"]) for row in status] == [
        ("UPDATE", {"id": 1}, ["people"]),
        ("DELETE", {"id": 2}, []),
    ]
    diff = run("diff", "atlas", *at, "--json").json
    assert list(diff[0]) == CHANGE_KEYS
    assert (diff[0]["old_value"], diff[0]["new_value"]) == (134000, 135000)
    people = run("diff", *at).out
    assert '~ city {"id": 1}\n    people: 134000 → 135000\n' in people
    assert '- city {"id": 2}\n    name: "Zürich"\n' in people

    commit = run("commit", "atlas", "-m", "census", *at, "--json").json
    assert list(commit) == ["commit"]
    assert run("status", "atlas", *at, "--json").json == []
    assert "HEAD and WORKING are equal" in run("diff", *at).out
    assert run("show", "atlas", commit["commit"][:20], *at, "--json").json == diff
    shown = run("show", "atlas", *at).out
    assert shown.startswith(f"commit   {commit['commit']}\n")
    assert "    census\n" in shown
    assert people in shown


def test_a_commit_of_nothing_is_null_and_says_so(run: Run, cities: Database) -> None:
    at = ["--dsn", cities.dsn]
    assert run("commit", "atlas", *at, "--json").json == {"commit": None}
    assert run("commit", *at).out == "Nothing has changed in atlas.\n"


def test_the_log_is_newest_first_and_every_column_of_the_contract_is_in_its_json(
    run: Run, cities: Database
) -> None:
    at = ["--dsn", cities.dsn]
    cities.connect().execute("UPDATE public.city SET people = 1")
    commit = run("commit", "atlas", "--message", "one\ntwo", *at).out.strip()
    log = run("log", "atlas", *at, "--json").json
    assert list(log[0]) == LOG_KEYS
    assert log[0]["commit_id"] == commit
    assert log[0]["parents"] == [log[1]["commit_id"]]
    assert run("log", "--limit", "1", *at, "--json").json == log[:1]
    table = run("log", "atlas", *at).out
    assert commit.removeprefix("bafyrei")[:12] in table
    assert "two" not in table
    drawn = run("log", "--graph", *at).out.splitlines()
    assert len(drawn) == 2
    assert all(line[0] in "●*" for line in drawn)


def test_a_bundle_need_not_be_named_when_there_is_only_one(run: Run, cities: Database) -> None:
    at = ["--dsn", cities.dsn]
    assert run("log", *at).code == 0
    run("bundle", "create", "second", *at)
    refused = run("log", *at)
    assert refused.code == 1
    assert "atlas, second" in refused.err


def test_conflicts_of_an_unknown_bundle_are_refused_and_of_a_quiet_one_are_none(
    run: Run, cities: Database
) -> None:
    assert run("conflicts", "--dsn", cities.dsn).out == "There are no conflicts.\n"
    assert run("conflicts", "atlas", "--dsn", cities.dsn, "--json").json == []
    assert run("conflicts", "nowhere", "--dsn", cities.dsn).code == 1


def test_resolve_refuses_what_it_cannot_do(run: Run, cities: Database) -> None:
    at = ["--dsn", cities.dsn]
    assert run("resolve", "abc", "perhaps", *at).code == 2
    assert run("resolve", "abc", "value", *at).code == 2
    assert run("resolve", "abc", "value", "--value", "{", *at).code == 1
    assert run("resolve", "abc", "winner", *at).code == 1


@pytest.mark.parametrize("damage", ["row", "section", "signature"])
def test_verify_finds_damage_and_passes_what_is_sound(run: Run, cities: Database, damage: str) -> None:
    at = ["--dsn", cities.dsn]
    connection = cities.connect()
    connection.execute("UPDATE public.city SET people = 7 WHERE id = 1")  # uncommitted: left out
    sound = run("verify", *at, "--json")
    assert sound.code == 0
    assert sound.json["ok"]
    assert [(row["rows"], row["uncommitted"]) for row in sound.json["relations"]] == [(1, 1)]
    connection.execute("SET session_replication_role = replica")
    if damage == "row":
        connection.execute("UPDATE public.city SET name = 'Zurich' WHERE id = 2")
    elif damage == "section":
        connection.execute("UPDATE peer_internal.section SET data = data || 'x' WHERE op = 'INSERT'")
    else:
        connection.execute("UPDATE peer_internal.commit SET signature = decode(repeat('00', 64), 'hex')")
    damaged = run("verify", "atlas", *at)
    assert damaged.code == 1
    assert "damaged" in damaged.out
    assert "remedy:" in damaged.err
    if damage == "row":
        assert "is different in the table" in damaged.err
