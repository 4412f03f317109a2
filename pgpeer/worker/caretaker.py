"""The worker of one database: starts everything, watches over it, starts again when the database was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final
from uuid import UUID

import structlog

from pgpeer.errors import IdentityError, StoreError
from pgpeer.identity.keyfile import HeldIdentity
from pgpeer.signaling.backoff import next_delay
from pgpeer.store import state
from pgpeer.store.database import Connection
from pgpeer.store.state import Standing
from pgpeer.worker.clock import unix_time
from pgpeer.worker.joiner import JoinWatch
from pgpeer.worker.linker import Linker
from pgpeer.worker.merger import Merger
from pgpeer.worker.office import Connections, Office
from pgpeer.worker.sealer import Sealer
from pgpeer.worker.signer import Signer

LOOK_SECONDS: Final = 10.0
"""How often the worker looks for what nobody tells it."""

STOP_SECONDS: Final = 3.0
"""How long a running seal or merge may take after the worker was told to stop; then it is rolled back."""

CHANNELS: Final = ("pgpeer_journal", "pgpeer_commit", "pgpeer_config")

Ready = Callable[[str], None]


class Caretaker:
    """The worker of one database.

    Args:
        dsn: the database, as libpq takes it.
        identity: held for as long as the worker runs.
    """

    def __init__(self, dsn: str, identity: HeldIdentity) -> None:
        self._dsn = dsn
        self._identity = identity
        self._random = random.Random()
        self._log = structlog.get_logger("pgpeer.worker")

    async def run(self, ready: Ready, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. A lost database is waited for, once it was there.

        Args:
            ready: called once, with the peer id, when the worker serves.
            stop: ends the worker; it returns within five seconds.

        Raises:
            StoreError: the database cannot be reached at the start, or refuses the worker.
            IdentityError: the key is not that of the database.
        """
        failures = 0
        has_served = False

        def serving(peer_id: str) -> None:
            nonlocal failures, has_served
            failures = 0
            if not has_served:
                has_served = True
                ready(peer_id)

        while not stop.is_set():
            try:
                await self._shift(serving, stop)
            except StoreError as error:
                if not has_served or not (error.retryable or error.code == "worker_runs"):
                    raise
                delay = next_delay(failures, self._random.random(), longest=10.0)
                failures += 1
                self._log.warning("database lost", reason=str(error), retry_seconds=round(delay, 2))
                try:
                    await asyncio.wait_for(stop.wait(), delay)
                except TimeoutError:
                    pass

    async def _shift(self, serving: Ready, stop: asyncio.Event) -> None:
        """Serve until told to stop or until the database is lost."""
        async with AsyncExitStack() as stack:
            opened: list[Connection] = []
            for _ in range(5):
                opened.append(await Connection.open(self._dsn))
                stack.push_async_callback(opened[-1].close)
            connections = Connections(*opened)
            await state.take_lock(connections.desk)
            standing = await self._standing(connections)
            await state.prepare_for_merging(connections.merge)
            office = Office(self._identity, standing.epoch, connections)
            signer = Signer(self._identity, connections.seal, office.publish)
            sealer = office.sealer = Sealer(connections.seal, signer, office.reporter, lambda: office.view)
            merger = office.merger = Merger(
                connections.merge, connections.store, signer, office.reporter, office.settled
            )
            linker = Linker(office)
            await self._listen(office)
            await office.look()
            for bundle_id in office.view.bundles:
                sealer.commit_notified(bundle_id)
                await office.check_join(bundle_id)
            loop = asyncio.get_running_loop()
            working = [loop.create_task(one) for one in (sealer.run(), merger.run())]
            waiting = [
                loop.create_task(one)
                for one in (
                    linker.hubs.run(),
                    office.reporter.run(),
                    self._look(office),
                    *(self._watch(one) for one in opened),
                )
            ]
            stopping = loop.create_task(stop.wait())
            self._log.info("serving", peer=office.key.peer_id)
            serving(office.key.peer_id)
            try:
                await asyncio.wait([stopping, *working, *waiting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                await self._end(office, linker, sealer, merger, working, waiting)
            ended = [task for task in (*waiting, *working) if task.done() and not task.cancelled()]
            errors = [error for task in ended if (error := task.exception()) is not None]
            # a lost database is the usual end; anything else matters more
            for error in sorted(errors, key=lambda one: isinstance(one, StoreError)):
                raise error

    async def _standing(self, connections: Connections) -> Standing:
        """Check that this database and this key belong together, and that no number would be used twice."""
        standing = await state.begin(connections.desk)
        key = self._identity.key
        if standing.public_key != key.public_key:
            raise IdentityError(
                "The identity file is not that of this database."
                if standing.public_key
                else "This database has no identity yet.",
                remedy="Run 'pgpeer init' for this database, with the same --identity as the worker.",
            )
        if standing.is_copy:
            raise StoreError(
                "This database is a copy of another one and carries its identity.",
                remedy="If the original is gone or stays off: pgpeer init --dsn … (a new epoch). "
                "If both shall live: pgpeer init --dsn … --identity NEWFILE.",
                code="copied_database",
            )
        if any(self._has_signed_more(bundle, standing) for bundle in standing.numbers):
            await state.renew_epoch(connections.desk)
            await state.announce(
                connections.desk,
                "epoch-renewed",
                code="ledger_fork",
                detail="This key has signed more than this database knows: it was restored from a backup.",
                hint="Nothing is to be done: what was lost comes back from peers that have it.",
            )
            standing = await state.begin(connections.desk)
        return standing

    def _has_signed_more(self, bundle_id: UUID, standing: Standing) -> bool:
        last = self._identity.ledger.last(bundle_id, standing.epoch)
        return last is not None and last[0] > standing.numbers[bundle_id]

    async def _listen(self, office: Office) -> None:
        own = {office.connections.seal.pid, office.connections.merge.pid}
        changed = asyncio.Event()
        self._changed = changed

        def notified(channel: str, pid: int, payload: str) -> None:
            if channel == "pgpeer_journal":
                office.sealer.journal_notified()
            elif channel == "pgpeer_commit":
                if pid not in own:
                    office.sealer.commit_notified(UUID(payload))
            else:
                changed.set()

        await office.connections.desk.listen(CHANNELS, notified)

    async def _look(self, office: Office) -> None:
        """Look every few seconds, and at once when the configuration was changed."""
        clock = asyncio.get_running_loop().time
        joins = JoinWatch(office)
        while True:
            await joins.look(clock(), unix_time())
            pause = LOOK_SECONDS / 4 if office.view.joins else LOOK_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await office.look()

    @staticmethod
    async def _watch(connection: Connection) -> None:
        """Raise when a connection is lost."""
        await connection.lost.wait()
        raise StoreError("The connection to the database was lost.", code="unreachable", retryable=True)

    async def _end(
        self,
        office: Office,
        linker: Linker,
        sealer: Sealer,
        merger: Merger,
        working: list[asyncio.Task[None]],
        waiting: list[asyncio.Task[None]],
    ) -> None:
        """Stop everything: finish or roll back what runs, say good-bye, leave the tables clean."""
        for task in waiting:
            task.cancel()
        sealer.stop()
        merger.stop()
        closing = asyncio.get_running_loop().create_task(linker.close("The worker stops."))
        await asyncio.wait([*working, closing], timeout=STOP_SECONDS)
        for task in (*working, closing):
            task.cancel()
        await asyncio.wait([*working, *waiting, closing], timeout=1.0)
        if not office.connections.desk.lost.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await state.end(office.connections.desk)
            except (StoreError, TimeoutError) as error:
                self._log.warning("could not leave the tables clean", reason=str(error))
