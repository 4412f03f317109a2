"""A hub as a process: PORT."""

import asyncio
import sys

from pgpeer.hub.server import Hub


async def main() -> None:
    async with Hub(port=int(sys.argv[1])) as hub:
        print("ready", hub.url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
