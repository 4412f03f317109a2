"""Every decoder of bytes from outside is a target: a new one fails here until it is."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from .keeping import CORPUS, kept
from .targets import TARGETS

ROOT = Path(__file__).resolve().parents[2] / "pgpeer"
ROOMS = ("channel", "commit", "identity", "protocol", "signaling", "transport")
BESIDE = tuple(ROOT / "worker" / name for name in ("registry.py", "addresses.py", "seeking.py"))
NAME = re.compile(r"(read|decode|parse|unpack|receive|open|take)(_\w+)?|readable|unpacked_size")
TAKES = re.compile(r"\b(bytes|str|object)\b")

FOR_PEOPLE_OR_FILES = {
    "PrivateKey.open": "a box of libsodium, which refuses what was not sealed for this key",
    "HubClient.open_circuit": "takes a peer id of this side",
    "Reach.take": "takes a link",
    "read_endpoint": "takes what people put into peer.config, which SQL has checked",
    "Registry.take": "takes records, each of which goes to `read_grant`",
}
"""Found by their name, and no decoders of what comes from outside."""


def _functions(path: Path) -> Iterator[tuple[str, str]]:
    """Name and first parameter's annotation of each function and method of a file."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [one for one in child.args.args if one.arg not in ("self", "cls")]
                annotations = [ast.unparse(one.annotation) for one in arguments if one.annotation]
                yield f"{prefix}{child.name}", " ".join(annotations)

    yield from visit(ast.parse(path.read_text()), "")


def decoders() -> dict[str, Path]:
    """Functions that by name and parameters read bytes or text."""
    files = [*BESIDE, *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
    return {
        name: path
        for path in files
        for name, annotations in _functions(path)
        if NAME.fullmatch(name.rpartition(".")[2]) and TAKES.search(annotations)
    }


def run_by_targets() -> set[str]:
    """Every function of pgpeer that some target reaches with what is kept."""
    reached: set[str] = set()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "/pgpeer/" in frame.f_code.co_filename:
            reached.add(frame.f_code.co_qualname)

    for name, target in TARGETS.items():
        inputs = target.samples() + kept(CORPUS, name)[:20]
        sys.setprofile(on_event)
        try:
            for data in inputs:
                target.try_it(data)
        finally:
            sys.setprofile(None)
    return reached


def test_every_decoder_is_reached_by_a_target() -> None:
    found = decoders()
    assert {"decode", "read_grant", "read_hello", "Header.decode", "Session.receive_frame"} <= set(found)
    missing = set(found) - run_by_targets() - set(FOR_PEOPLE_OR_FILES)
    assert missing == set(), {name: str(found[name].relative_to(ROOT)) for name in sorted(missing)}


def test_what_is_excused_exists() -> None:
    assert set(FOR_PEOPLE_OR_FILES) <= set(decoders())
