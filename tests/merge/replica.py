"""One real database in the hands of a test: it plays the worker's part, step by step, through SQL.

Nothing here knows how the SQL works; it calls what a worker calls: seal, sign, read commits and sections,
receive, merge. Signatures are real. A commit travels as an `Envelope`, the bytes that a peer would get.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pgpeer.identity.key import PrivateKey

from .decoding import Header, decode_commit, decode_header, escape
from .oracle import Cells, Commit

COPY_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed commit as it travels: the header's bytes, the signature and the sections' bytes."""

    header: bytes
    signature: bytes
    sections: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.header).digest()

    def decoded(self) -> Header:
        return decode_header(self.header)

    def commit(self) -> Commit:
        return decode_commit(self.header, list(self.sections))


@dataclass(frozen=True, slots=True)
class Relation:
    """A tracked table as the tests see it: its name, key columns and other columns."""

    schema: str
    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def regclass(self) -> str:
        """The quoted name."""
        return sql.Identifier(self.schema, self.name).as_string(None)


@dataclass(frozen=True, slots=True)
class ListedConflict:
    """A row of peer.conflict with its values as COPY text, to be laid beside the oracle's."""

    conflict_id: str
    key: str
    column: str | None
    kind: str
    state: str
    winner: str
    loser: str
    winning_author: str
    losing_author: str
    base_value: str | None
    winning_value: str | None
    losing_value: str | None


class Replica:
    """A database with pgpeer installed and one bundle, driven by hand."""

    def __init__(self, name: str, dsn: str, key: PrivateKey) -> None:
        self.name = name
        self.dsn = dsn
        self.key = key
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.bundle = ""
        self.bundle_id = uuid.UUID(int=0)

    def close(self) -> None:
        self.connection.close()

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; the rows, if there are any."""
        cursor = self.connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: object) -> Any:
        """The only value of the only row."""
        ((value,),) = self.execute(statement, *values)
        return value

    def create(self, bundle: str, mode: str, relations: Iterable[Relation]) -> None:
        """Make the bundle here and track tables that exist here."""
        self.bundle = bundle
        self.bundle_id = self.value("SELECT peer.create_bundle(%s, %s)", bundle, mode)
        for relation in relations:
            self.execute("SELECT peer.track(%s, %s::regclass)", bundle, relation.regclass)

    def adopt(self, bundle_id: uuid.UUID, bundle: str, mode: str) -> None:
        """Take up a bundle that another database made; its tables come with the commits."""
        self.bundle, self.bundle_id = bundle, bundle_id
        self.execute("SELECT peer_internal.adopt_bundle(%s, %s, %s)", bundle_id, bundle, mode)

    def write(self, *statements: str) -> None:
        """Run a user's statements in one transaction."""
        with self.connection.transaction():
            for statement in statements:
                self.connection.execute(statement)  # type: ignore[arg-type]

    def commit(self, message: str | None = None) -> str | None:
        """What a person does: peer.commit; the commit id, None when nothing changed."""
        commit_id: str | None = self.value("SELECT peer.commit(%s, %s)", self.bundle, message)
        return commit_id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the bundle's lock at session level, taken before any transaction begins (rule 6)."""
        self.execute("SELECT peer_internal.lock_bundle(%s)", self.bundle_id)
        try:
            yield
        finally:
            self.execute("SELECT peer_internal.unlock_bundle(%s)", self.bundle_id)

    def seal(self) -> bytes | None:
        """What a worker does in auto mode: seal under the lock; the digest, None when nothing changed."""
        with self.locked():
            digest = self.value("SELECT peer_internal.seal_bundle(%s)", self.bundle_id)
        return None if digest is None else bytes(digest)

    def sign(self, key: PrivateKey | None = None) -> list[bytes]:
        """Sign every unsigned commit, as the worker does; their digests in order."""
        signed = []
        rows = self.execute(
            "SELECT bundle_id, digest, header, epoch, seq FROM peer_internal.unsigned_commit(1000)"
        )
        for bundle_id, digest, header, epoch, seq in rows:
            decoded = decode_header(bytes(header))
            assert decoded.digest == bytes(digest)
            assert decoded.author == (key or self.key).public_key
            assert (decoded.bundle, decoded.epoch, decoded.seq) == (str(bundle_id), epoch, seq)
            signature = (key or self.key).sign("commit", decoded.digest)
            self.execute("SELECT peer_internal.attach_signature(%s, %s)", digest, signature)
            signed.append(decoded.digest)
        return signed

    def outgoing(self, known: Iterable[bytes] = ()) -> list[Envelope]:
        """Sign, then read every signed and merged commit whose digest is not known, in causal order."""
        self.sign()
        known = set(known)
        rows = self.execute(
            "SELECT digest, header, signature, section_count"
            " FROM peer_internal.commits_after(%s, '[]'::jsonb, 0, 100000) ORDER BY position",
            self.bundle_id,
        )
        return [
            Envelope(bytes(header), bytes(signature), self.sections(digest, count))
            for digest, header, signature, count in rows
            if bytes(digest) not in known
        ]

    def sections(self, digest: bytes, count: int) -> tuple[bytes, ...]:
        """The bytes of a commit's sections."""
        read = "SELECT peer_internal.section_data(%s, %s)"
        return tuple(self.value(read, digest, number).encode() for number in range(1, count + 1))

    def merged(self) -> set[bytes]:
        """The digests of the commits that are merged (and signed) here."""
        after = "SELECT digest FROM peer_internal.commits_after(%s, '[]'::jsonb, 0, 100000)"
        return {bytes(digest) for (digest,) in self.execute(after, self.bundle_id)}

    def receive_header(self, envelope: Envelope) -> str:
        """Hand over a header: 'new', 'waiting' (for a parent), 'incomplete' (sections lack) or 'known'."""
        header = envelope.decoded()
        sections = [
            {
                "op": section.op,
                "relation": section.relation,
                "columns": list(section.columns),
                "rows": section.rows,
                "bytes": section.bytes,
                "digest": section.digest.hex(),
                "unseen": [digest.hex() for digest in section.unseen],
            }
            for section in header.sections
        ]
        answer: str = self.value(
            "SELECT peer_internal.receive_commit("
            # %b: as text libpq would escape bytea by a setting of the session
            "%s, %b, %b, %b, %b, %s, %s, %b, %b::bytea[], %s, %b, %s, %s::jsonb)",
            self.bundle_id,
            header.digest,
            envelope.header,
            envelope.signature,
            header.author,
            header.epoch,
            header.seq,
            header.previous,
            list(header.parents),
            header.hlc,
            header.schema,
            header.message,
            json.dumps(sections),
        )
        assert answer in ("new", "waiting", "known", "incomplete"), answer
        return answer

    def receive_section(self, envelope: Envelope, number: int) -> None:
        """Hand over the bytes of one section, counted from 1."""
        receive = "SELECT peer_internal.receive_section(%b, %s, %s)"
        self.execute(receive, envelope.digest, number, envelope.sections[number - 1].decode())

    def receive(self, envelopes: Iterable[Envelope]) -> list[str]:
        """Hand over whole commits, in the given order; the answers."""
        answers = []
        for envelope in envelopes:
            answers.append(self.receive_header(envelope))
            for number in range(1, len(envelope.sections) + 1):
                self.receive_section(envelope, number)
        return answers

    def merge(self, batch: int = 100) -> list[tuple[bytes, str, str | None]]:
        """Merge what can be merged, `batch` commits in a transaction; what became of each commit."""
        outcomes: list[tuple[bytes, str, str | None]] = []
        with self.locked():
            while True:
                with self.connection.transaction():
                    step = self.execute(
                        "SELECT digest, outcome, detail FROM peer_internal.merge_next(%s, %s)",
                        self.bundle_id,
                        batch,
                    )
                outcomes += [(bytes(digest), outcome, detail) for digest, outcome, detail in step]
                if not any(outcome == "merged" for _, outcome, _ in step):
                    return outcomes

    def deliver(self, envelopes: Iterable[Envelope], batch: int = 100) -> list[tuple[bytes, str, str | None]]:
        """Receive and merge."""
        self.receive(envelopes)
        return self.merge(batch)

    def vector(self, which: str = "merged") -> set[tuple[bytes, int, int, bytes]]:
        """The version vector."""
        rows = self.execute(
            "SELECT author, epoch, seq, head FROM peer_internal.vector(%s, %s)", self.bundle_id, which
        )
        return {(bytes(author), epoch, seq, bytes(head)) for author, epoch, seq, head in rows}

    def state_hash(self) -> str:
        """peer.state_hash."""
        answer: str = self.value("SELECT peer.state_hash(%s)", self.bundle)
        return answer

    def status(self) -> list[tuple[Any, ...]]:
        """peer.status: what is not committed yet."""
        return self.execute(
            "SELECT relation::text, key, operation, columns FROM peer.status(%s) ORDER BY 1, key::text",
            self.bundle,
        )

    def problems(self) -> list[tuple[Any, ...]]:
        """peer.problem, without the time."""
        return self.execute("SELECT kind, bundle, relation::text, key, detail, remedy FROM peer.problem")

    def rows(self, relation: Relation) -> dict[str, Cells]:
        """The table's rows: key text -> column name -> COPY text; read by COPY, past all of pgpeer."""
        columns = (*relation.keys, *relation.columns)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) TO STDOUT").format(
            sql.Identifier(relation.schema, relation.name), names
        )
        with self.connection.cursor().copy(statement) as copy:
            text = b"".join(bytes(part) for part in copy).decode()
        found = {}
        for line in text.split("\n")[:-1]:
            fields = [field if field == "\\N" else escape(uncopy(field)) for field in line.split("\t")]
            key = "\t".join(fields[: len(relation.keys)])
            found[key] = dict(zip(relation.columns, fields[len(relation.keys) :], strict=True))
        return found

    def conflicts(self, relation: Relation) -> dict[str, ListedConflict]:
        """The bundle's conflicts about one table, as peer.conflict lists them."""
        rows = self.execute(
            "SELECT conflict_id, key::text, column_name, kind, state, winning_commit, losing_commit,"
            " winning_author, losing_author, base_value::text, winning_value::text, losing_value::text"
            " FROM peer.conflict"
            " WHERE bundle = %s AND scope = 'bundle' AND relation::text::regclass = %s::regclass",
            self.bundle,
            relation.regclass,
        )
        found = {
            row[0]: ListedConflict(
                row[0], key_text(relation, row[1]), *row[2:9], *(canonical(value) for value in row[9:])
            )
            for row in rows
        }
        assert len(found) == len(rows), "a conflict is listed twice"
        return found


def uncopy(field: str) -> str:
    """The value of a field as PostgreSQL's own COPY writes it."""
    return re.sub(r"\\(.)", lambda match: COPY_ESCAPES.get(match[1], match[1]), field, flags=re.DOTALL)


def copy_text(value: Any) -> str:
    """A JSON scalar (numbers were kept as text) as the COPY text of its column."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (dict, list)):
        return escape(json.dumps(value))
    return escape(value)


def key_text(relation: Relation, text: str) -> str:
    """The key text of a key given as JSON object."""
    key = json.loads(text, parse_int=str, parse_float=str)
    assert set(key) == set(relation.keys)
    return "\t".join(copy_text(key[column]) for column in relation.keys)


def canonical(text: str | None) -> str | None:
    """A cell's or a row's JSON text in COPY text; None for "no such row"."""
    if text is None:
        return None
    value = json.loads(text, parse_int=str, parse_float=str)
    if isinstance(value, dict):
        return row_text({column: copy_text(cell) for column, cell in value.items()})
    return copy_text(value)


def row_text(cells: Cells) -> str:
    """A row's cells in one canonical text."""
    return json.dumps(cells, sort_keys=True)


def column_names(envelopes: Sequence[Envelope]) -> dict[str, str]:
    """The names of relations and columns by id, as the schema sections of these commits tell them."""
    names: dict[str, str] = {}
    for envelope in envelopes:
        for section, data in zip(envelope.decoded().sections, envelope.sections, strict=True):
            if section.op == "SCHEMA":
                document = json.loads(data)
                assert document["relation"] == section.relation
                names[section.relation] = document["table"]["name"]
                names |= {column["id"]: column["name"] for column in document["columns"]}
    return names
