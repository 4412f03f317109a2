"""Signals to peers at other processes of the hub: sent with a number, answered with their fate."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from pgpeer.errors import HubError
from pgpeer.hub.store import Elsewhere, FateNotice, HubStore, SignalNotice
from pgpeer.signaling.server import SignalRequested

FATE_SECONDS: Final = 5.0


class Forwarding:
    """The signals of one process that are on their way to others."""

    def __init__(self, store: HubStore) -> None:
        self._store = store
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}

    async def send(self, away: Elsewhere, sender: str, event: SignalRequested) -> str:
        """Give a signal to the process where its recipient is, and wait for its fate, at most 5 s.

        Returns:
            'delivered', 'offline', 'target_overloaded', 'timeout', or 'internal' when the process cannot be
            told.
        """
        number = next(self._numbers)
        fate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = fate
        notice = SignalNotice(self._store.process, number, sender, event.to, event.sid, event.box)
        try:
            async with asyncio.timeout(FATE_SECONDS):
                await self._store.send(away.process, notice)
                return await fate
        except TimeoutError:
            return "timeout"
        except HubError as error:
            return error.code
        finally:
            del self._waiting[number]

    async def answer(self, notice: SignalNotice, fate: str) -> None:
        """Tell another process what became of its signal."""
        try:
            await self._store.send(notice.process, FateNotice(notice.number, fate))
        except HubError:
            pass  # the sender gets `timeout`

    def settle(self, notice: FateNotice) -> None:
        """Take the fate of one of our signals."""
        waiting = self._waiting.get(notice.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(notice.fate)
