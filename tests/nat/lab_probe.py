"""Asks STUN servers in the laboratory what kind of NAT this is."""

import asyncio
import json
import sys

from pgpeer.transport.nat_probe import probe_nat

report = asyncio.run(probe_nat(json.loads(sys.argv[1])["urls"]))
print(json.dumps({"event": "report", "mapping": report.mapping}), flush=True)
sys.stdin.read()
