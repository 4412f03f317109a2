"""The steps inside the database: seal changes into a commit, receive one, merge it; the room it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from bench import rows
from bench.bed import Bed, Place
from bench.clock import checkpoint, seconds
from bench.figures import Figure
from bench.sizes import Sizes
from pgpeer.commit.header import Header
from pgpeer.commit.signature import sign_commit
from pgpeer.store import commits
from pgpeer.store.commits import ReceivedCommit
from pgpeer.store.database import Connection
from pgpeer.store.state import prepare_for_merging

_SIZE: Final = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint
      FROM pg_class AS c WHERE c.relnamespace = 'peer_internal'::regnamespace AND c.relkind = 'r'
       AND c.relname NOT LIKE 'journal%'
"""
_SECTIONS: Final = """
    SELECT s.section_no, s.data
      FROM peer_internal.section AS s JOIN peer_internal.commit AS c USING (commit_no)
     WHERE c.digest = %s ORDER BY s.section_no
"""
_UNSIGNED: Final = "SELECT digest, header FROM peer_internal.worker_unsigned(%s)"
_HELD: Final = "SELECT coalesce(sum(pg_column_size(s.data)), 0)::bigint FROM peer_internal.section AS s"


def measure_seal(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Sealing, on a database without a worker, and the room that the commits occupy."""
    place = _author(bed, "seal", sizes)
    bundle_id = place.value("SELECT bundle_id FROM peer_internal.bundle")
    took: dict[str, list[float]] = {"INSERT": [], "UPDATE of one column": [], "DELETE": []}
    room: dict[str, tuple[list[float], list[float]]] = {op: ([], []) for op in took}
    for _ in range(sizes.repetitions):
        for (op, times), statement in zip(took.items(), _STATEMENTS, strict=True):
            place.run(statement)
            before = _room(place)
            checkpoint(place.connection)
            times.append(seconds(place.connection, "SELECT peer_internal.seal_bundle(%s)", bundle_id))
            after = _room(place)
            for values, n in zip(room[op], range(2), strict=True):
                values.append((after[n] - before[n]) / sizes.rows)
    for op, times in took.items():
        yield Figure(
            "seal", f"seal {sizes.rows:,} rows, {op}", "rows/s", tuple(sizes.rows / x for x in times)
        )
    for op, (whole, _) in room.items():
        reach = "≤ 20 B (keys and bookkeeping)" if op == "DELETE" else ""
        what = "keys and bookkeeping alone" if op == "DELETE" else "history of the values included"
        yield Figure(
            "seal", f"stored per row by the commit of a bulk {op}: {what}", "B", tuple(whole), reach=reach
        )
    bed.drop(place)


def _room(place: Place) -> tuple[int, int]:
    """What pgpeer's tables occupy without what is only there until vacuum, and the section data in that."""
    place.run("VACUUM")
    return place.value(_SIZE), place.value(_HELD)


def measure_merge(bed: Bed, sizes: Sizes) -> Iterator[Figure]:
    """Receiving and merging, by the calls that the worker makes, beside the same statement done locally."""
    author = _author(bed, "merge", sizes)
    reader = bed.peer(bed.right, "merge")
    bundle_id = author.value("SELECT bundle_id FROM peer_internal.bundle")
    reader.run("SELECT peer_internal.adopt_bundle(%s, 'work', 'auto')", bundle_id)
    rows.create(reader.connection, "plain")
    reader.run("CREATE TABLE source AS TABLE plain")
    reader.run(f"INSERT INTO source {rows.rows(1, sizes.rows)}")
    reader.run("VACUUM ANALYZE source")
    merging = _Merging(author, reader, bundle_id)
    with asyncio.Runner() as runner:
        runner.run(merging.take())  # the tables
        names = ("INSERT", "UPDATE of one column", "DELETE")
        stored: dict[str, list[float]] = {op: [] for op in names}
        merged: dict[str, list[float]] = {op: [] for op in names}
        plain: dict[str, list[float]] = {op: [] for op in names}
        for _ in range(sizes.repetitions):
            for op, statement in zip(names, _STATEMENTS, strict=True):
                checkpoint(reader.connection)
                plain[op].append(sizes.rows / seconds(reader.connection, statement.replace("work", "plain")))
                author.run(statement)
                author.run("SELECT peer_internal.seal_bundle(%s)", bundle_id)
                checkpoint(author.connection, reader.connection)
                storing, merge = runner.run(merging.take())
                stored[op].append(sizes.rows / storing)
                merged[op].append(sizes.rows / merge)
            author.run("VACUUM ANALYZE work")
            reader.run("VACUUM ANALYZE")
    for op in names:
        name = f"merge {sizes.rows:,} rows, {op}"
        yield Figure(
            "merge", name, "rows/s", tuple(merged[op]), tuple(plain[op]), "local statement, untracked"
        )
    for op in names:
        yield Figure("merge", f"store {sizes.rows:,} received rows, {op}", "rows/s", tuple(stored[op]))
    bed.drop(author)
    bed.drop(reader)


_STATEMENTS: Final = (
    "INSERT INTO work SELECT * FROM source",
    "UPDATE work SET b = b + 1",
    "DELETE FROM work",
)


def _author(bed: Bed, name: str, sizes: Sizes) -> Place:
    """A database on the left with an empty tracked table `work` and rows for it in `source`."""
    place = bed.peer(bed.left, name)
    rows.create(place.connection, "source", "work")
    place.run(f"INSERT INTO source {rows.rows(1, sizes.rows)}")
    place.run("VACUUM ANALYZE source")
    place.run("SELECT peer.create_bundle('work', 'manual')")
    place.run("SELECT peer.track('work', 'public.work')")
    return place


class _Merging:
    """Takes commits from one database to the other as a worker would, without a network between."""

    def __init__(self, author: Place, reader: Place, bundle_id: UUID) -> None:
        self._author = author
        self._reader = reader
        self._bundle_id = bundle_id

    async def take(self) -> tuple[float, float]:
        """Takes all commits that are not there yet; the seconds to store them and to merge them."""
        assert self._author.key is not None
        key = self._author.key
        connection = await Connection.open(self._reader.dsn)
        try:
            await prepare_for_merging(connection)
            storing = merging = 0.0
            for own in self._author.run(_UNSIGNED, self._bundle_id):
                digest, header = bytes(own[0]), bytes(own[1])
                signature = sign_commit(key, digest)
                self._author.run("SELECT peer_internal.attach_signature(%s, %s)", digest, signature)
                sections = self._author.run(
                    _SECTIONS,
                    digest,
                )
                commit = ReceivedCommit(digest, Header.decode(header), header, signature, ())
                began = time.perf_counter()
                await commits.receive_header(connection, commit)
                for number, data in sections:
                    await commits.receive_section(connection, digest, number, data)
                stored = time.perf_counter()
                merged = await commits.merge(connection, self._bundle_id, 50)
                ended = time.perf_counter()
                if merged.count != 1:
                    raise RuntimeError(f"the commit was not merged: {merged.held}")
                storing += stored - began
                merging += ended - stored
            return storing, merging
        finally:
            await connection.close()
