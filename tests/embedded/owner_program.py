"""Run as a process of its own: owns a cluster, prints what a test must know, then waits to be killed."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import threading
import time

from pgpeer.embedded import Cluster


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--throw-away", action="store_true")
    parser.add_argument("--from-thread", action="store_true", help="start in a thread that ends afterwards")
    parser.add_argument("--account", help="become this account first, as an ordinary user would be")
    parser.add_argument("--bindir")
    chosen = parser.parse_args()
    if chosen.account:
        entry = pwd.getpwnam(chosen.account)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    settings = {"fsync": "off"}
    cluster = Cluster(chosen.data, persistent=not chosen.throw_away, settings=settings, bindir=chosen.bindir)
    if chosen.from_thread:
        thread = threading.Thread(target=cluster.start)
        thread.start()
        thread.join()
    else:
        cluster.start()
    print(json.dumps({"pid": cluster.pid, "dsn": cluster.dsn()}), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
