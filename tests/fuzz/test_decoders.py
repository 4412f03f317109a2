"""Bytes from outside give a value that stands for the same bytes, or one typed error, in bounded time and memory.

In the suite each decoder is searched with a fixed seed for a moment. `PGPEER_FUZZ_SECONDS` searches each one for so
long with a new seed, and keeps in `corpus/` what reached new code and in `found/` what broke a promise.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from random import Random, SystemRandom

import pytest

from .explorer import explore
from .keeping import CORPUS, FOUND, LARGEST_KEPT, keep, kept
from .targets import TARGETS

SECONDS = float(os.environ.get("PGPEER_FUZZ_SECONDS", "0"))
INPUTS = 300
"""So many inputs are tried in the suite."""

SLOWEST_SECONDS = 1.0
MEMORY_BYTES = 24 * 1024 * 1024
MEMORY_FACTOR = 64
"""Values in Python are larger than their bytes; `MEMORY_BYTES` is what a packed section may become freely."""

PACKED_TARGETS = ("packed", "session")


@pytest.mark.parametrize("name", TARGETS)
def test_every_sample_is_accepted(name: str) -> None:
    accepted = [TARGETS[name].try_it(data) for data in TARGETS[name].samples()]
    assert accepted.count(True) >= (len(accepted) + 1) // 2


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_is_decoded_or_refused_in_bounded_time_and_memory(name: str) -> None:
    target = TARGETS[name]
    inputs = target.samples() + kept(CORPUS, name) + kept(FOUND, name)
    assert kept(CORPUS, name), "a target has a corpus"
    for data in inputs:
        began = time.process_time()
        target.try_it(data)
        assert time.process_time() - began < SLOWEST_SECONDS
    free = MEMORY_BYTES if name in PACKED_TARGETS else 1024 * 1024
    for data in inputs:
        tracemalloc.start()
        target.try_it(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < free + MEMORY_FACTOR * len(data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(SECONDS + 300)
def test_no_input_that_the_search_finds_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]
    last = b""

    def run(data: bytes) -> None:
        nonlocal last
        last = data
        target.try_it(data)

    until = time.monotonic() + SECONDS
    random = Random(SystemRandom().getrandbits(64)) if SECONDS else Random(name)
    try:
        reached = explore(
            run,
            target.samples() + kept(CORPUS, name),
            target.words,
            random,
            lambda count: time.monotonic() < until if SECONDS else count < INPUTS,
        )
    except Exception:
        keep(FOUND, name, last)
        raise
    if SECONDS:
        for data in reached:
            if len(data) <= LARGEST_KEPT:
                keep(CORPUS, name, data)
