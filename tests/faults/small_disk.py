"""A folder on a small disk of its own, which can be filled without harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(kilobytes: int, mode: str) -> Iterator[Path]:
    """Mount a disk of this size and give its folder; skips the test, with the reason, where that is not possible."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only the superuser can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="pgpeer-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode={mode}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
