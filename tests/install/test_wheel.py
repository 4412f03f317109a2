"""A wheel installed outside the checkout brings its SQL files and migrations along."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import Databases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory)]
    if find_spec("hatchling") is not None:
        command.append("--no-build-isolation")
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (found,) = directory.glob("pgpeer-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a virtual environment with the wheel; other packages come from the present one."""
    environment = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-index", str(wheel)], check=True, capture_output=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (own / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return environment / "bin"


def test_the_wheel_holds_every_sql_file_and_migration_and_no_package_named_alembic(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("sql", "alembic"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".sql", ".py", ".txt", ".mako", ".control"}:
                assert f"pgpeer/store/{path.relative_to(ROOT)}" in names
    assert not [name for name in names if name.startswith(("alembic/", "sql/", "tests/"))]
    assert not [name for name in names if "__pycache__" in name]


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Both by the build back end itself, so that nothing has to be fetched."""
    pytest.importorskip("hatchling")
    build = "import sys, hatchling.build as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"

    def made(kind: str, where: Path) -> Path:
        command = [sys.executable, "-c", build, kind, str(tmp_path)]
        result = subprocess.run(command, cwd=where, check=True, capture_output=True, text=True)
        return tmp_path / result.stdout.split()[-1]

    with tarfile.open(made("sdist", ROOT)) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = made("wheel", source)
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_an_installed_wheel_hands_out_the_extension_and_the_plain_file(
    installed: Path, databases: Databases, tmp_path: Path
) -> None:
    pgpeer = str(installed / "pgpeer")
    written = subprocess.run(
        [pgpeer, "init", "--write-extension", str(tmp_path / "extension"), "--json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(json.loads(written.stdout)["files"]) == len(list((tmp_path / "extension").iterdir())) >= 2
    text = subprocess.run(
        [pgpeer, "init", "--print-sql"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    cluster, name = databases.bare()
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute(text.encode())
        assert connection.execute("SELECT count(*) FROM peer.config").fetchone() == (1,)
    databases.drop_named(cluster, name)


def test_an_installed_wheel_initialises_a_database_by_its_command(
    installed: Path, databases: Databases, tmp_path: Path
) -> None:
    cluster, name = databases.bare()
    arguments = ["init", "--dsn", cluster.dsn(name), "--identity", str(tmp_path / "key"), "--json"]
    result = subprocess.run(
        [str(installed / "pgpeer"), *arguments], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    with psycopg.connect(cluster.dsn(name)) as connection:
        assert connection.execute("SELECT peer.identity()").fetchone() == (told["peer_id"],)
    code = "import pgpeer.store.sources as s; print(s.sql_directory(), s.migration_directory())"
    where = subprocess.run(
        [str(installed / "python"), "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert all(str(installed.parent) in path for path in where.stdout.split())
    databases.drop_named(cluster, name)


@pytest.mark.slow
def test_an_installed_wheel_shows_the_demo(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [str(installed / "pgpeer"), "demo", "--small"],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-3000:]
