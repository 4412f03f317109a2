"""Whose word a failure is, and which of several failures people are told."""

import pytest

from pgpeer.errors import CODES, HubError, PgpeerError, RemoteProtocolError, TransportError
from pgpeer.transport.verdicts import FRAUDS, PEERS_OWN, REFUSALS, as_hubs_word, most_telling


@pytest.mark.parametrize("code", sorted(PEERS_OWN))
def test_what_only_a_peer_can_say_is_a_failure_like_any_other_when_a_hub_says_it(code: str) -> None:
    said = as_hubs_word(HubError("No.", code=code, phase="signalling", retryable=False))
    assert (said.code, said.phase, said.retryable) == ("relay_refused", "signalling", True)
    assert "No." in str(said)
    assert said.remedy


def test_everything_else_is_left_as_it_is() -> None:
    for code in sorted(CODES - PEERS_OWN):
        error = HubError("No.", code=code, retryable=False)
        assert as_hubs_word(error) is error
    for code in sorted(PEERS_OWN):
        for error in (TransportError("No.", code=code), RemoteProtocolError("No.", code=code)):
            assert as_hubs_word(error) is error, "signed, proven, or seen here"


def test_of_several_failures_the_one_is_told_that_explains_most() -> None:
    fraud = RemoteProtocolError("Somebody else.", code=sorted(FRAUDS)[0], phase="identity")
    refusal = TransportError("No.", code=sorted(REFUSALS)[0], phase="signalling")
    version = RemoteProtocolError("Other.", code="version_mismatch", phase="hello")
    ice = TransportError("Nothing came through.")
    hub = as_hubs_word(HubError("No.", code="refused_policy", phase="signalling"))
    order: list[PgpeerError] = [fraud, refusal, version, ice, hub]
    for place, first in enumerate(order):
        rest = order[place:]
        assert most_telling(rest) is first
        assert most_telling(rest[::-1]) is first
