import pytest
from conversation_pair import ALICE, BOB, HELLO, URL, Pair, closing_code

from pgpeer.errors import ConfigError
from pgpeer.signaling import server
from pgpeer.signaling.authentication import authenticate, require_hub_url
from pgpeer.signaling.client import (
    HubReady,
)
from pgpeer.signaling.messages import (
    FEATURES,
    Authenticate,
    Hello,
)
from pgpeer.signaling.wire import encode


def test_a_client_that_proves_its_key_is_let_in() -> None:
    pair = Pair(welcomed=False)
    pair.exchange()
    assert pair.server_events == [server.PeerAuthenticated(ALICE.peer_id, "alice")]
    pair.server.welcome()
    pair.exchange()
    assert pair.client_events == [HubReady("hub-1", FEATURES)]


@pytest.mark.parametrize(
    "forged",
    [
        authenticate(BOB, Hello("hub-1", b"m" * 32), "bob", URL),
        authenticate(BOB, Hello("hub-2", b"n" * 32), "bob", URL),
        Authenticate(BOB.peer_id, "bob", URL, authenticate(ALICE, HELLO, "bob", URL).signature),
        Authenticate(BOB.peer_id, "mallory", URL, authenticate(BOB, HELLO, "bob", URL).signature),
        Authenticate(BOB.peer_id, "bob", URL, b"short"),
    ],
    ids=["another connection's nonce", "another hub", "another key", "another label", "no signature"],
)
def test_a_forged_or_replayed_proof_is_refused(forged: Authenticate) -> None:
    pair = Pair(welcomed=False)
    assert pair.server.receive(encode(forged), pair.now) == []
    assert closing_code(pair) == "bad_signature"


def test_a_proof_made_for_another_hub_is_refused_though_it_carries_our_nonce() -> None:
    pair = Pair(welcomed=False)
    relayed = authenticate(BOB, HELLO, "bob", "ws://evil.example:8765/")
    assert pair.server.receive(encode(relayed), pair.now) == []
    assert closing_code(pair) == "identity_mismatch"


@pytest.mark.parametrize(
    ("url", "authority", "fits"),
    [
        ("ws://hub.example:80/", "hub.example", True),
        ("wss://HUB.example/", "hub.example", True),
        ("wss://hub.example:443", "hub.example", True),
        ("wss://hub.example:80", "hub.example", False),
        ("ws://[::1]:8765", "[::1]:8765", True),
        ("ws://hub.example:8766", "hub.example:8765", False),
        ("ws://[bad", "hub.example", False),
    ],
)
def test_the_dialled_url_must_name_this_hub(url: str, authority: str, fits: bool) -> None:
    pair = Pair(url=url, authorities=(authority,), welcomed=False)
    pair.exchange()
    assert pair.server.is_closed != fits


@pytest.mark.parametrize(
    "url",
    ["", "http://hub", "ws://", "hub:80", "ws://u:p@hub", "ws://hub:port", "ws://[", "ws://" + "h" * 600],
)
def test_what_is_not_a_hubs_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        require_hub_url(url)


def test_a_large_frame_is_refused_before_authentication() -> None:
    pair = Pair(welcomed=False)
    large = encode(authenticate(ALICE, HELLO, "alice", URL))[:-1] + ',"pad":"' + "x" * 16_384 + '"}'
    pair.server.receive(large, pair.now)
    assert closing_code(pair) == "too_large"
