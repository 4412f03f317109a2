"""The worker of one database: starts everything, watches over it, starts again when the database was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import fields
from typing import Final
from uuid import UUID

import structlog

from pgpeer.errors import IdentityError, StoreError
from pgpeer.identity.keyfile import HeldIdentity, IdentityFile
from pgpeer.signaling.backoff import next_delay
from pgpeer.store import state
from pgpeer.store.database import Connection
from pgpeer.store.state import Standing
from pgpeer.worker.clock import unix_time
from pgpeer.worker.joiner import JoinWatch
from pgpeer.worker.linker import Linker
from pgpeer.worker.merger import Merger
from pgpeer.worker.office import Connections, Office
from pgpeer.worker.place import place
from pgpeer.worker.renewal import due_renewal
from pgpeer.worker.sealer import Sealer
from pgpeer.worker.signer import Signer
from pgpeer.worker.succession import Answering, Standby, release_files

LOOK_SECONDS: Final = 10.0
"""How often the worker looks for what nobody tells it."""

LOOK_FOR_PREPARED_SECONDS: Final = 1.0
"""The same where transactions can be prepared: PostgreSQL refuses PREPARE TRANSACTION after NOTIFY, so nobody
tells the worker of what was written."""

STOP_SECONDS: Final = 3.0
"""How long a running seal or merge may take after the worker was told to stop; then it is rolled back."""

CHANNELS: Final = ("pgpeer_journal", "pgpeer_commit", "pgpeer_config", "pgpeer_channel")

Ready = Callable[[str], None]


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


class Caretaker:
    """The worker of one database.

    Args:
        dsn: the database, as libpq takes it.
        identity: held while the worker serves.
        is_standby: whether it waits, from the start, while another worker serves the database.
    """

    def __init__(self, dsn: str, identity: IdentityFile, *, is_standby: bool = False) -> None:
        self._dsn = dsn
        self._file = identity
        self._waits = is_standby
        self._succeeds_hung = False
        self._random = random.Random()
        self._log = structlog.get_logger("pgpeer.worker")

    async def run(self, ready: Ready, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. A lost database is waited for, once it was there.

        A worker that was replaced by another one while it served waits like a standby.

        Args:
            ready: called once, with the peer id, when the worker serves.
            stop: ends the worker; it returns within five seconds.

        Raises:
            StoreError: the database cannot be reached at the start, or refuses the worker.
            IdentityError: the key is not that of the database.
        """
        failures = 0
        has_served = False
        is_known = False
        is_turn = not self._waits
        self._file.load()

        def serving(peer_id: str) -> None:
            nonlocal failures, has_served, is_known
            failures = 0
            self._waits = is_known = True
            if not has_served:
                has_served = True
                ready(peer_id)

        while not stop.is_set():
            try:
                if is_turn:
                    await self._shift(serving, stop)
                else:
                    standby = await Standby.begin(self._dsn)
                    failures, is_known = 0, True
                    self._succeeds_hung = await standby.wait(stop)
                    is_turn = True
            except (StoreError, IdentityError) as error:
                is_taken = error.code in ("worker_runs", "identity_in_use")
                if not ((is_taken and self._waits) or (error.retryable and is_known)):
                    raise
                is_turn = is_turn and not is_taken
                delay = next_delay(failures, self._random.random(), longest=1.0 if is_taken else 10.0)
                failures += 1
                self._log.warning("not serving", reason=str(error), retry_seconds=round(delay, 2))
                try:
                    await asyncio.wait_for(stop.wait(), delay)
                except TimeoutError:
                    pass

    async def _shift(self, serving: Ready, stop: asyncio.Event) -> None:
        """Serve until told to stop or until the database is lost."""
        async with AsyncExitStack() as stack:
            opened: list[Connection] = []
            for _ in fields(Connections):
                opened.append(await Connection.open(self._dsn))
                stack.push_async_callback(opened[-1].close)
            connections = Connections(*opened)
            await state.check_sessions(opened)
            await state.take_lock(connections.desk)
            answering = asyncio.get_running_loop().create_task(
                Answering(connections.desk, connections.read).run()
            )
            stack.push_async_callback(cancelled, answering)
            await state.enter_sessions(connections.desk, opened[1:])
            identity = stack.enter_context(await self._held(connections.desk))
            standing = await self._standing(connections, identity)
            await state.prepare_for_merging(connections.merge)
            office = Office(identity, standing.epoch, connections, is_ahead=standing.is_ahead)
            signer = Signer(identity, connections.seal, office.publish, office.dating.may_sign)
            sealer = office.sealer = Sealer(connections.seal, signer, office)
            merger = office.merger = Merger(
                connections.merge, connections.store, signer, office.reporter, office.settled
            )
            linker = Linker(office)
            await self._listen(office)
            await office.look()
            await office.postman.begin()
            for bundle_id in office.view.bundles:
                sealer.commit_notified(bundle_id)
                await office.check_join(bundle_id)
            loop = asyncio.get_running_loop()
            working = [loop.create_task(one) for one in (sealer.run(), merger.run())]
            waiting = [answering] + [
                loop.create_task(one)
                for one in (
                    linker.run(),
                    office.reporter.run(),
                    office.diagnostics.run(),
                    office.postman.run(),
                    self._look(office),
                    *(self._watch(lost) for lost in (office.lost, *(one.lost for one in opened))),
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
                await self._tell_ledger(connections.desk, error)
                raise error

    async def _held(self, desk: Connection) -> HeldIdentity:
        """Take the key; what is wrong with its ledger is told where people look."""
        try:
            return self._hold()
        except IdentityError as error:
            await self._tell_ledger(desk, error)
            raise

    async def _tell_ledger(self, desk: Connection, error: BaseException) -> None:
        """List a ledger that cannot be written, until a worker serves again: nothing is signed meanwhile."""
        if not isinstance(error, IdentityError) or error.code != "ledger" or desk.lost.is_set():
            return
        try:
            detail = f"Commits of this database are not signed, so nobody gets them: {error}"
            await state.report_problem(desk, "ledger_failed", "", detail, error.remedy)
        except StoreError as failure:
            self._log.warning("could not tell the problem", reason=str(failure))

    def _hold(self) -> HeldIdentity:
        """Take the key, also from a process that hangs and was replaced."""
        try:
            return self._file.hold()
        except IdentityError as error:
            if error.code != "identity_in_use" or not self._succeeds_hung:
                raise
        self._succeeds_hung = False
        try:
            release_files(self._file)
        except OSError as error:
            raise IdentityError(
                f"The identity '{self._file.path}' cannot be taken from a process that hangs: "
                f"{error.strerror}.",
                remedy="End that process, or give the worker the right to write the file and its directory.",
                code="identity_file",
            ) from error
        return self._file.hold()

    async def _standing(self, connections: Connections, identity: HeldIdentity) -> Standing:
        """Check that this database and this key belong together, and that no number would be used twice."""
        standing = await state.begin(connections.desk)
        key = identity.key
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
        is_elsewhere = await state.arrive(connections.desk, place(self._dsn))
        renewal = due_renewal(identity.ledger, standing, is_elsewhere=is_elsewhere)
        if renewal is None:
            return standing
        await state.renew_epoch(connections.desk)
        await state.announce(
            connections.desk, "epoch-renewed", code=renewal.code, detail=renewal.detail, hint=renewal.hint
        )
        self._log.warning("a new epoch begins", code=renewal.code, reason=renewal.detail)
        return await state.begin(connections.desk)

    async def _listen(self, office: Office) -> None:
        own = {office.connections.seal.pid, office.connections.merge.pid}

        def notified(channel: str, pid: int, payload: str) -> None:
            if channel == "pgpeer_journal":
                office.sealer.journal_notified()
            elif channel == "pgpeer_commit":
                if pid not in own:
                    office.sealer.commit_notified(UUID(payload))
            elif channel == "pgpeer_channel":
                office.postman.notified(payload)
            else:
                office.changed.set()

        await office.connections.desk.listen(CHANNELS, notified)

    async def _look(self, office: Office) -> None:
        """Look every few seconds, and at once when the configuration was changed."""
        clock = asyncio.get_running_loop().time
        joins = JoinWatch(office)
        setting = await office.connections.desk.value("SELECT current_setting('max_prepared_transactions')")
        longest = LOOK_SECONDS if setting == "0" else LOOK_FOR_PREPARED_SECONDS
        while True:
            await joins.look(clock(), unix_time())
            pause = min(longest, LOOK_SECONDS / 4) if office.view.joins else longest
            try:
                async with asyncio.timeout(pause):
                    await office.changed.wait()
            except TimeoutError:
                pass
            office.changed.clear()
            await office.look()

    @staticmethod
    async def _watch(lost: asyncio.Event) -> None:
        """Raise when a connection is lost."""
        await lost.wait()
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
