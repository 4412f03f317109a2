"""Whether what is committed here bears a date that other peers take (merge rule 2).

Receivers hold a commit that is dated too far ahead of their clocks, and with it everything that is built on
it. So a worker whose server runs ahead signs nothing until the clock is right, and dates anew what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pgpeer.store import state
from pgpeer.worker.clock import unix_time

if TYPE_CHECKING:
    from pgpeer.worker.office import Office

LEEWAY_SECONDS: Final = 1.0
"""What a signal takes on its way, and more."""

REMEMBERED_PEERS: Final = 4096
"""So many peers' times are remembered, not counting members'."""

REDATE_SECONDS: Final = 5.0
"""Unsigned commits are not dated anew more often than this."""

REMEDY: Final = (
    "Set the clock of this database's server right, best by a time server. Nothing is lost meanwhile: "
    "the worker dates what waits anew and goes on by itself."
)


class Dating:
    """Compares the clock of this database's server with the clocks of other members.

    Args:
        office: whose view, links and connections are used.
        is_ahead: whether the clock was ahead when an earlier worker stopped, and was not set back since.
    """

    def __init__(self, office: Office, *, is_ahead: bool = False) -> None:
        self.is_ahead = is_ahead
        """Whether sealing waits until the clock is right."""
        self._office = office
        self._offsets: dict[str, float] = {}
        self._held_until: float | None = None
        self._redated_at = -REDATE_SECONDS
        self._clock: Callable[[], float] = asyncio.get_running_loop().time

    def heard(self, peer_id: str, unix_seconds: float) -> None:
        """A peer has just told its time."""
        if peer_id in self._office.view.members or len(self._offsets) < REMEMBERED_PEERS:
            self._offsets[peer_id] = unix_seconds - self._clock()
            self._office.changed.set()

    def may_sign(self, hlc: int) -> bool:
        """Whether a commit may be signed, by the value of its hybrid logical clock."""
        if self._is_taken(seconds := (hlc >> 16) / 1000):
            return True
        if self._held_until is None and self._clock() - self._redated_at >= REDATE_SECONDS:
            self._office.changed.set()
        self._held_until = max(seconds, self._held_until or 0.0)
        return False

    async def look(self) -> None:
        """Compare the clocks; to be called whenever the view was renewed."""
        view, reporter = self._office.view, self._office.reporter
        if not self._is_taken(view.clock):
            self.is_ahead = True
            minutes = round((view.clock - (self._elsewhere() or unix_time())) / 60)
            await reporter.problem(
                "clock_ahead",
                "",
                f"The clock of this database's server is {minutes} minutes ahead of all other members': they "
                "would not take its commits, so none is signed or sent.",
                REMEDY,
            )
            return
        if self.is_ahead and self._elsewhere() is None:
            await reporter.problem(
                "clock_ahead",
                "",
                "The clock of this database's server was ahead of all other members' clocks when its worker "
                "stopped, and none of them has told its time since: nothing is signed or sent yet.",
                REMEDY,
            )
            return
        if self.is_ahead or self._held_until is not None:
            await self._go_on()
        else:
            await reporter.solved("clock_ahead", "")

    async def _go_on(self) -> None:
        """The clock is right: date anew what waits for its signature, and have it signed."""
        if self._held_until is not None and self._clock() - self._redated_at < REDATE_SECONDS:
            return
        was_redated = self._redated_at > 0 and not self.is_ahead
        until, self._held_until = self._held_until, None
        self.is_ahead = False
        self._redated_at = self._clock()
        for bundle_id in self._office.view.bundles:
            await state.redate(self._office.connections.seal, bundle_id)
            self._office.sealer.commit_notified(bundle_id)
        self._office.sealer.look_again()
        if until is not None and was_redated:
            await self._office.reporter.problem(
                "clock_ahead",
                "",
                "Commits that were signed while the clock of this database's server ran ahead are dated up "
                f"to {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC: other members take them, and "
                "what comes after them, when that time has come.",
                "Nothing is to be done but to wait.",
            )

    def _is_taken(self, unix_seconds: float) -> bool:
        elsewhere = self._elsewhere()
        if elsewhere is None:
            # nobody has told the time yet: the worker's own machine is another witness than the server
            elsewhere = unix_time()
        return unix_seconds <= elsewhere + self._office.view.clock_drift_limit - LEEWAY_SECONDS

    def _elsewhere(self) -> float | None:
        """Give the latest time at any other member: while one agrees, it is not this clock that is off."""
        members = self._office.view.members
        times = [offset for peer_id, offset in self._offsets.items() if peer_id in members]
        return max(times) + self._clock() if times else None
