"""Builds laboratories; every test of this folder is skipped, with the reason, where that is not possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab, Nat, reason_to_skip

FULL = "PGPEER_TEST_NAT"


@pytest.fixture(scope="session")
def can_build() -> None:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def build(can_build: None, tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """A function `(nat, far=False) -> Lab`; what it builds is removed after the test."""
    built: list[Lab] = []

    def make(nat: Nat, far: bool = False) -> Lab:
        built.append(Lab(nat, tmp_path, far=far))
        return built[-1]

    yield make
    for lab in built:
        lab.close()


@pytest.fixture
def full() -> None:
    """The test belongs to the full set only: `make test-nat`."""
    if os.environ.get(FULL) != "full":
        pytest.skip(f"part of the full set: {FULL}=full (make test-nat)")
