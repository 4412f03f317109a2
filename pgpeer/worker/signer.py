"""Signs the commits that were made here, in order, and hands them to those who send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final
from uuid import UUID

import structlog

from pgpeer.commit.header import Header
from pgpeer.commit.signature import COMMIT_DOMAIN
from pgpeer.errors import IdentityError
from pgpeer.identity.keyfile import HeldIdentity
from pgpeer.identity.ledger import LedgerEntry
from pgpeer.store import commits, state
from pgpeer.store.commits import OwnCommit, SignedCommit
from pgpeer.store.database import Connection

QUICK_DISK_SECONDS: Final = 0.001
"""A ledger that took no longer than this is written without a thread, which would cost about as much."""

Publish = Callable[[UUID, Sequence[SignedCommit]], None]


class Signer:
    """The only place where commits are signed. The ledger is durable before a signature is stored.

    Args:
        identity: the key and its ledger.
        connection: where signatures are stored.
        publish: called with the signed commits of a bundle, in order and never twice at the same time.
        may_sign: whether a commit with this hybrid logical clock may be signed now.
    """

    def __init__(
        self,
        identity: HeldIdentity,
        connection: Connection,
        publish: Publish,
        may_sign: Callable[[int], bool],
    ) -> None:
        self._identity = identity
        self._connection = connection
        self._publish = publish
        self._may_sign = may_sign
        self._turn = asyncio.Lock()
        self._disk_seconds = 1.0
        self._log = structlog.get_logger("pgpeer.signer")

    async def sign_pending(self, bundle_id: UUID) -> None:
        """Sign what waits for it in a bundle."""
        await self.sign(bundle_id, await commits.unsigned(self._connection, bundle_id))

    async def sign(self, bundle_id: UUID, made: Sequence[OwnCommit]) -> None:
        """Sign commits, oldest first, and publish them; all older ones of the bundle must be signed or given.

        Stops at the first one that is dated too far ahead: it and the later ones stay unsigned.

        Raises:
            IdentityError: the ledger cannot be written; nothing of these was published.
        """
        made = list(takewhile(lambda one: self._may_sign(Header.decode(one.header).hlc), made))
        if not made:
            return
        async with self._turn:
            entries = [LedgerEntry(bundle_id, one.epoch, one.seq, one.digest) for one in made]
            try:
                signatures = await self._record(entries)
            except IdentityError as error:
                if error.code != "ledger_fork":
                    raise
                await self._begin_epoch(error)
                return
            await commits.attach_signatures(self._connection, [one.digest for one in made], signatures)
            self._publish(
                bundle_id,
                [
                    SignedCommit(
                        one.position,
                        one.digest,
                        one.header,
                        signature,
                        one.section_count,
                        one.position_before,
                        one.data,
                    )
                    for one, signature in zip(made, signatures, strict=True)
                ],
            )

    async def _record(self, entries: list[LedgerEntry]) -> list[bytes]:
        clock = asyncio.get_running_loop().time
        began = clock()
        if self._disk_seconds <= QUICK_DISK_SECONDS:
            signatures = self._identity.sign_once(COMMIT_DOMAIN, entries)
        else:
            signatures = await asyncio.to_thread(self._identity.sign_once, COMMIT_DOMAIN, entries)
        self._disk_seconds = clock() - began
        return signatures

    async def _begin_epoch(self, reason: IdentityError) -> None:
        """Go on in a new epoch: the numbers of this one are taken. What is unsigned comes again by itself."""
        epoch = await state.renew_epoch(self._connection)
        self._log.warning("a new epoch begins", epoch=epoch, reason=str(reason))
        await state.announce(
            self._connection,
            "epoch-renewed",
            code=reason.code,
            detail="This key has signed these numbers before: the database was restored or copied.",
            hint="Nothing is to be done: unsigned commits were numbered again in a new epoch.",
        )
