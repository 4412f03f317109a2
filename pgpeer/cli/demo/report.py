"""What the demo prints."""

from __future__ import annotations

import json
import time
from typing import Final, Self

from rich.markup import escape

from pgpeer.cli.demo.atlas import BUNDLE, TABLES
from pgpeer.cli.demo.stage import Place, Stage
from pgpeer.cli.demo.story import Apart, Filled, Together, count, state_hash
from pgpeer.cli.log import graphed
from pgpeer.cli.output import console
from pgpeer.errors import PgpeerError

_SHOWN_COMMITS: Final = 20


class Report:
    """Prints the demo's progress and results on standard output; use it in a `with` statement.

    In a terminal a line at the end shows that something goes on.
    """

    def __init__(self) -> None:
        self._console = console()
        self._start = time.monotonic()
        self._status = self._console.status("starting")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def act(self, title: str) -> None:
        """Begins an act, with the seconds since the start."""
        self._console.print(f"\n[bold]{time.monotonic() - self._start:5.1f} s  {escape(title)}[/]")
        self._status.update(escape(title))

    def line(self, text: str) -> None:
        """A line of an act."""
        self._console.print(f"         {text}", markup=False, soft_wrap=True)

    def stage(self, stage: Stage) -> None:
        """What runs."""
        assert stage.hub is not None
        kind = "durable" if stage.keep else "throw-away, so without fsync"
        for place in stage.places:
            assert place.worker is not None
            self.line(
                f"{place.name}: PostgreSQL {place.cluster.version} ({kind}), no TCP port, "
                f"pid {place.cluster.pid}; worker pid {place.worker.pid}, peer {place.worker.told[:12]}…"
            )
        self.line(f"hub {stage.hub.told}, pid {stage.hub.pid}")

    def filled(self, found: Filled) -> None:
        """How the tables got to the second peer."""
        self.line(f"paris loaded {found.rows} rows in {found.load_seconds:.2f} s")
        self.line(f"paris tracked {', '.join(TABLES)} in {found.track_seconds:.2f} s: they are commits now")
        rate = found.rows / found.join_seconds
        self.line(
            f"tokyo joined by invite: tables, keys and {found.rows} rows in {found.join_seconds:.2f} s "
            f"({rate:,.0f} rows/s)"
        )
        path = found.path
        if path.local_candidate is None:
            self.line(f"path: {path.path} ({path.engine})")
            return
        self.line(f"path: {path.path} ({path.engine}), selected candidate pair:")
        self.line(f"    tokyo  {path.local_candidate}")
        self.line(f"    paris  {path.remote_candidate}")

    def together(self, found: Together) -> None:
        """How both edited at once."""
        self.line(
            f"{found.statements} transactions on both at once, agreed after {found.agree_seconds:.2f} s"
        )
        self.line(f"one row, commit on paris to visible on tokyo: median {found.latency_milliseconds:.1f} ms")
        self.line(
            f"on the wire so far: tokyo sent {_bytes(found.bytes_sent)}, got {_bytes(found.bytes_received)}"
        )

    def apart(self, found: Apart) -> None:
        """How both edited while the link was cut."""
        noticed = (
            "" if found.noticed_seconds is None else f", noticed by paris after {found.noticed_seconds:.1f} s"
        )
        self.line(f"link cut for {found.cut_seconds:.1f} s (worker of tokyo killed with -9){noticed}")
        self.line(f"worker started again: reconnected and agreed after {found.agree_seconds:.2f} s")
        self.line(
            f"on the wire since: tokyo sent {_bytes(found.bytes_sent)}, got {_bytes(found.bytes_received)}"
        )
        row = {name: found.merged_row[name] for name in ("name", "population")}
        self.line(f"two columns of one row merged: {_json(row)} (name by tokyo, population by paris)")
        self.line(f"deleted by tokyo, gone on both: {found.deleted[1]} ({found.deleted[2]})")

    def outcome(self, paris: Place, tokyo: Place) -> None:
        """The state of both, the conflict and the log.

        Raises:
            PgpeerError: the two databases are not equal, or there is not exactly one conflict on each.
        """
        self.act("both report")
        hashes = [state_hash(place) for place in (paris, tokyo)]
        for place, found in zip((paris, tokyo), hashes, strict=True):
            counts = ", ".join(f"{table} {count(place, table)}" for table in TABLES)
            self.line(f"{place.name}: {counts}; state hash {found}")
        if hashes[0] != hashes[1]:
            raise PgpeerError(
                "The two databases differ.", remedy="This is a fault of pgpeer: please report it."
            )
        conflicts = [place.rows(_CONFLICTS, BUNDLE) for place in (paris, tokyo)]
        if conflicts[0] != conflicts[1] or len(conflicts[0]) != 1:
            raise PgpeerError(
                f"One conflict was expected on both, but there are {[len(found) for found in conflicts]}.",
                remedy="This is a fault of pgpeer: please report it.",
            )
        for identifier, relation, key, column, base, winning, losing, winner, loser in conflicts[0]:
            self.line(f"one conflict, the same on both, id {identifier}:")
            self.line(f"    {relation} {_json(key)}, column {column}, was {_json(base)}")
            self.line(f"    stands: {_json(winning)} by {winner};  kept aside: {_json(losing)} by {loser}")
        self._log(paris)

    def _log(self, place: Place) -> None:
        rows = [row[0] for row in place.rows("SELECT row_to_json(l) FROM peer.log(%s) AS l", BUNDLE)]
        self.act(f"the commit log ({len(rows)} commits; pgpeer log --graph)")
        for line in graphed(rows[:_SHOWN_COMMITS]):
            self.line(line)
        if len(rows) > _SHOWN_COMMITS:
            self.line(f"… and {len(rows) - _SHOWN_COMMITS} older ones")

    def how_to_connect(self, stage: Stage) -> None:
        """How to look at both databases."""
        if stage.keep:
            self.act("everything runs on; look at it, and change something")
        else:
            self.act("done; with --keep everything would run on, and you could look at it with")
        for place in stage.places:
            self.line(f"psql '{place.dsn}'")
        for place in stage.places:
            if stage.keep:
                self.line(f"PGPEER_DSN='{place.dsn}' pgpeer log --graph")
        if stage.keep:
            self.line(f"pgpeer demo --stop {stage.folder}")


_CONFLICTS: Final = """
    SELECT x.conflict_id, x.relation::text, x.key, x.column_name, x.base_value,
           x.winning_value, x.losing_value, coalesce(w.label, w.peer_id),
           coalesce(l.label, l.peer_id)
      FROM peer.conflict AS x
      JOIN peer_internal.author AS w ON w.peer_id = x.winning_author
      JOIN peer_internal.author AS l ON l.peer_id = x.losing_author
     WHERE x.bundle = %s ORDER BY 1
"""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _bytes(number: int) -> str:
    return f"{number / 1000:,.1f} kB" if number < 1_000_000 else f"{number / 1_000_000:,.2f} MB"
