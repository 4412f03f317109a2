"""`pgpeer hub` as a process, and the drawing of histories."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from cli.conftest import Run, start

from pgpeer.cli.graph import Glyphs, graph_lines


def test_the_hub_says_where_it_serves_and_ends_well_on_sigterm() -> None:
    process = start("hub", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    word, url = process.stdout.readline().split()
    assert word == "ready"
    assert url.startswith("ws://127.0.0.1:")
    with urllib.request.urlopen(url.replace("ws://", "http://") + "/healthz", timeout=5) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_hub_that_shall_end_with_its_parent_does() -> None:
    command = [sys.executable, "-m", "pgpeer.cli", "hub", "--listen", "127.0.0.1:0", "--with-parent"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("address", ["here", "127.0.0.1:", "127.0.0.1:99999", ":8765", "127.0.0.1:-1"])
def test_a_hub_refuses_what_is_no_address(run: Run, address: str) -> None:
    outcome = run("hub", "--listen", address)
    assert outcome.code == 1
    assert "is not an address to listen at" in outcome.err


def test_a_hub_refuses_an_address_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start("hub", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "cannot listen" in err
    assert "Traceback" not in err


def test_a_straight_history_is_a_straight_line() -> None:
    lines = list(graph_lines([("b", ["a"], "second"), ("a", [], "first")], Glyphs.plain()))
    assert lines == ["*  second", "*  first"]


def test_branches_leave_and_meet_again() -> None:
    commits = [("m", ["x", "y"], "m"), ("x", ["r"], "x"), ("y", ["r"], "y"), ("r", [], "r")]
    assert list(graph_lines(commits, Glyphs())) == [
        "●  m",
        "├─╮",
        "● │  x",
        "│ ●  y",
        "├─╯",
        "●  r",
    ]


def test_lines_that_cross_others_are_drawn_as_crossings() -> None:
    commits = [
        ("m", ["a", "b", "c"], "m"),
        ("a", ["r"], "a"),
        ("c", ["r"], "c"),
        ("b", ["s"], "b"),
        ("r", [], "r"),
        ("s", [], "s"),
    ]
    assert list(graph_lines(commits, Glyphs.plain())) == [
        "*  m",
        "|-.-.",
        "* | |  a",
        "| | *  c",
        "| * |  b",
        "|-+-'",
        "* |  r",
        "  *  s",
    ]


def test_two_heads_stand_beside_each_other() -> None:
    commits = [("b", ["r"], "b"), ("a", ["r"], "a"), ("r", [], "r")]
    assert list(graph_lines(commits, Glyphs.plain())) == ["*  b", "| *  a", "|-'", "*  r"]
