"""A hub as a process: PORT [no-relay]."""

import asyncio
import sys

from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits


async def main() -> None:
    limits = HubLimits(circuits_total=0) if sys.argv[2:] == ["no-relay"] else HubLimits()
    async with Hub(port=int(sys.argv[1]), limits=limits) as hub:
        print("ready", hub.url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
