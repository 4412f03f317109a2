"""Where inputs are kept: small files, named after the hash of what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"

LARGEST_KEPT = 2048


def kept(directory: Path, target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((directory / target).glob("*.bin"))]


def keep(directory: Path, target: str, data: bytes) -> Path:
    path = directory / target / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
