"""Merges what has come from peers. A merge always yields to users: it rolls back and tries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import IdentityError, StoreError
from pgpeer.store import commits
from pgpeer.store.commits import Merged, ReceivedCommit
from pgpeer.store.database import YIELDED_STATES, Connection
from pgpeer.worker.reporter import Reporter
from pgpeer.worker.signer import Signer

MERGED_AT_ONCE: Final = 50
SHORTEST_RETRY: Final = 0.02
LONGEST_RETRY: Final = 0.2
FAILURE_RETRY: Final = 5.0

Settled = Callable[[UUID, tuple[VectorEntry, ...]], Awaitable[None]]


class Merger:
    """Merges the bundles that were woken, one after another.

    Args:
        connection: used by nothing else.
        store: a second connection, for what arrives while a merge runs.
        signer: signs local changes that a merge had to seal first.
        reporter: is told when merging fails as a whole.
        settled: called with the merged vector whenever commits were merged, durably.
    """

    def __init__(
        self,
        connection: Connection,
        store: Connection,
        signer: Signer,
        reporter: Reporter,
        settled: Settled,
    ) -> None:
        self._connection = connection
        self._store = store
        self._signer = signer
        self._reporter = reporter
        self._settled = settled
        self._turn = asyncio.Lock()
        self._due: dict[UUID, None] = {}
        self._failures: dict[UUID, int] = {}
        self._wake = asyncio.Event()
        self._random = random.Random()
        self._stopping = False
        self._unsigned: IdentityError | None = None

    def wake(self, bundle_id: UUID) -> None:
        """Commits of a bundle may be ready to be merged."""
        self._due[bundle_id] = None
        self._wake.set()

    async def take(self, bundle_id: UUID, received: Sequence[ReceivedCommit]) -> None:
        """Store small whole commits from a peer, and merge them in the same transaction if possible.

        Raises:
            StoreError: a commit is not what it claims; nothing of these was stored.
        """
        if not self._turn.locked():
            try:
                async with self._turn:
                    merged = await commits.receive(self._connection, bundle_id, received, MERGED_AT_ONCE)
            except StoreError as error:
                if error.sqlstate not in YIELDED_STATES:
                    raise
            else:
                assert merged is not None, "a merge was asked for"
                await self._after(bundle_id, merged)
                return
        await commits.receive(self._store, bundle_id, received, 0)
        self.wake(bundle_id)

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
            while self._due and not self._stopping and self._unsigned is None:
                bundle_id = next(iter(self._due))
                del self._due[bundle_id]
                await self._merge(bundle_id)
            if self._unsigned is not None:
                raise self._unsigned
            if not self._stopping:
                self._wake.clear()
                await self._wake.wait()

    async def _merge(self, bundle_id: UUID) -> None:
        failures = self._failures.get(bundle_id, 0)
        try:
            async with self._turn:
                # one at a time after a failure: the others need not wait for the row that is locked
                merged = await commits.merge(self._connection, bundle_id, 1 if failures else MERGED_AT_ONCE)
        except StoreError as error:
            if error.code == "unreachable":
                raise
            self._failures[bundle_id] = failures + 1
            delay = self._random.uniform(SHORTEST_RETRY, LONGEST_RETRY)
            if error.sqlstate not in YIELDED_STATES:
                delay = FAILURE_RETRY
                await self._reporter.problem(
                    "merge_failed",
                    str(bundle_id),
                    f"Commits of peers cannot be merged: {error}",
                    error.remedy or "Nothing was changed; the worker tries again.",
                    bundle_id,
                )
            asyncio.get_running_loop().call_later(delay, self.wake, bundle_id)
            return
        if self._failures.pop(bundle_id, None):
            await self._reporter.solved("merge_failed", str(bundle_id))
        await self._after(bundle_id, merged)

    async def _after(self, bundle_id: UUID, merged: Merged) -> None:
        for held in merged.held:
            if held.is_new:
                error = StoreError(
                    held.detail,
                    code=held.kind,
                    phase="sync",
                    retryable=held.kind != "invalid_commit",
                    remedy="SELECT * FROM peer.problem tells what to do.",
                )
                await self._reporter.failure("commit-held", error, peer_id=held.author)
        if merged.has_unsigned:
            try:
                await self._signer.sign_pending(bundle_id)
            except IdentityError as error:
                # whoever sent the commits is not to blame, and what was merged counts
                self._unsigned = error
                self._wake.set()
        if merged.vector is not None:
            await self._settled(bundle_id, merged.vector)
        if merged.is_more:
            self.wake(bundle_id)
