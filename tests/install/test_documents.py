"""The commands that the documents tell a newcomer to type are commands that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pgpeer.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/quickstart.md", "docs/install.md", "docs/operations.md")


def lines(page: str) -> Iterator[str]:
    """The commands in code blocks and in backquotes, without comments, redirections and what runs before them."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^    (?:\S+=\S+ )*(pgpeer .*)$", text, re.MULTILINE)
    for found in [*blocks, *re.findall(r"`(pgpeer [^`]+)`", text)]:
        yield re.split(r"\s+#|\s*&\s*$|\s+>\s|\s{2,}prints", found)[0].strip()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_can_be_typed(page: str) -> None:
    commands = sorted(set(lines(page)))
    assert commands
    for line in commands:
        words = shlex.split(line.replace("…", "x"))[1:]
        command: Any = get_command(app)
        name = "pgpeer"
        while hasattr(command, "commands") and words:
            name = words.pop(0)
            assert name in command.commands, line
            command = command.commands[name]
        known = {word for option in command.params for word in option.opts + option.secondary_opts}
        given = {word.split("=")[0] for word in words if word.startswith("-")}
        assert given <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_do_not_mix_shell_and_sql(page: str) -> None:
    """A reader pastes a block as a whole. Comments within the README's `psql` lines are no SQL of the block."""
    for block in re.findall(r"(?:^    .*\n)+", (ROOT / page).read_text(), re.MULTILINE):
        shell = re.search(r"^    (?:pgpeer|psql|export|pip|make) ", block, re.MULTILINE)
        sql = re.search(r"^    (?:SELECT|UPDATE|INSERT|CREATE|ALTER|GRANT) ", block, re.MULTILINE)
        assert not (shell and sql), f"{page}:\n{block}"
