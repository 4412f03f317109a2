"""Random work for the property test: tables of several kinds, users' statements, deliveries."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st
from psycopg import sql

from .replica import Relation


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of table: its key columns with types, and the key values to fight over (SQL literals)."""

    name: str
    keys: tuple[tuple[str, str], ...]
    domain: tuple[tuple[str, ...], ...]
    columns: tuple[tuple[str, str], ...] = (("a", "text"), ("b", "integer"), ("c", "numeric"))

    def relation(self, number: int) -> Relation:
        """The table of one example."""
        name = f"{self.name} {number}"
        return Relation("public", name, tuple(k for k, _ in self.keys), tuple(c for c, _ in self.columns))

    def ddl(self, relation: Relation) -> str:
        """CREATE TABLE."""
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.keys + self.columns)
        primary = ", ".join(quoted(name) for name, _ in self.keys)
        return f"CREATE TABLE {relation.regclass} ({columns}, PRIMARY KEY ({primary}))"


def quoted(name: str) -> str:
    """A quoted identifier."""
    return sql.Identifier(name).as_string(None)


def literal(value: str | None) -> str:
    """A quoted literal of unknown type, or NULL."""
    return "NULL" if value is None else sql.Literal(value).as_string(None).strip()


def single(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((literal(value),) for value in values)


PROFILES = (
    Profile("ints", (("k", "integer"),), single("1", "2", "10")),
    Profile("bigs", (("Key of rows", "bigint"),), single("-1", "9007199254740993", "5")),
    Profile(
        "ids",
        (("id", "uuid"),),
        single("00000000-0000-0000-0000-00000000000a", "B0000000-0000-0000-0000-00000000000b"),
    ),
    Profile(
        'Wörter "q"',
        (("schlüssel", "text"),),
        single("", "tab\there", "back\\slash\\N", "new\nline", "é"),
        (("a", "text"), ("select", "date"), ("C", "text")),
    ),
    Profile(
        "pairs",
        (("k2", "text"), ("k1", "integer")),
        (("'x'", "1"), ("'x\t'", "1"), ("'x'", "2")),
    ),
)

TEXTS = (None, "", "x", "tab\t", "two\nlines", "\\", "\\N", "it's", "é🐘", "\r", "\b\f\v", "\\t")
VALUES = {
    "text": tuple(map(literal, TEXTS)),
    "integer": ("NULL", "0", "1", "-7"),
    "numeric": ("NULL", "1.0", "1.00", "-0.5"),
    "date": ("NULL", "'2026-11-21'", "'0044-03-15 BC'"),
}


class Statements:
    """Strategies for users' transactions on one table; each is a list of SQL statements."""

    def __init__(self, profile: Profile, relation: Relation) -> None:
        self.profile = profile
        self.table = relation.regclass
        self.key_names = ", ".join(quoted(name) for name, _ in profile.keys)
        self.all_names = ", ".join(quoted(name) for name, _ in profile.keys + profile.columns)
        self.key = st.sampled_from(profile.domain)
        self.cells = st.tuples(*(st.sampled_from(VALUES[kind]) for _, kind in profile.columns))
        self.assignments = st.lists(
            st.sampled_from(profile.columns).flatmap(
                lambda column: st.tuples(st.just(column[0]), st.sampled_from(VALUES[column[1]]))
            ),
            min_size=1,
            max_size=2,
            unique_by=lambda pair: pair[0],
        )

    def where(self, key: tuple[str, ...]) -> str:
        return f"({self.key_names}) = ({', '.join(key)})"

    def insert(self, rows: list[tuple[tuple[str, ...], tuple[str, ...]]], otherwise: str = "NOTHING") -> str:
        values = ", ".join(f"({', '.join(key + cells)})" for key, cells in dict(rows).items())
        target = "" if otherwise == "NOTHING" else f"({self.key_names}) "
        return (
            f"INSERT INTO {self.table} ({self.all_names}) VALUES {values} ON CONFLICT {target}DO {otherwise}"
        )

    def upsert(self, key: tuple[str, ...], cells: tuple[str, ...]) -> str:
        name = quoted(self.profile.columns[0][0])
        return self.insert([(key, cells)], f"UPDATE SET {name} = EXCLUDED.{name}")

    def set(self, pairs: list[tuple[str, str]], condition: str) -> str:
        assignments = ", ".join(f"{quoted(name)} = {value}" for name, value in pairs)
        return f"UPDATE {self.table} SET {assignments} WHERE {condition}"

    def delete(self, key: tuple[str, ...]) -> str:
        return f"DELETE FROM {self.table} WHERE {self.where(key)}"

    def move(self, old: tuple[str, ...], new: tuple[str, ...]) -> str:
        return (
            f"UPDATE {self.table} SET ({self.key_names}) = ROW({', '.join(new)}) WHERE {self.where(old)}"
            f" AND NOT EXISTS (SELECT FROM {self.table} WHERE {self.where(new)})"
        )

    def transactions(self) -> st.SearchStrategy[list[str]]:
        """A user's transaction: mostly one statement, sometimes several that undo or overlay each other."""
        row = st.tuples(self.key, self.cells)
        insert = st.lists(row, min_size=1, max_size=3).map(self.insert)
        update = st.builds(self.set, self.assignments, self.key.map(self.where))
        delete = self.key.map(self.delete)
        one = st.one_of(
            update,
            insert,
            delete,
            st.builds(self.upsert, self.key, self.cells),
            st.builds(self.set, self.assignments, st.just("true")),
            st.builds(self.move, self.key, self.key),
        )
        name = quoted(self.profile.columns[0][0])
        rare = st.sampled_from([f"TRUNCATE {self.table}", f"UPDATE {self.table} SET {name} = {name}"])
        again = row.map(lambda pair: [self.delete(pair[0]), self.insert([pair])])
        undone = one.map(lambda statement: ["SAVEPOINT s", statement, "ROLLBACK TO SAVEPOINT s"])
        short = st.one_of(one, one, one, rare).map(lambda statement: [statement])
        return st.one_of(short, short, short, again, undone, st.lists(one, min_size=2, max_size=3))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a history.

    `write` runs statements, `commit` commits (and checks), `seal` does so as the worker does, `send` carries
    commits from one database to another: `order` seeds the permutation, the choice and the repetitions;
    `batch` commits go into one merge transaction.
    """

    kind: str
    at: int
    to: int = 0
    statements: tuple[str, ...] = ()
    order: int = 0
    batch: int = 100
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole example: how many databases, which table, whether it begins with rows, which steps."""

    databases: int
    profile: Profile
    filled: bool
    steps: tuple[Step, ...]

    def rows(self, relation: Relation) -> str:
        """The statement that fills the table before it is tracked: every key, every other column NULL."""
        names = ", ".join(quoted(name) for name, _ in self.profile.keys)
        values = ", ".join(f"({', '.join(key)})" for key in self.profile.domain)
        return f"INSERT INTO {relation.regclass} ({names}) VALUES {values}"


PLACEHOLDER = Relation("public", "THE TABLE", (), ())


@st.composite
def plans(draw: st.DrawFn, most_steps: int = 20) -> Plan:
    """Random plans. Statements speak of a placeholder table; `at_table` puts in the example's own.

    A step is drawn together with what usually follows it, so that examples are rich: a write with its commit, a
    delivery to one or to all others.
    """
    profile = draw(st.sampled_from(PROFILES))
    databases = draw(st.sampled_from((2, 3, 3, 4, 5)))
    statements = Statements(profile, PLACEHOLDER).transactions().map(tuple)
    place = st.integers(0, databases - 1)
    steps: list[Step] = []
    size = draw(st.integers(most_steps // 3, most_steps))
    while len(steps) < size:
        at = draw(place)
        what = draw(
            st.sampled_from(("write", "write", "write commit", "write commit", "commit", "send", "send all"))
        )
        if "write" in what:
            steps.append(Step("write", at, statements=draw(statements)))
        if "commit" in what:
            steps.append(Step(draw(st.sampled_from(("commit", "seal"))), at))
        if "send" in what:
            others = [to for to in range(databases) if to != at]
            order, batch, whole = (
                draw(st.integers(0, 2**16)),
                draw(st.sampled_from((100, 1, 2))),
                draw(st.booleans()),
            )
            for to in others if what == "send all" else [draw(st.sampled_from(others))]:
                steps.append(Step("send", at, to, order=order, batch=batch, whole=whole))
    return Plan(databases, profile, draw(st.booleans()), tuple(steps))


def at_table(step: Step, relation: Relation) -> Step:
    """The step with the example's table in the placeholder's stead."""
    statements = (s.replace(PLACEHOLDER.regclass, relation.regclass) for s in step.statements)
    return replace(step, statements=tuple(statements))
