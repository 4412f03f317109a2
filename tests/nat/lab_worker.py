"""A real worker in the laboratory; its database is reached through a socket file, from any namespace."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pgpeer.worker.run import WorkerSettings, configure_logs, main

options = json.loads(sys.argv[1])
configure_logs("info", as_json=True)
main(
    WorkerSettings(options["dsn"], Path(options["identity"])),
    ready=lambda peer_id: print(json.dumps({"event": "ready", "peer": peer_id}), flush=True),
)
