"""A worker as a process: DSN IDENTITY_FILE [no-udp | standby].

With no-udp its datagrams vanish, as behind a strict firewall; with standby it waits for its turn.
"""

import asyncio
import asyncio.selector_events
import sys
from pathlib import Path

from pgpeer.errors import PgpeerError
from pgpeer.worker import run
from pgpeer.worker.run import WorkerSettings, configure_logs, main

configure_logs("info", as_json=True)
if sys.argv[3:] == ["no-udp"]:
    asyncio.selector_events._SelectorDatagramTransport.sendto = lambda *_: None  # type: ignore[attr-defined]
    run._fast_loop = lambda: asyncio.new_event_loop
try:
    main(
        WorkerSettings(sys.argv[1], Path(sys.argv[2]), is_standby=sys.argv[3:] == ["standby"]),
        ready=lambda peer_id: print("ready", peer_id, flush=True),
    )
except PgpeerError as error:
    print(f"{error} {error.remedy}", file=sys.stderr, flush=True)
    raise SystemExit(1) from error
