"""Which of several workers serves a database: one does, others stand by, for when it dies or hangs.

The session that holds the worker's lock in the database is the one that serves; the other sessions of a
worker hold a second lock, shared. A successor gets the first lock when its holder's session is over, and
waits for the second, so that no session of the former worker can write any more when it begins. A worker that
does not answer, because its process or its machine is frozen or cut off, has its sessions ended by who stands
by.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import structlog

from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.ledger import sync_directory
from pgpeer.store import state
from pgpeer.store.database import Connection

ASK_SECONDS: Final = 1.0
"""How often a standby looks and asks."""

UNANSWERED: Final = 6
"""After so many questions without an answer the worker is taken to hang."""

ASKED: Final = "pgpeer_standby"
ANSWERED: Final = "pgpeer_answer"


class Answering:
    """Answers those who stand by; nothing is done and written while there are none.

    Args:
        listener: hears the questions.
        speaker: another connection, which is never busy for long.
    """

    def __init__(self, listener: Connection, speaker: Connection) -> None:
        self._listener = listener
        self._speaker = speaker
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        await self._listener.listen([ASKED], lambda *_: self._asked.set())
        while True:
            await self._asked.wait()
            self._asked.clear()
            await state.notify(self._speaker, ANSWERED)


class Standby:
    """Waits until a database needs a worker.

    Args:
        connection: used by nothing else; `wait` closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._log = structlog.get_logger("pgpeer.standby")

    @classmethod
    async def begin(cls, dsn: str) -> Standby:
        """Connect to a database, given as libpq takes it.

        Raises:
            StoreError: it cannot be reached, or not by a session of one's own.
        """
        connection = await Connection.open(dsn)
        try:
            second = await Connection.open(dsn)
            try:
                await state.check_sessions([connection, second])
            finally:
                await second.close()
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def wait(self, stop: asyncio.Event) -> bool:
        """Return when nobody serves the database or `stop` is set.

        Returns:
            Whether the worker before hung and was ended, so that its process may still hold its files.

        Raises:
            StoreError: the database is lost, or this role may not end the sessions of a worker that hangs.
        """
        try:
            return await self._wait(stop)
        finally:
            await self._connection.close()

    async def _wait(self, stop: asyncio.Event) -> bool:
        connection = self._connection
        unanswered = 0
        has_ended = False

        def answered(*_: object) -> None:
            nonlocal unanswered, has_ended
            unanswered, has_ended = 0, False

        await connection.listen([ANSWERED], answered)
        self._log.info("standing by")
        while not stop.is_set():
            if await state.is_unserved(connection):
                return has_ended
            if unanswered >= UNANSWERED:
                count = await state.end_sessions(connection)
                self._log.warning("the worker hangs, its sessions were ended", sessions=count)
                has_ended, unanswered = True, 0
                continue
            unanswered += 1
            await state.notify(connection, ASKED)
            try:
                await asyncio.wait_for(stop.wait(), ASK_SECONDS)
            except TimeoutError:
                pass
        return False


def release_files(identity: IdentityFile) -> None:
    """Take the identity file away from a frozen process that holds it: put a copy in its place.

    To be called only by who holds the worker's lock, after the sessions of the frozen worker were ended. What
    that process signs later can neither be stored nor sent, and its ledger is not this file any more.

    Raises:
        OSError: the file cannot be copied.
    """
    path: Path = identity.path
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as copy, path.open("rb") as original:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)
