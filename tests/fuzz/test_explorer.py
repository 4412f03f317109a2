"""The search itself: it finds what is hidden behind several steps, and bugs that are planted in a decoder."""

from __future__ import annotations

from random import Random

import pytest

from pgpeer.commit import dag_cbor

from .explorer import explore
from .targets import TARGETS


def search(name: str, inputs: int) -> list[bytes]:
    target = TARGETS[name]
    return explore(target.try_it, target.samples(), target.words, Random(1), lambda count: count < inputs)


def test_inputs_that_reach_new_code_are_kept() -> None:
    assert len(search("header", 200)) >= 5


def test_an_untyped_error_planted_in_the_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = dag_cbor.Reader._take

    def take(self: dag_cbor.Reader, size: int) -> bytes:
        if len(self._data) - self._position < size:
            raise IndexError("it ends too early")
        return honest(self, size)

    monkeypatch.setattr(dag_cbor.Reader, "_take", take)
    with pytest.raises(IndexError) as found:
        search("header", 3000)
    assert "the input was" in found.value.__notes__[0]


def test_a_second_form_of_a_value_planted_in_the_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def text(self: dag_cbor.Reader, limit: int) -> str:
        return self._take(self.length(dag_cbor.TEXT, limit)).decode("utf-8", "replace")

    monkeypatch.setattr(dag_cbor.Reader, "text", text)
    with pytest.raises(AssertionError):
        search("dag_cbor", 3000)
