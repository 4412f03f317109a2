"""Large messages take turns: so many are in memory at once, however many links bring some.

A message becomes large when it, or what it unpacks to, is larger than half the credit window. Its sender gets
no more credit than it had before the message's turn begins, and the turn ends when the owner is done with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pgpeer.protocol import limits


class Turns:
    """The places for large messages, shared by all sessions of a process; given in the order of asking."""

    __slots__ = ("_at_once", "_begun", "_waiting")

    def __init__(self, at_once: int = limits.LARGE_AT_ONCE) -> None:
        self._at_once = at_once
        self._begun: set[Turn] = set()
        self._waiting: deque[Turn] = deque()

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._waiting)

    def ask(self, begun: Callable[[], None]) -> Turn:
        """Ask for a place; `begun` is called when there is one, at once or later."""
        turn = Turn(self, begun)
        self._waiting.append(turn)
        self._give()
        return turn

    def end(self, turn: Turn) -> None:
        """Take a place back, or forget the wait for it. Idempotent."""
        self._begun.discard(turn)
        if turn in self._waiting:
            self._waiting.remove(turn)
        self._give()

    def _give(self) -> None:
        while self._waiting and len(self._begun) < self._at_once:
            turn = self._waiting.popleft()
            self._begun.add(turn)
            turn.has_begun = True
            turn.begun()


class Turn:
    """One message's place, or its wait for one."""

    __slots__ = ("_turns", "begun", "has_begun")

    def __init__(self, turns: Turns, begun: Callable[[], None]) -> None:
        self._turns = turns
        self.begun = begun
        self.has_begun = False

    def end(self) -> None:
        """Give the place to the next one. Idempotent."""
        self._turns.end(self)


class LargeIntake:
    """The large messages of one session, from their first byte until their owner is done with them.

    Args:
        turns: shared with the other sessions.
        grant: gives the sender credit.
        begun: called when a turn has begun.
    """

    __slots__ = ("_arriving", "_begun", "_bytes", "_checked", "_grant", "_kept", "_owed", "_turns")

    def __init__(self, turns: Turns, grant: Callable[[int], None], begun: Callable[[], None]) -> None:
        self._turns = turns
        self._grant = grant
        self._begun = begun
        self._arriving: Turn | None = None
        self._kept: deque[Turn] = deque()
        self._owed = 0
        self._bytes = 0
        self._checked = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether the oldest message that is kept has its turn."""
        return bool(self._kept) and self._kept[0].has_begun

    def arrived(self, size: int, now: float) -> None:
        """A part of a large message is here; its sender gets credit for it once the message has its turn."""
        if self._arriving is None:
            self._bytes, self._checked = 0, now
            self._arriving = self._turns.ask(self._has_begun)
        turn = self._arriving
        self._bytes += size
        self._owed += size
        if turn.has_begun:
            self._pay()

    def keep(self, is_large: bool) -> None:
        """A message is whole; it is large when it arrived so, or becomes so when it is unpacked."""
        if not is_large:
            return
        turn, self._arriving = self._arriving, None
        self._kept.append(turn or self._turns.ask(self._has_begun))

    def done(self) -> None:
        """The owner is done with the oldest message."""
        if self._kept:
            self._kept.popleft().end()

    def is_stalled(self, now: float) -> bool:
        """Whether others wait for a message that comes in too slowly; to be asked now and then."""
        turn = self._arriving
        if turn is None or not turn.has_begun or now < self._checked + limits.LARGE_STALL_SECONDS:
            return False
        is_slow = self._bytes < limits.LARGE_STALL_BYTES
        self._bytes, self._checked = 0, now
        return is_slow and self._turns.has_waiting

    def close(self) -> None:
        """The session is over: what arrives no more has no turn. What is kept keeps its own."""
        if self._arriving is not None:
            self._arriving.end()
            self._arriving = None
        self._owed = 0

    def forget(self, *, but_first: bool = False) -> None:
        """Nobody will ask for what is kept any more; `but_first`: the owner still has the oldest in hand."""
        self.close()
        while len(self._kept) > but_first:
            self._kept.pop().end()

    def _has_begun(self) -> None:
        self._pay()
        self._begun()

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._grant(owed)
