"""Sections are packed when it helps, and cannot be made to take too much memory when they are unpacked."""

import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits
from pgpeer.protocol.packing import Packer, allowed_size


@given(st.binary(max_size=50), st.integers(0, 2000))
def test_unpacking_gives_the_same_bytes_again(part: bytes, times: int) -> None:
    packer = Packer()
    packed, content = packer.pack(part * times)
    assert len(content) <= len(part * times)
    assert (packer.unpack(content) if packed else content) == part * times


def test_rows_are_packed_and_noise_is_not() -> None:
    packer = Packer()
    rows = "".join(f"{number}\tAmsterdam\t2026-11-21\t\\N\n" for number in range(1000)).encode()
    packed, content = packer.pack(rows)
    assert packed
    assert len(content) < len(rows) / 5
    noise = random.Random(1).randbytes(10_000)
    assert packer.pack(noise) == (False, noise)


def test_data_that_packs_above_the_allowed_ratio_is_sent_as_it_is() -> None:
    zeros = bytes(limits.FREE_RATIO_BYTES + 1)
    assert Packer().pack(zeros) == (False, zeros)
    assert Packer().pack(zeros[1:])[0]


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 * 1024 * 1024))
    assert allowed_size(len(bomb)) < 64 * 1024 * 1024
    packer = Packer()
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError) as refused:
        packer.unpack(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.code == "too_large"
    assert peak < 1_000_000


def test_no_section_unpacks_to_more_than_the_limit() -> None:
    assert allowed_size(10**9) == limits.MAX_SECTION_BYTES


def test_packed_data_that_does_not_tell_its_size_is_refused() -> None:
    untold = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(RemoteProtocolError):
        Packer().unpack(untold)


def test_anything_after_the_packed_data_is_refused() -> None:
    _, content = Packer().pack(bytes(1000))
    with pytest.raises(RemoteProtocolError):
        Packer().unpack(content + b"x")


@given(st.binary(max_size=200))
def test_bytes_that_are_not_packed_are_refused_by_one_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Packer().unpack(data)


@given(st.integers(0, 2**32), st.integers(0, 255))
def test_changed_packed_data_is_refused_or_has_the_size_it_says(place: int, value: int) -> None:
    packer = Packer()
    changed = bytearray(packer.pack(b"0123456789abcdef" * 100)[1])
    changed[place % len(changed)] = value
    try:
        data = packer.unpack(bytes(changed))
    except RemoteProtocolError:
        return
    assert len(data) == zstandard.get_frame_parameters(bytes(changed)).content_size
