"""Messages of programs arrive once and in order per connection, whatever breaks; planted bugs are found.

`PGPEER_SIMULATOR_SEEDS` says how many seeds are tried, as for the exchange of commits.
"""

from __future__ import annotations

import os
from uuid import UUID

import pytest

from pgpeer.channel import channels as room
from pgpeer.channel import messages
from pgpeer.channel.channel import Channel
from pgpeer.channel.receiving import Receiving
from pgpeer.channel.sending import Sending, cost
from pgpeer.errors import LocalProtocolError

from .programs import Met, simulate_programs
from .violation import Violation
from .weather import CHANGING, STORM, Weather

SEEDS = int(os.environ.get("PGPEER_SIMULATOR_SEEDS", "120"))
AT_ONCE = 30
STORMS_PER_SEED = 4
"""They are short."""

BUG_SEEDS = 60

FAILED = {
    5291: "who asked and left forgot in a crash that it was accepted: its request was refused",
    5621: "who asked forgot in a crash that it was accepted and ended by the other side: it was refused",
    5766: "a program left a connection before its worker was told that the acceptance is durable",
}
"""Seeds that broke a promise once, and how."""


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_messages_of_programs_arrive_once_and_in_order_whatever_breaks(first: int) -> None:
    run(CHANGING, first, min(first + AT_ONCE, SEEDS))


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_connections_of_programs_begin_and_end_as_wished_in_a_storm(first: int) -> None:
    run(STORM, STORMS_PER_SEED * first, STORMS_PER_SEED * min(first + AT_ONCE, SEEDS))


def run(weather: Weather, first: int, end: int) -> None:
    for seed in range(first, end):
        try:
            simulate_programs(seed, weather)
        except Violation as violation:
            violation.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("seed", FAILED)
def test_what_failed_once_stays_mended(seed: int) -> None:
    assert simulate_programs(seed).messages


def test_the_seeds_of_programs_meet_what_they_are_meant_to_meet() -> None:
    met = [simulate_programs(seed) for seed in range(60)]
    total = Met(*(sum(getattr(one, name) for one in met) for name in Met.__dataclass_fields__))
    assert total.messages > 1500
    assert total.links > 120
    assert total.crashes > 30
    assert total.full > 20, "inboxes without room"


class AcknowledgesOnArrival(Channel):
    """Acknowledges a message when it has arrived, not when it is durable."""

    def _on_data(self, message: messages.Data) -> bool:
        done = super()._on_data(message)
        self.receiving.store(self.receiving._arrived, self.receiving._room)
        self._ack_due = True
        return done


class ResumesOneTooLate(Channel):
    """Says on a new link to have one message more than it has."""

    def next_message(self, now: float) -> messages.Message | None:
        said = super().next_message(now)
        if isinstance(said, messages.Resume) and said.number:
            return messages.Resume(said.connection_id, said.number + 1, said.chain, said.window)
        return said


class ForgetsWhatWasUnderWay(Sending):
    """Believes that what was sent on a lost link has arrived."""

    def link_lost(self) -> None:
        for _ in range(self._sent):
            self._drop_first()
        super().link_lost()


class NeverResumes(Channel):
    """Says nothing about an open connection on a new link."""

    def link_up(self, now: float) -> None:
        super().link_up(now)
        self._resume_due = False


class SendsPastTheWindow(Sending):
    """Sends whatever waits, whether there is room for it or not."""

    def next_message(self) -> tuple[int, str] | None:
        self._window = max(self._window, self._sent_cost + 10**6) if self._kept else self._window
        return super().next_message()


class LosesRoom(Receiving):
    """Forgets that its inbox has room again."""

    def widen(self, room: int) -> bool:
        return False


class LastComesFirst(Sending):
    """Swaps two messages that wait."""

    def keep(self, number: int, data: str) -> None:
        super().keep(number, data)
        if len(self._kept) > 1 and self._sent < len(self._kept) - 1:
            one, other = self._kept[-2], self._kept[-1]
            self._kept[-2] = type(one)(one.number, other.data, cost(other.data))
            self._kept[-1] = type(one)(other.number, one.data, cost(one.data))


BUGS: list[tuple[str, type, set[str]]] = [
    ("Channel", AcknowledgesOnArrival, {"durable", "honest", "progress", "local"}),
    ("Channel", ResumesOneTooLate, {"honest", "progress"}),
    ("Sending", ForgetsWhatWasUnderWay, {"honest", "progress", "durable"}),
    ("Channel", NeverResumes, {"progress"}),
    ("Sending", SendsPastTheWindow, {"honest", "bounded"}),
    ("Receiving", LosesRoom, {"progress"}),
    ("Sending", LastComesFirst, {"order"}),
]


@pytest.mark.parametrize(("name", "bug", "promises"), BUGS, ids=lambda one: getattr(one, "__name__", None))
def test_a_bug_planted_in_connections_of_programs_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, bug: type, promises: set[str]
) -> None:
    monkeypatch.setattr(room, name, bug)
    assert first_broken(bug) in promises


def first_broken(bug: type) -> str:
    for seed in range(BUG_SEEDS):
        try:
            simulate_programs(seed)
        except Violation as violation:
            return violation.promise
        except LocalProtocolError:
            return "local"
    pytest.fail(f"{BUG_SEEDS} seeds did not show that {bug.__name__} {bug.__doc__}")


def test_the_same_seed_of_programs_is_the_same_story() -> None:
    assert simulate_programs(7) == simulate_programs(7)
    assert UUID(int=1) != UUID(int=2)
