from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder that the server's account can enter; pytest's own temporary folders are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="pgpeer-embedded-test-", dir=_memory_or_disk()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _memory_or_disk() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 else None
