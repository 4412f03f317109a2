"""A hub process on a database: DSN."""

import asyncio
import sys

from pgpeer.hub.postgres import PostgresStore
from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits


async def main() -> None:
    async with Hub(store=PostgresStore(sys.argv[1], HubLimits())) as hub:
        print("ready", hub.url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
