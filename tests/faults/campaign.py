"""A campaign of kills over two peers and their hub, and the audit after it."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from fixtures.databases import Databases
from system.processes import Program, wait_until, wait_until_equal

from faults.site import SHARED_ROWS, TABLES, Site

RECOVERY_SECONDS = 120.0

CONFLICTS = "SELECT conflict_id, winning_value, losing_value, state FROM peer.conflict WHERE scope = 'bundle' ORDER BY 1"


class Campaign:
    """Kills processes at random moments while both sides write.

    Args:
        seed: decides what is killed when; the moments themselves are the machine's.
        workers: how many workers each peer has; the second and later ones stand by.
    """

    def __init__(self, databases: Databases, directory: Path, seed: int, workers: int = 1) -> None:
        self.done: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._stack = ExitStack()
        self._directory = directory
        self._hub = self._start_hub("0")
        try:
            self._url = self._hub.ready()
            ann, bob = (
                self._stack.enter_context(Site(databases, directory, name, self._url, seed + number))
                for number, name in enumerate(("ann", "bob"))
            )
            self.sites = (ann, bob)
            self._begin(workers)
        except BaseException:
            self.close()
            raise

    def _begin(self, workers: int) -> None:
        """Make the bundle, start the workers, and let the second peer join."""
        ann, bob = self.sites
        ann.peer.run(TABLES)
        ann.peer.run("INSERT INTO public.shared SELECT n FROM generate_series(1, %s) AS n", SHARED_ROWS)
        ann.peer.run("SELECT peer.create_bundle('atlas')")
        for table in ("note", "remark", "counter", "shared"):
            ann.peer.run("SELECT peer.track('atlas', %s::text::regclass)", f"public.{table}")
        for site in self.sites:
            site.start_workers(workers)
        bob.peer.join(ann.peer)

    def close(self) -> None:
        """End everything."""
        self._stack.close()
        self._hub.end(signal.SIGKILL)

    def run(self, kills: int) -> None:
        """Write and kill."""
        for site in self.sites:
            site.writer.start()
        while self.done.total() < kills:
            time.sleep(self._chance.uniform(0.05, 1.8))
            self._kill()
            for site in self.sites:
                site.revive()
        time.sleep(0.5)
        for site in self.sites:
            site.writer.stop()

    def audit(self) -> None:
        """Wait until both are equal again, and compare them with what their writers were told."""
        deadline = time.monotonic() + RECOVERY_SECONDS

        def are_linked() -> bool:
            for site in self.sites:
                site.revive()
            return all(site.peer.value("SELECT EXISTS (SELECT FROM peer.connection)") for site in self.sites)

        ann, bob = (site.peer for site in self.sites)
        wait_until(are_linked, "a link after the kills", RECOVERY_SECONDS, ann.log)
        wait_until_equal(ann, bob, seconds=max(deadline - time.monotonic(), 30.0))
        for site in self.sites:
            self._compare(site)
        assert ann.run(CONFLICTS) == bob.run(CONFLICTS)

    def _compare(self, told: Site) -> None:
        """Compare what one writer was told with both databases."""
        ledger = told.writer.ledger
        assert ledger.size > self.done.total(), "hardly anything was written"
        assert told.writer.refusals == []
        for site in self.sites:
            peer = site.peer
            notes = {row[0] for row in peer.run("SELECT id FROM public.note")}
            assert ledger.here - notes == set(), f"lost at {site.name}"
            assert ledger.gone & notes == set(), f"came back at {site.name}"
            remarks = {row[0] for row in peer.run("SELECT note FROM public.remark")}
            assert ledger.pairs - remarks == set(), f"torn at {site.name}"
            counted = peer.run("SELECT n FROM public.counter WHERE id = %s", told.name)
            assert ledger.counted <= (counted[0][0] if counted else 0) <= ledger.tried
            problems = "SELECT kind, detail FROM peer.problem WHERE kind NOT IN ('hub_unreachable', 'peer_unreachable')"
            assert peer.run(problems) == []
            assert peer.value("SELECT bool_and(signed) FROM peer.log('atlas')")
        assert told.surprises() == []

    def _kill(self) -> None:
        site = self._chance.choice(self.sites)
        what = self._chance.choices(["worker", "server", "hub"], [6, 3, 1])[0]
        is_done = True
        match what:
            case "worker":
                site.kill_worker(self._chance)
            case "server":
                is_done = site.kill_server(self._chance)
            case _:
                self._hub.end(signal.SIGKILL)
                self._hub = self._start_hub(self._url.rpartition(":")[2])
                self._hub.ready()
        self.done[what] += is_done

    def _start_hub(self, port: str) -> Program:
        return Program(self._directory / "hub.log", "hub_program.py", port)
