"""One commit that two links bring at the same moment: it is stored once, and neither link fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from merge.replica import Envelope, Replica
from merge.world import World

from .sessions import PATIENCE, Sessions

MakeWorld = Callable[..., World]


@pytest.fixture
def links(world: MakeWorld) -> Iterator[tuple[Replica, Replica, Envelope]]:
    """Two connections to bob's database, and a commit of alice's that he lacks."""
    w = world()
    alice, bob = w.replicas
    second = Replica("bob's other link", bob.dsn, bob.key)
    second.bundle_id = bob.bundle_id
    yield bob, second, w.commit(alice, "INSERT INTO public.note (id) VALUES (7)")
    second.close()


def test_the_second_finds_it_known_once_the_first_has_stored_it(
    links: tuple[Replica, Replica, Envelope], sessions: Sessions
) -> None:
    first, second, envelope = links
    with first.connection.transaction():
        assert first.receive_header(envelope) == "new"
        answer = sessions.start(second.receive_header, envelope)
        sessions.until_waiting(second, first)
    assert answer.result(PATIENCE) == "incomplete"
    assert first.value("SELECT count(*) FROM peer_internal.commit WHERE digest = %s", envelope.digest) == 1
    assert first.value("SELECT count(*) FROM peer_internal.section WHERE data IS NULL") == 1
    second.deliver([envelope])
    assert second.value("SELECT EXISTS (SELECT FROM public.note WHERE id = 7)")


def test_the_second_stores_it_when_the_first_gives_up(
    links: tuple[Replica, Replica, Envelope], sessions: Sessions
) -> None:
    first, second, envelope = links
    with first.connection.transaction(force_rollback=True):
        first.receive_header(envelope)
        answer = sessions.start(second.receive_header, envelope)
        sessions.until_waiting(second, first)
    assert answer.result(PATIENCE) == "new"
    assert first.deliver([envelope])
    assert first.value("SELECT EXISTS (SELECT FROM public.note WHERE id = 7)")
