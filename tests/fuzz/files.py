"""Targets that are files beside the worker: a damaged one is refused by one error, never half believed."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from uuid import UUID

from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.ledger import SignatureLedger

from .samples import KEY


def identity_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "identity.json"
        path.write_bytes(data)
        os.chmod(path, 0o600)
        key = IdentityFile(path).load()
    assert key.peer_id.encode() in data


def identity_samples() -> list[bytes]:
    document = {"kind": "pgpeer identity", "version": 1, "peer_id": KEY.peer_id, "seed": KEY.seed.hex()}
    return [json.dumps(document).encode()]


def ledger_file(data: bytes) -> None:
    """Lines get a good check sum, so that what stands behind it is tried too."""
    content = b"".join(f"{zlib.crc32(line):08x} ".encode() + line + b"\n" for line in data.split(b"\n"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger"
        for written in (content, data):
            path.write_bytes(written)
            with_checksums = SignatureLedger(path)
            with_checksums.close()
            again = path.read_bytes()
            SignatureLedger(path).close()
            assert path.read_bytes() == again


def ledger_samples() -> list[bytes]:
    record = [[str(UUID(int=7)), 1, 1, "00" * 32], [str(UUID(int=7)), 1, 2, "11" * 32]]
    line = json.dumps(record, separators=(",", ":")).encode()
    return [line, line + b"\n" + json.dumps([[str(UUID(int=8)), 2, 9, "22" * 32]]).encode()]
