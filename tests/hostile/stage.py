"""A worker under attack with an honest member beside it, and what must hold after each attack."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from fixtures.databases import Databases
from system.processes import Peer, Program, wait_until, wait_until_equal

from .crafting import Ground, ground_of
from .villain import Talk, Underworld, Villain

MEGABYTE = 1024 * 1024


class Stage:
    """ann is attacked; bob is honest."""

    def __init__(self, databases: Databases, directory: Path) -> None:
        self.hub = Program(directory / "hub.log", "hub_program.py", "0")
        url = self.hub.ready()
        self.underworld = Underworld()
        self._databases = [databases.create(label) for label in ("ann", "bob")]
        self.ann, self.bob = (Peer(one, directory, url) for one in self._databases)
        self._drop = databases.drop
        self._villains: list[Villain] = []
        self._url = url
        self._beat = 0
        ann, bob = self.ann, self.bob
        ann.run("CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL, population bigint)")
        ann.run("INSERT INTO public.city SELECT n, 'city ' || n, n * 1000 FROM generate_series(1, 200) AS n")
        ann.run("SELECT peer.create_bundle('atlas')")
        ann.run("SELECT peer.track('atlas', 'public.city')")
        ann.start()
        bob.start()
        bob.join(ann)
        self.invite = ann.value("SELECT peer.invite('atlas', uses => 1000)")
        self.ground: Ground = ground_of(ann)

    def end(self) -> None:
        self.leave()
        for peer in (self.ann, self.bob):
            if peer.worker is not None:
                peer.end()
        self.hub.end()
        self.underworld.end()
        for database in self._databases:
            self._drop(database)

    # Villains.

    def stranger(self, label: str = "villain") -> tuple[Villain, Talk]:
        """A peer that is nobody here; it gets a link because an invite is open."""
        villain = Villain(self.underworld, self._url, label)
        self._villains.append(villain)
        return villain, villain.talk(self.ann.peer_id)

    def member(self, label: str = "villain") -> tuple[Villain, Talk]:
        """A peer with the right to write."""
        villain, talk = self.stranger(label)
        villain.join(talk, self.invite)
        self.ann.wait_until(
            "SELECT EXISTS (SELECT FROM peer.member WHERE peer_id = %s AND role = 'writer')", villain.peer_id
        )
        return villain, talk

    def leave(self) -> None:
        """All villains go away."""
        for villain in self._villains:
            villain.end()
        self._villains.clear()

    def again(self, villain: Villain) -> Talk:
        return villain.talk(self.ann.peer_id)

    # What must hold.

    def rows(self) -> str:
        """What a villain could have changed: all rows but those of `goes_on`, and which of its commits are merged."""
        return str(
            self.ann.value(
                "SELECT (SELECT md5(string_agg(c::text, '' ORDER BY c.id)) FROM public.city AS c WHERE c.id NOT IN (199, 200))"
                " || (SELECT coalesce(string_agg(v.author || v.epoch || '/' || v.seq, ',' ORDER BY v.author, v.epoch), '')"
                " FROM peer.version_vector('atlas') AS v WHERE v.author NOT IN (%s, %s))",
                self.ann.peer_id,
                self.bob.peer_id,
            )
        )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        before = self.rows()
        yield
        after = self.rows()
        assert after == before, (before, after)

    def event(
        self, villain: Villain, kind: str = "peer-failed", *, has_phase: bool = True
    ) -> tuple[str, str, bool, str, str]:
        """Wait for what was told about a villain: phase, code, retryable, detail and hint of the last row."""
        query = (
            "SELECT phase, code, retryable, detail, hint FROM peer.event"
            " WHERE kind = %s AND peer_id = %s AND (phase IS NOT NULL) = %s ORDER BY id DESC LIMIT 1"
        )
        wait_until(
            lambda: bool(self.ann.run(query, kind, villain.peer_id, has_phase)),
            f"{kind} of {villain}",
            20,
            self.ann.log,
        )
        return self.ann.run(query, kind, villain.peer_id, has_phase)[0]  # type: ignore[return-value]

    def counted(self, villain: Villain, code: str, at_least: int = 1, kind: str = "peer-failed") -> None:
        self.ann.wait_until(
            "SELECT coalesce(sum(count), 0) >= %s FROM peer.failure WHERE peer_id = %s AND code = %s AND kind = %s",
            at_least,
            villain.peer_id,
            code,
            kind,
            seconds=15,
        )

    def blamed(self, villain: Villain, code: str, phases: tuple[str, ...] = ("sync", "transfer")) -> None:
        """It was told as a typed error, logged, and counted; nothing can be tried again."""
        phase, told, retryable, detail, hint = self.event(villain)
        assert (told, phase in phases, retryable) == (code, True, False), (told, phase, retryable, detail)
        assert detail.endswith(".")
        assert hint.endswith(".")
        self.counted(villain, code)
        log = self.ann.log.read_text()
        assert f'"peer": "{villain.peer_id}", "code": "{code}"' in log

    def goes_on(self, seconds: float = 10.0) -> float:
        """A write of ann arrives at bob, and one of bob at ann; gives how long that took."""
        self._beat += 1
        began = time.monotonic()
        self.ann.run("UPDATE public.city SET population = %s WHERE id = 199", self._beat)
        self.bob.run("UPDATE public.city SET population = %s WHERE id = 200", self._beat)
        query = "SELECT population = %s FROM public.city WHERE id = %s"
        self.bob.wait_until(query, self._beat, 199, seconds=seconds)
        self.ann.wait_until(query, self._beat, 200, seconds=seconds)
        return time.monotonic() - began

    def agree(self) -> None:
        wait_until_equal(self.ann, self.bob, seconds=20)

    @contextmanager
    def bounded(self, megabytes: int) -> Iterator[None]:
        """The worker takes at most so much more memory than before, at any moment."""
        assert self.ann.worker is not None
        process = psutil.Process(self.ann.worker.pid)
        before = most = process.memory_info().rss
        is_over = threading.Event()

        def watch() -> None:
            nonlocal most
            while not is_over.wait(0.02):
                most = max(most, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()
        grown = (most - before) / MEGABYTE
        print(f"worker grew by {grown:.0f} MiB to {most / MEGABYTE:.0f} MiB")
        assert grown < megabytes
