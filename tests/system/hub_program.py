"""A hub as a process: PORT [no-relay | TURN_URL].

With no-relay it refuses circuits; with a URL it gives credentials for that TURN server.
"""

import asyncio
import sys

from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.turn import TurnService


async def main() -> None:
    option = sys.argv[2] if sys.argv[2:] else ""
    limits = HubLimits(circuits_total=0) if option == "no-relay" else HubLimits()
    turn = TurnService((option,), b"secret") if option.startswith("turn:") else None
    async with Hub(port=int(sys.argv[1]), limits=limits, turn=turn) as hub:
        print("ready", hub.url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
