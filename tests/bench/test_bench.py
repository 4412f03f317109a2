"""The bench runs and prints what it promises. What the figures are worth, only a long run on a quiet machine tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.databases import server_root

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--quick", "--rows", "200", "--repetitions", "1")


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A folder that the servers' account may enter; it must be empty again in the end."""
    root, _ = server_root()
    directory = root / f"pgpeer-bench-test-{os.getpid()}"
    directory.mkdir(mode=0o755)
    yield directory
    directory.rmdir()


def run(*words: str, data_directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        env={**os.environ, "PGPEER_DATA_DIRECTORY": str(data_directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_capture_section_prints_a_positive_figure_for_each_kind_of_statement_and_cleans_up(
    data_directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    done = run("capture", *TINY, "--json", str(file), data_directory=data_directory)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    figures = {figure["name"].split()[0]: figure for figure in document["figures"]}
    assert sorted(figures) == ["COPY", "DELETE", "INSERT", "UPDATE"]
    assert document["failures"] == {}
    for op, figure in figures.items():
        assert min(figure["median"], figure["reference_median"], figure["ratio"]) > 0
        assert figure["ratio"] == pytest.approx(figure["median"] / figure["reference_median"])
        (line,) = re.findall(rf"^\| {op} .*$", done.stdout, re.MULTILINE)
        assert figure["reach"] in line
        assert "untracked" in line


def test_the_seal_and_merge_sections_print_positive_rates(data_directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("seal", "merge", *TINY, "--json", str(file), data_directory=data_directory)
    assert done.returncode == 0, done.stdout + done.stderr
    rates = [figure for figure in json.loads(file.read_text())["figures"] if figure["unit"] == "rows/s"]
    assert [figure["name"].split()[0] for figure in rates] == ["seal"] * 3 + ["merge"] * 3 + ["store"] * 3
    assert all(figure["median"] > 0 for figure in rates)


def test_a_section_that_does_not_exist_is_refused_before_anything_starts(data_directory: Path) -> None:
    done = run("captures", data_directory=data_directory)
    assert done.returncode == 2
    assert "there is no section 'captures'" in done.stderr
