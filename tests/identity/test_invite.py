import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.errors import InviteError
from pgpeer.identity.invite import LINK_PREFIX, Invite, parse_invite
from pgpeer.identity.key import PrivateKey

INVITE = Invite(
    invite_id=UUID(int=1),
    bundle_id=UUID(int=2),
    bundle_name="Städte & Länder",
    inviter=PrivateKey.from_seed(b"i" * 32).peer_id,
    hubs=("ws://hub.example:8765/", "wss://other.example"),
    role="writer",
    expires=1_800_000_000,
    secret=b"s" * 32,
)


def document() -> dict:
    return {
        "v": 1,
        "invite": str(INVITE.invite_id),
        "bundle": str(INVITE.bundle_id),
        "name": INVITE.bundle_name,
        "inviter": INVITE.inviter,
        "hubs": list(INVITE.hubs),
        "role": INVITE.role,
        "expires": INVITE.expires,
        "secret": INVITE.secret.hex(),
    }


def link_of(content: object) -> str:
    return LINK_PREFIX + urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def test_a_link_is_read_back_as_it_was_made() -> None:
    assert parse_invite(INVITE.link()) == INVITE
    assert parse_invite(f"  {INVITE.link()}\n") == INVITE


def test_a_link_made_elsewhere_is_read() -> None:
    assert parse_invite(link_of(document() | {"later": "addition"})) == INVITE


def test_an_invite_expires_at_its_time() -> None:
    assert not INVITE.is_expired(1_799_999_999.9)
    assert INVITE.is_expired(1_800_000_000)


def test_the_secret_shows_in_no_representation() -> None:
    assert INVITE.secret.hex() not in repr(INVITE)
    assert str(INVITE.secret) not in repr(INVITE)


@pytest.mark.parametrize("name", list(document()))
@pytest.mark.parametrize("value", [None, [], {}, -1, 1.5, "", "x" * 5000, "\ud800", True])
def test_a_wrong_member_is_refused_with_a_remedy(name: str, value: object) -> None:
    if name == "hubs" and value == []:
        assert parse_invite(link_of(document() | {name: value})) == replace(INVITE, hubs=())
        return
    if name == "v" and value is True:
        value = 2
    with pytest.raises(InviteError) as caught:
        parse_invite(link_of(document() | {name: value}))
    assert "new link" in caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"inviter": INVITE.inviter[:-1] + ("a" if INVITE.inviter[-1] != "a" else "b")},
        {"role": "owner"},
        {"hubs": ["http://hub.example"]},
        {"hubs": ["ws://hub.example"] * 9},
        {"secret": "zz" * 32},
        {"secret": " " * 64},
        {"bundle": "not-a-uuid"},
        {"name": "a\nb"},
    ],
    ids=str,
)
def test_a_member_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(InviteError):
        parse_invite(link_of(document() | change))


@pytest.mark.parametrize(
    "link",
    [
        "",
        "https://example.com/",
        LINK_PREFIX,
        LINK_PREFIX + "!!!!",
        LINK_PREFIX + "é",
        INVITE.link()[:-7],
        link_of([1, 2]),
        link_of("text"),
        LINK_PREFIX + urlsafe_b64encode(b"[" * 2000).decode(),
        LINK_PREFIX + urlsafe_b64encode(b'{"v":' + b"9" * 2900 + b"}").decode(),
        LINK_PREFIX + "A" * 5000,
    ],
)
def test_what_is_not_a_link_is_refused(link: str) -> None:
    with pytest.raises(InviteError):
        parse_invite(link)


@pytest.mark.parametrize("link", ["pgpeer://join/2/abcd", link_of(document() | {"v": 2})])
def test_a_link_of_another_version_says_so(link: str) -> None:
    with pytest.raises(InviteError, match="another version") as caught:
        parse_invite(link)
    assert caught.value.code == "version_mismatch"


@settings(max_examples=60)
@given(st.text(max_size=100), st.booleans())
def test_noise_is_refused_with_a_typed_error(noise: str, prefixed: bool) -> None:
    with pytest.raises(InviteError):
        parse_invite((LINK_PREFIX if prefixed else "") + noise)
