from conversation_pair import Pair
from hypothesis import given
from hypothesis import strategies as st

from pgpeer.errors import RemoteProtocolError
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.relay import Relay
from pgpeer.signaling.server import CircuitData

malformed = st.text(max_size=60) | st.binary(max_size=8)


@given(st.lists(malformed, max_size=5), st.booleans())
def test_noise_closes_a_conversation_and_never_raises(frames: list[str | bytes], welcomed: bool) -> None:
    pair = Pair(welcomed=welcomed)
    for frame in frames:
        pair.server.receive(frame, pair.now)
        pair.client.receive(frame, pair.now)
    assert pair.server.is_closed == bool(frames)
    assert pair.client.is_closed == bool(frames)


@given(st.binary(min_size=9, max_size=40), st.booleans())
def test_binary_noise_names_a_circuit_that_never_was(frame: bytes, welcomed: bool) -> None:
    pair = Pair(welcomed=welcomed)
    relay = Relay(HubLimits(), pair.now)
    pair.client.receive(frame, pair.now)
    assert pair.client.is_closed
    for event in pair.server.receive(frame, pair.now):
        assert isinstance(event, CircuitData)
        try:
            relay.data(pair.server, event.circuit, event.payload, pair.now)
        except RemoteProtocolError as error:
            pair.server.close(error)
    assert pair.server.is_closed
    assert relay.waiting_bytes == 0
