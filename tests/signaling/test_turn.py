"""TURN credentials, by the words of draft-uberti-behave-turn-rest-00, section 2.2."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from pgpeer.errors import ConfigError
from pgpeer.signaling.turn import TurnService


def test_the_name_is_expiry_and_peer_and_the_password_its_keyed_hash() -> None:
    offer = TurnService(("turn:turn.example:3478",), b"north").offer(5, "pg1peer", 1_433_895_918.7, 3600)
    assert (offer.request, offer.urls, offer.ttl_seconds) == (5, ("turn:turn.example:3478",), 3600)
    assert offer.username == "1433899518:pg1peer"
    assert base64.b64decode(offer.credential) == hmac.digest(b"north", offer.username.encode(), hashlib.sha1)


def test_a_known_answer() -> None:
    """Computed once with `printf %s 1433899518:pg1peer | openssl dgst -sha1 -hmac north -binary | base64`."""
    offer = TurnService(("turn:t",), b"north").offer(1, "pg1peer", 1_433_895_918, 3600)
    assert offer.credential == "52WAAfV8CbqkOsQBY8YEbtTFKq8="


@pytest.mark.parametrize(
    ("urls", "secret"),
    [
        ((), b"s"),
        (("http://t",), b"s"),
        (("turn:t",), b""),
        (("turn:t",) * 17, b"s"),
        (("turn:" + "t" * 600,), b"s"),
    ],
)
def test_a_service_that_cannot_work_is_refused(urls: tuple[str, ...], secret: bytes) -> None:
    with pytest.raises(ConfigError):
        TurnService(urls, secret)
