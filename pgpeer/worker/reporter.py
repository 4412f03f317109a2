"""Tells people what happens: events, problems, links, and what peers have acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import PgpeerError
from pgpeer.store import state
from pgpeer.store.database import Connection

ACKNOWLEDGEMENT_SECONDS: Final = 1.0
"""Acknowledgements of peers are stored together, this long after the first one."""


class Reporter:
    """Writes to the tables that people look at.

    Args:
        connection: shared with whoever asks little of it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._problems: dict[tuple[str, str], str] = {}
        self._acknowledged: dict[tuple[UUID, str], Sequence[VectorEntry]] = {}
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
        """Write an event about something that went wrong."""
        self._log.warning(kind, peer=peer_id, code=error.code, phase=error.phase, detail=str(error))
        await state.announce(
            self._connection,
            kind,
            peer_id=peer_id,
            phase=error.phase,
            code=error.code,
            retryable=error.retryable,
            detail=str(error),
            hint=error.remedy,
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
        """Store acknowledgements until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(ACKNOWLEDGEMENT_SECONDS)
            self._wake.clear()
            known, self._acknowledged = self._acknowledged, {}
            await state.acknowledged(self._connection, known)
