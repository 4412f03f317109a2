"""How long a peer is left alone after it refused, was overloaded, or was not reached."""

from __future__ import annotations

from random import Random

import pytest

from pgpeer.worker.budget import HOLD_SECONDS, REST_SECONDS
from pgpeer.worker.contacts import GRACE_SECONDS, REFUSED_SECONDS, Contact
from pgpeer.worker.places import OVERLOADED


def pauses(
    contact: Contact, *, mutual: bool = False, joining: bool = False, second: bool = False
) -> list[float]:
    return [
        contact.pause_seconds(
            Random(seed), longest=30.0, is_mutual=mutual, is_joining=joining, is_second=second
        )
        for seed in range(50)
    ]


def test_the_first_try_is_made_at_once_by_one_side() -> None:
    assert max(pauses(Contact(), mutual=True)) <= 0.05
    assert min(pauses(Contact(), mutual=True, second=True)) >= GRACE_SECONDS
    assert max(pauses(Contact(), second=True)) <= 0.05
    assert max(pauses(Contact(failures=99))) <= 30.0


@pytest.mark.parametrize(
    ("failures", "rest"), [(0, HOLD_SECONDS), (1, HOLD_SECONDS), (3, 30.0), (99, REST_SECONDS)]
)
def test_a_peer_without_a_place_is_left_alone_for_a_while(failures: int, rest: float) -> None:
    found = pauses(Contact(failures=failures, refusal=OVERLOADED), mutual=True)
    assert rest <= min(found) <= max(found) <= 1.5 * rest
    assert max(pauses(Contact(failures=failures, refusal=OVERLOADED), joining=True)) <= 30.0


def test_a_friend_that_refuses_is_asked_seldom_and_a_member_is_not() -> None:
    refused = Contact(failures=1, refusal="refused_policy")
    assert min(pauses(refused)) >= 0.75 * REFUSED_SECONDS
    assert max(pauses(refused, mutual=True)) < 30.0
