"""Tells people what happens: events, problems, links, and what peers have acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import PgpeerError
from pgpeer.store import events, members, state
from pgpeer.store.database import Connection
from pgpeer.transport.base import LinkPath
from pgpeer.worker.tally import Tally

STORE_SECONDS: Final = 1.0
"""Acknowledgements of peers and counts of failures are stored together, this long after the first one."""

PRUNE_SECONDS: Final = 600.0
"""Old events are forgotten this often, and soon after the start."""

BLAME_HINT: Final = (
    "Nothing was changed here. If it goes on, ask the people of that peer: it is of another version, broken "
    "or hostile. SELECT peer.block(…) cuts it off."
)
"""What to do about a peer that breaks the rules, when the error itself does not say."""


def words_of(path: LinkPath) -> list[str]:
    """Give kind, engine, local and remote candidate as `peer.connection` names them."""
    return [path.kind, path.engine, str(path.local_candidate), str(path.remote_candidate)]


class Reporter:
    """Writes to the tables that people look at.

    Args:
        connection: shared with whoever asks little of it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._problems: dict[tuple[str, str], str] = {}
        self._acknowledged: dict[tuple[UUID, str], Sequence[VectorEntry]] = {}
        self._tally = Tally()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("pgpeer.worker")

    async def event(
        self,
        kind: str,
        *,
        peer_id: str | None = None,
        bundle: str | None = None,
        connection_id: UUID | None = None,
        detail: str | None = None,
    ) -> None:
        """Write an event that went well."""
        self._log.info(kind, peer=peer_id, bundle=bundle, detail=detail)
        await state.announce(
            self._connection, kind, peer_id=peer_id, bundle=bundle, connection_id=connection_id, detail=detail
        )

    async def failure(self, kind: str, error: PgpeerError, *, peer_id: str | None = None) -> None:
        """Count something that went wrong, and write it as an event unless there were many of late."""
        is_told = self._tally.count(kind, peer_id or "", error.phase, error.code, self._loop.time())
        self._wake.set()
        if not is_told:
            return
        self._log.warning(kind, peer=peer_id, code=error.code, phase=error.phase, detail=str(error))
        await state.announce(
            self._connection,
            kind,
            peer_id=peer_id,
            phase=error.phase,
            code=error.code,
            retryable=error.retryable,
            detail=str(error),
            hint=error.remedy or (BLAME_HINT if kind == "peer-failed" else ""),
        )

    async def problem(
        self, kind: str, subject: str, detail: str, remedy: str, bundle_id: UUID | None = None
    ) -> None:
        """List a problem, unless it is listed already."""
        if self._problems.get((kind, subject)) != detail:
            self._problems[kind, subject] = detail
            self._log.warning("problem", kind=kind, detail=detail)
            await state.report_problem(self._connection, kind, subject, detail, remedy, bundle_id)

    async def solved(self, kind: str, subject: str) -> None:
        """A problem is over, if there was one."""
        if self._problems.pop((kind, subject), None) is not None:
            await state.clear_problem(self._connection, kind, subject)

    async def connected(
        self, connection_id: UUID, peer_id: str, label: str, direction: str, path: Sequence[str]
    ) -> None:
        """List a link whose peer has proven who it is."""
        self._problems.pop(("peer_unreachable", peer_id), None)
        self._log.info("connected", peer=peer_id, label=label, path=" ".join(path))
        await state.connected(self._connection, connection_id, peer_id, label, direction, path)

    async def path_changed(self, connection_id: UUID, path: LinkPath, rtt_seconds: float | None) -> None:
        """A link goes on over another path."""
        self._log.info("path changed", connection=str(connection_id), path=str(path))
        await state.path_changed(self._connection, connection_id, words_of(path), rtt_seconds)

    async def address_tried(self, peer_id: str, address: str, succeeded: bool) -> None:
        """An address of a peer began to work, or does not work any more."""
        await members.note_attempt(self._connection, peer_id, address, succeeded)

    async def disconnected(
        self, connection_id: UUID, peer_id: str, code: str, phase: str, retryable: bool, detail: str
    ) -> None:
        """A link is gone."""
        self._log.info("disconnected", peer=peer_id, code=code, detail=detail)
        await state.disconnected(self._connection, connection_id, code, phase, retryable, detail)

    def acknowledged(self, bundle_id: UUID, peer_id: str, entries: Sequence[VectorEntry]) -> None:
        """A peer has merged this much durably."""
        self._acknowledged[bundle_id, peer_id] = entries
        self._wake.set()

    async def run(self) -> None:
        """Store acknowledgements and counts and forget old events, until cancelled."""
        prune_at = self._loop.time() + STORE_SECONDS
        while True:
            due = min(prune_at, self._tally.due() or prune_at)
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
                    await asyncio.sleep(STORE_SECONDS)
            except TimeoutError:
                pass
            self._wake.clear()
            await self._store()
            if self._loop.time() >= prune_at:
                has_more = await events.prune(self._connection)
                prune_at = self._loop.time() + (STORE_SECONDS if has_more else PRUNE_SECONDS)

    async def _store(self) -> None:
        known, self._acknowledged = self._acknowledged, {}
        if known:
            await state.acknowledged(self._connection, known)
        counts = self._tally.take()
        if counts:
            await events.count_failures(self._connection, counts)
        for one in self._tally.end_window(self._loop.time()):
            detail = f"{one.count} more of these within a minute were counted in peer.failure and not told."
            self._log.warning(one.kind, peer=one.peer_id, code="rate_limited", detail=detail)
            await state.announce(
                self._connection, one.kind, peer_id=one.peer_id or None, code="rate_limited", detail=detail
            )
