from conversation_pair import Pair
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.text(max_size=60) | st.binary(max_size=20), max_size=5), st.booleans())
def test_noise_closes_a_conversation_and_never_raises(frames: list[str | bytes], welcomed: bool) -> None:
    pair = Pair(welcomed=welcomed)
    for frame in frames:
        pair.server.receive(frame, pair.now)
        pair.client.receive(frame, pair.now)
    assert pair.server.is_closed == bool(frames)
    assert pair.client.is_closed == bool(frames)
