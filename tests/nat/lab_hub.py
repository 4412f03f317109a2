"""A hub in the laboratory, with a STUN server on two ports beside it."""

from __future__ import annotations

import asyncio
import json
import sys

from stun_server import Stun

from pgpeer.hub.server import Hub
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.turn import TurnService


async def main() -> None:
    options = json.loads(sys.argv[1])
    if options["stun"]:
        for port in (3478, 3479):
            await asyncio.get_running_loop().create_datagram_endpoint(
                Stun, local_addr=(options["host"], port)
            )
    limits = HubLimits() if options["relay"] else HubLimits(circuits_total=0)
    secret = options["turn_secret"].encode()
    turn = TurnService((options["turn_url"],), secret) if secret else None
    async with Hub(options["host"], options["port"], limits, turn=turn):
        print(json.dumps({"event": "ready"}), flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
