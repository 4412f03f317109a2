"""What a hub process does beside its conversations, until it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from pgpeer.errors import HubError
from pgpeer.hub.desk import Desk
from pgpeer.hub.store import HubStore

SWEEP_SECONDS: Final = 5.0
TICK_SECONDS: Final = 1.0
DEAL_SECONDS: Final = 0.02
GATHER_SECONDS: Final = 0.02
"""Arrivals and departures of so much time are announced together."""


class Chores:
    """The tasks of a hub process."""

    def __init__(self, store: HubStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, desk: Desk) -> None:
        """Start what runs all the time."""
        for chore in (self._sweep(desk), self._tick(desk), self._deal(desk), self._announce(desk)):
            self.spawn(chore)
        self.relearn(desk)

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something until it is done, or until the hub stops."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def relearn(self, desk: Desk) -> None:
        """Start anew with the other processes: notices may have been missed."""
        desk.switchboard.announce_all()
        desk.announced.set()
        desk.rendezvous.missed()
        for conversation in desk.switchboard.online:
            desk.mailroom.arrived(conversation)
        desk.look_for_mail()
        self.spawn(self._learn(desk))

    async def failed(self) -> None:
        """Wait until something goes wrong that must not: raises what it was."""
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """End everything."""
        if self._failed.done():
            self._failed.exception()  # whoever wanted to know has asked
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _sweep(self, desk: Desk) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._store.sweep()
            except HubError:
                desk.tally["sweep", "failed"] += 1

    async def _tick(self, desk: Desk) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            desk.tick()

    async def _deal(self, desk: Desk) -> None:
        """Deal out allowances as the quotas fill again."""
        while True:
            await desk.claimed.wait()
            await asyncio.sleep(DEAL_SECONDS)
            desk.deal()

    async def _announce(self, desk: Desk) -> None:
        """Tell the other processes who came and who left."""
        while True:
            await desk.announced.wait()
            await asyncio.sleep(GATHER_SECONDS)
            desk.announced.clear()
            changes = desk.switchboard.take_unannounced()
            online = {peer_id: label for peer_id, label in changes.items() if label is not None}
            offline = [peer_id for peer_id, label in changes.items() if label is None]
            if not changes:
                continue
            try:
                desk.switchboard.confirm(await self._store.announce(online, offline))
            except HubError:
                desk.switchboard.announce_again(changes)
                desk.announced.set()
                await asyncio.sleep(TICK_SECONDS)
            desk.wake_touched()

    async def _learn(self, desk: Desk) -> None:
        while True:
            try:
                desk.switchboard.learn(await self._store.presence())
            except HubError:
                await asyncio.sleep(TICK_SECONDS)
                continue
            desk.wake_touched()
            return
