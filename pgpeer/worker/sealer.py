"""Makes commits of what users change: at once when it is little, bundled when it is much.

Writers notify the worker. When notices come fast the worker says that it is awake: then writers need not
notify, which takes a lock that all of them share, and the worker looks by itself until nothing comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgpeer.errors import StoreError
from pgpeer.store import commits, state
from pgpeer.store.database import YIELDED_STATES, Connection
from pgpeer.store.view import BundleState
from pgpeer.worker.signer import Signer

if TYPE_CHECKING:
    from pgpeer.worker.office import Office

BUSY_NOTICES: Final = 12
BUSY_SECONDS: Final = 0.03
"""So many notices within so many seconds are a busy time."""

SHORTEST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.2
QUIET_SECONDS: Final = 0.04
"""After so long without a change the worker goes to sleep again."""

LOCK_PAUSE: Final = 0.05
"""After a deadlock with a user the worker waits this long."""

FIRST_AFTERLOOK: Final = 0.01
LAST_AFTERLOOK: Final = 1.0
"""Pauses between looks for transactions that were open when the worker went to sleep."""


class Sealer:
    """Seals the automatic bundles, and signs what people commit.

    Args:
        connection: used by nothing else.
        signer: signs what is sealed.
        office: whose view and clock are followed, and whose reporter is told what cannot be sealed.
    """

    def __init__(self, connection: Connection, signer: Signer, office: Office) -> None:
        self._connection = connection
        self._signer = signer
        self._office = office
        self._stopping = False
        self._wake = asyncio.Event()
        self._look_at = 0.0
        self._pause_seconds = 0.0
        self._notices: deque[float] = deque(maxlen=BUSY_NOTICES)
        self._to_sign: set[UUID] = set()
        self._clock = asyncio.get_running_loop().time

    def journal_notified(self) -> None:
        """A writer has changed something."""
        self._notices.append(self._clock())
        self._wake.set()

    def look_again(self) -> None:
        """Something may have changed."""
        self._wake.set()

    def commit_notified(self, bundle_id: UUID) -> None:
        """Somebody has committed."""
        self._to_sign.add(bundle_id)
        self._wake.set()

    async def finish(self, bundle_id: UUID) -> None:
        """Seal and sign what was changed in a bundle until now, as far as that is possible.

        Raises:
            StoreError: the database is lost.
            IdentityError: the ledger of signatures cannot be written.
        """
        bundle = self._office.view.bundles.get(bundle_id)
        if bundle is not None and bundle.is_auto and not self._office.dating.is_ahead:
            await self._seal(bundle)
        await self._signer.sign_pending(bundle_id)

    def stop(self) -> None:
        """Let `run` return as soon as it has finished what it does."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped or cancelled.

        Raises:
            StoreError: the database is lost.
            IdentityError: the ledger of signatures cannot be written.
        """
        while not self._stopping:
            self._wake.clear()
            await self._look()
            if self._is_busy():
                await self._stay_awake()
            await self._wake.wait()

    def _is_busy(self) -> bool:
        notices = self._notices
        return len(notices) == BUSY_NOTICES and self._clock() - notices[0] <= BUSY_SECONDS

    async def _look(self) -> bool:
        """Seal what has changed everywhere; True when something had, or may have where a pause is due."""
        found = False
        self._pause_seconds = 0.0
        to_sign, self._to_sign = self._to_sign, set()
        for bundle in list(self._office.view.bundles.values()):
            # changes wait in the journal while the clock is ahead
            if bundle.is_auto and not self._office.dating.is_ahead:
                pause = self._office.pace.pause_seconds(bundle.bundle_id)
                if pause > 0:
                    self._look_later(pause)
                    self._pause_seconds = max(self._pause_seconds, pause)
                    found = True
                    continue
                found = await self._seal(bundle) or found
                to_sign.discard(bundle.bundle_id)
        for bundle_id in to_sign:
            await self._signer.sign_pending(bundle_id)
        return found

    def _look_later(self, seconds: float) -> None:
        now = self._clock()
        if self._look_at <= now:
            self._look_at = now + seconds
            asyncio.get_running_loop().call_later(seconds, self._wake.set)

    async def _seal(self, bundle: BundleState) -> bool:
        """Seal one bundle; True when something had changed."""
        subject = str(bundle.bundle_id)
        try:
            made = await commits.seal(self._connection, bundle.bundle_id)
        except StoreError as error:
            if error.code == "unreachable":
                raise
            if error.sqlstate in YIELDED_STATES:
                asyncio.get_running_loop().call_later(LOCK_PAUSE, self._wake.set)
            else:
                await self._office.reporter.problem(
                    "seal_failed",
                    subject,
                    f"Changes in bundle {bundle.name!r} cannot be committed: {error}",
                    error.remedy or "The changes stay where they are; the worker tries again.",
                    bundle.bundle_id,
                )
            return False
        await self._office.reporter.solved("seal_failed", subject)
        await self._signer.sign(bundle.bundle_id, made)
        if made:
            self._office.pace.made(bundle.bundle_id, made[-1].epoch, made[-1].seq)
        return bool(made)

    async def _stay_awake(self) -> None:
        """Look at short intervals while changes keep coming, then make sure that nothing was missed."""
        await state.set_awake(self._connection, True)
        quiet_since = self._clock()
        while self._clock() - quiet_since < QUIET_SECONDS and not self._stopping:
            began = self._clock()
            found = await self._look_everywhere()
            ended = self._clock()
            if found:
                quiet_since = ended
            await asyncio.sleep(
                max(min(max(SHORTEST_PAUSE, ended - began), LONGEST_PAUSE), self._pause_seconds)
            )
        asleep = await state.set_awake(self._connection, False)
        await self._look_everywhere()
        # who began before may have read that the worker is awake, and will not notify
        pause = FIRST_AFTERLOOK
        while await state.oldest_transaction(self._connection) <= asleep and not self._stopping:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_AFTERLOOK)
            await self._look_everywhere()
        await self._look_everywhere()
        self._notices.clear()

    async def _look_everywhere(self) -> bool:
        """Look, also for commits of people: these do not notify while the worker is awake."""
        self._to_sign.update(self._office.view.bundles)
        return await self._look()
