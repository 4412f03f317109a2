"""A hub process on a database: DSN [LEASE]. With a lease no registration stands for longer without being renewed."""

import asyncio
import sys

from pgpeer.hub.postgres import PostgresStore
from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits


async def main() -> None:
    limits = HubLimits(registration_seconds=int(sys.argv[2])) if sys.argv[2:] else HubLimits()
    async with Hub(store=PostgresStore(sys.argv[1], limits)) as hub:
        print("ready", hub.url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
