"""Two databases that share a bundle, for tests of what a user's writes become.

`Ground` is a pair of databases that tests use one after the other; `Shelf` is one test's bundle on it. The
databases play the worker's part by hand, through `merge.replica`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from fixtures.databases import Database, Databases
from merge.replica import Envelope, Replica
from psycopg import sql

OWN_SCHEMAS = "('peer', 'peer_internal', 'information_schema')"


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A row of peer.status: an operation on a key, given as JSON text, and the changed columns."""

    table: str
    operation: str
    key: str
    columns: tuple[str, ...] = ()


class Shelf:
    """A bundle named `shelf`: `here` made it and tracks the tables, `there` got them through commits."""

    def __init__(self, here: Replica, there: Replica, mode: str) -> None:
        self.here, self.there, self.mode = here, there, mode
        self.tables: list[str] = []

    @property
    def both(self) -> tuple[Replica, Replica]:
        return self.here, self.there

    def open(self, ddl: Sequence[str], tables: Sequence[str]) -> None:
        """Make the tables and the bundle here; hand them over to the other side."""
        self.here.write(*ddl)
        self.here.create("shelf", self.mode, [])
        self.there.adopt(self.here.bundle_id, "shelf", self.mode)
        self.track(*tables)

    def track(self, *tables: str) -> None:
        """Track more tables (quoted names) and exchange."""
        for table in tables:
            self.here.execute("SELECT peer.track('shelf', %s::regclass)", table)
            self.tables.append(table)
        self.exchange()

    def require(self, version: int, what: str) -> None:
        """Skip the test on servers that lack something."""
        number = self.here.connection.info.server_version // 10000
        if number < version:
            pytest.skip(f"PostgreSQL {number} has no {what}")

    def changes(self, replica: Replica | None = None) -> list[Change]:
        """What is not committed yet, as peer.status tells it."""
        rows = (replica or self.here).execute(
            "SELECT relation::text, operation, key::text, columns FROM peer.status('shelf')"
        )
        return sorted(Change(table, operation, key, tuple(names)) for table, operation, key, names in rows)

    def log(self, replica: Replica) -> set[str]:
        """The commits that are merged at a side."""
        return {commit_id for (commit_id,) in replica.execute("SELECT commit_id FROM peer.log('shelf')")}

    def commit(self) -> Envelope:
        """Commit here; exactly one commit comes of it."""
        before = self.here.merged()
        assert self.here.commit() is not None
        (envelope,) = self.here.outgoing(before)
        return envelope

    def carry(self) -> list[Envelope]:
        """Commit on both sides and let each have what the other has; the commits that `here` made."""
        for replica in self.both:
            replica.commit()
        made = self.here.outgoing(self.there.merged())
        back = self.there.outgoing(self.here.merged())
        for replica, envelopes in ((self.there, made), (self.here, back)):
            outcomes = replica.deliver(envelopes)
            assert all(outcome == "merged" for _, outcome, _ in outcomes), outcomes
        return made

    def exchange(self) -> list[Envelope]:
        """Carry everything to and fro, then hold both sides against each other; what `here` had made."""
        untouched = not self.changes(self.there) and self.log(self.there) <= self.log(self.here)
        before = [self.rows(self.here, table) for table in self.tables]
        made = self.carry()
        for replica in self.both:
            assert self.changes(replica) == [], "a merge, or a commit, left uncommitted changes"
            assert replica.problems() == [], replica.problems()
        for table, rows in zip(self.tables, before, strict=True):
            if untouched:
                assert self.rows(self.here, table) == rows, "an exchange changed rows that only `here` wrote"
            mine, theirs = self.rows(self.here, table), self.rows(self.there, table)
            assert theirs == mine, told(table, mine, theirs)
        assert self.here.state_hash() == self.there.state_hash()
        assert self.here.vector() == self.there.vector()
        assert self.here.merged() == self.there.merged()
        return made

    def attempt(self, statement: str) -> psycopg.DatabaseError | None:
        """Run a statement here; the error that it ends with, if it does."""
        try:
            self.here.execute(statement)
        except psycopg.DatabaseError as error:
            return error
        return None

    def rows(self, replica: Replica, table: str) -> list[str]:
        """Every row of a table with all its columns, by COPY, past all of pgpeer."""
        ((names,),) = self.here.execute(
            "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            table,
        )
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, sql.SQL(table))
        with replica.connection.cursor().copy(statement) as copy:
            text = b"".join(bytes(part) for part in copy).decode()
        return sorted(text.split("\n")[:-1])

    def sections(self, envelope: Envelope) -> list[tuple[str, int]]:
        """Operation and number of rows of each section of a commit."""
        return sorted((section.op, section.rows) for section in envelope.decoded().sections)


def told(table: str, mine: list[str], theirs: list[str]) -> str:
    """The fields in which two sides differ, in a few lines."""
    lines = [f"{table}: {len(mine)} rows here, {len(theirs)} there"]
    for a, b in zip(mine, theirs, strict=False):
        if a != b:
            fields = enumerate(zip(a.split("\t"), b.split("\t"), strict=True))
            lines.append("; ".join(f"field {n}: {x!r} -> {y!r}" for n, (x, y) in fields if x != y))
    return "\n".join(lines[:20])


@dataclass(slots=True)
class Ground:
    """Two databases; a test leaves them as it found them."""

    databases: Databases
    versions: tuple[str, str]
    _pair: list[Database] = field(default_factory=list)
    _replicas: list[Replica] = field(default_factory=list)

    def pair(self) -> list[Database]:
        """The two databases, made when they are needed."""
        if not self._pair:
            self._pair = [
                self.databases.create(label, self.databases.cluster(version))
                for label, version in zip(("here", "there"), self.versions, strict=True)
            ]
        return self._pair

    def shelf(self, mode: str) -> Shelf:
        """A bundle to be: both databases, driven by hand."""
        pair = self.pair()
        self._replicas = [Replica(d.label, d.dsn, d.key) for d in pair]
        return Shelf(*self._replicas, mode)

    def clear(self) -> None:
        """End the test's connections; take its bundles, tables and types away."""
        for replica in self._replicas:
            replica.close()
        self._replicas = []
        try:
            for database in self._pair:
                database.close()
                with psycopg.connect(database.dsn, autocommit=True) as connection:
                    clear(connection)
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """Drop both databases."""
        for database in self._pair:
            self.databases.drop(database)
        self._pair = []


def clear(connection: psycopg.Connection[Any]) -> None:
    """Empty a database of everything but pgpeer."""
    connection.execute("SET lock_timeout = '5s'; SET client_min_messages = warning")
    connection.execute("SELECT peer_internal.remove_triggers(relation_id) FROM peer_internal.relation")
    connection.execute("DELETE FROM peer_internal.bundle")
    schemas = connection.execute(
        f"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN {OWN_SCHEMAS}"
    ).fetchall()
    for (schema,) in schemas:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    connection.execute("CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")
