from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.commit.clock import hlc_to_unix_seconds, is_too_far_ahead, next_hlc
from pgpeer.commit.vector import VectorEntry, vector_digest
from pgpeer.errors import CommitError

milliseconds = st.integers(0, 2**46)


@given(st.lists(milliseconds, min_size=2, max_size=20))
def test_the_clock_rises_whatever_the_wall_clock_does(walls: list[int]) -> None:
    stamps = [0]
    for wall in walls:
        stamps.append(next_hlc(stamps[-1], wall))
    assert all(left < right for left, right in pairwise(stamps))
    assert hlc_to_unix_seconds(stamps[-1]) >= max(walls) / 1000


def test_a_fresh_millisecond_starts_its_counter_at_zero() -> None:
    assert next_hlc(5 << 16 | 9, 6) == 6 << 16
    assert next_hlc(5 << 16 | 9, 5) == 5 << 16 | 10
    assert hlc_to_unix_seconds(1_500 << 16 | 7) == 1.5


def test_a_stamp_is_too_far_ahead_beyond_the_limit_only() -> None:
    assert not is_too_far_ahead(300_000 << 16 | 0xFFFF, 0)
    assert is_too_far_ahead(300_001 << 16, 0)
    assert is_too_far_ahead(11 << 16, 0, limit_ms=10)


def entry(author: int = 1, epoch: int = 1, seq: int = 1, head: int = 1) -> VectorEntry:
    return VectorEntry(bytes([author]) * 32, epoch, seq, bytes([head]) * 32)


def test_the_order_of_entries_does_not_change_a_vectors_digest() -> None:
    assert vector_digest([entry(1), entry(2)]) == vector_digest([entry(2), entry(1), entry(2)])


@pytest.mark.parametrize("other", [entry(author=2), entry(epoch=2), entry(seq=2), entry(head=2)])
def test_every_part_of_an_entry_counts_in_the_digest(other: VectorEntry) -> None:
    assert vector_digest([entry()]) != vector_digest([other])
    assert vector_digest([entry()]) != vector_digest([entry(), other])


@pytest.mark.parametrize(
    ("author", "epoch", "seq", "head"),
    [
        (b"", 1, 1, b"h" * 32),
        (b"a" * 32, -1, 1, b"h" * 32),
        (b"a" * 32, 1, 2**63, b"h" * 32),
        (b"a" * 32, 1, 1, b"h"),
    ],
)
def test_an_entry_outside_its_limits_cannot_be_made(author: bytes, epoch: int, seq: int, head: bytes) -> None:
    with pytest.raises(CommitError):
        VectorEntry(author, epoch, seq, head)
