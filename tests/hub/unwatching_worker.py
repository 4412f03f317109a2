"""A worker as a process, DSN IDENTITY_FILE, that watches nobody's presence, as if it knew too many peers for that."""

import sys
from pathlib import Path

from pgpeer.worker import hubs
from pgpeer.worker.run import WorkerSettings, configure_logs, main

hubs.WATCHED_LIMIT = 0  # type: ignore[misc]
configure_logs("info", as_json=True)
main(
    WorkerSettings(sys.argv[1], Path(sys.argv[2])),
    ready=lambda peer_id: print("ready", peer_id, flush=True),
)
