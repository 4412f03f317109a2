"""Churn as it was asked for: 20 peers join, leave, crash and move for 10 virtual minutes (tests/transport/test_churn.py
is the short form, and runs several seeds under the deep profile), and a fault that is planted is found by it."""

from __future__ import annotations

import pytest
import test_churn as short
from virtual_time import in_virtual_time

from pgpeer.transport.contact import Contact
from pgpeer.transport.reach import Reach


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_churn_of_twenty_peers_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "PEERS", 20)
    monkeypatch.setattr(short, "MINUTES", 10)
    in_virtual_time(short.churn)(11)


def forget_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that breaks is not replaced."""
    monkeypatch.setattr(Contact, "path_gone", lambda *_, **__: None)


def forget_who_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that others open are lost."""
    monkeypatch.setattr(Reach, "_join", lambda *_: None)


@pytest.mark.parametrize("plant", [forget_to_try_again, forget_who_came])
def test_a_planted_fault_is_found_by_the_churn(plant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(plant)
    plant(monkeypatch)
    monkeypatch.setattr(short, "PEERS", 6)
    monkeypatch.setattr(short, "MINUTES", 3)
    with pytest.raises(AssertionError, match="lacks"):
        in_virtual_time(short.churn)(1)
