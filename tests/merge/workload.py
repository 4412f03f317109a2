"""Random work for the property test: tables of several kinds, users' statements, deliveries."""

from __future__ import annotations

import random
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
    constraints: str = ""

    def relation(self, number: int) -> Relation:
        """The table of one example."""
        name = f"{self.name} {number}"
        return Relation("public", name, tuple(k for k, _ in self.keys), tuple(c for c, _ in self.columns))

    def ddl(self, relation: Relation) -> str:
        """CREATE TABLE."""
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.keys + self.columns)
        primary = ", ".join(quoted(name) for name, _ in self.keys)
        return f"CREATE TABLE {relation.regclass} ({columns}, PRIMARY KEY ({primary}){self.constraints})"


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

UNIQUE = Profile(
    "unique", (("k", "integer"),), single("1", "2", "10"), constraints=", UNIQUE (b), CHECK (a <> 'x')"
)

TEXTS = (None, "", "x", "tab\t", "two\nlines", "\\", "\\N", "it's", "é🐘", "\r", "\b\f\v", "\\t")
VALUES = {
    "text": tuple(map(literal, TEXTS)),
    "integer": ("NULL", "0", "1", "-7"),
    "numeric": ("NULL", "1.0", "1.00", "-0.5"),
    "date": ("NULL", "'2026-11-21'", "'0044-03-15 BC'"),
}


class Statements:
    """Random users' transactions on one table; each is a list of SQL statements."""

    def __init__(self, profile: Profile, relation: Relation, chance: random.Random) -> None:
        self.profile, self.chance = profile, chance
        self.table = relation.regclass
        self.key_names = ", ".join(quoted(name) for name, _ in profile.keys)
        self.all_names = ", ".join(quoted(name) for name, _ in profile.keys + profile.columns)

    def key(self) -> tuple[str, ...]:
        return self.chance.choice(self.profile.domain)

    def cells(self) -> tuple[str, ...]:
        return tuple(self.chance.choice(VALUES[kind]) for _, kind in self.profile.columns)

    def where(self, key: tuple[str, ...]) -> str:
        return f"({self.key_names}) = ({', '.join(key)})"

    def insert(self, *keys: tuple[str, ...], otherwise: str = "NOTHING") -> str:
        values = ", ".join(f"({', '.join(key + self.cells())})" for key in dict.fromkeys(keys))
        target = "" if otherwise == "NOTHING" else f"({self.key_names}) "
        return (
            f"INSERT INTO {self.table} ({self.all_names}) VALUES {values} ON CONFLICT {target}DO {otherwise}"
        )

    def upsert(self) -> str:
        name = quoted(self.chance.choice(self.profile.columns)[0])
        return self.insert(self.key(), otherwise=f"UPDATE SET {name} = EXCLUDED.{name}")

    def update(self, condition: str) -> str:
        columns = self.chance.sample(self.profile.columns, self.chance.choice((1, 1, 1, 2, 3)))
        pairs = ", ".join(f"{quoted(name)} = {self.chance.choice(VALUES[kind])}" for name, kind in columns)
        return f"UPDATE {self.table} SET {pairs} WHERE {condition}"

    def delete(self, key: tuple[str, ...]) -> str:
        return f"DELETE FROM {self.table} WHERE {self.where(key)}"

    def move(self, old: tuple[str, ...], new: tuple[str, ...]) -> str:
        return (
            f"UPDATE {self.table} SET ({self.key_names}) = ROW({', '.join(new)}) WHERE {self.where(old)}"
            f" AND NOT EXISTS (SELECT FROM {self.table} WHERE {self.where(new)})"
        )

    def one(self) -> str:
        """One statement."""
        pick = self.chance.random()
        if pick < 0.38:
            return self.update(self.where(self.key()))
        if pick < 0.57:
            return self.insert(*(self.key() for _ in range(self.chance.choice((1, 1, 2, 3)))))
        if pick < 0.75:
            return self.delete(self.key())
        if pick < 0.84:
            return self.upsert()
        if pick < 0.91:
            return self.update("true")
        if pick < 0.97:
            return self.move(self.key(), self.key())
        name = quoted(self.profile.columns[0][0])
        return self.chance.choice((f"TRUNCATE {self.table}", f"UPDATE {self.table} SET {name} = {name}"))

    def transaction(self) -> tuple[str, ...]:
        """Mostly one statement, sometimes several that undo or overlay each other."""
        pick = self.chance.random()
        if pick < 0.65:
            return (self.one(),)
        if pick < 0.80:
            key = self.key()
            return (self.delete(key), self.insert(key))
        if pick < 0.83:
            return ("SAVEPOINT s", self.one(), "ROLLBACK TO SAVEPOINT s", self.one())
        return tuple(self.one() for _ in range(self.chance.choice((2, 3))))


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


def make_plan(chance: random.Random, most_steps: int, profiles: tuple[Profile, ...] = PROFILES) -> Plan:
    """A random plan. Statements speak of a placeholder table; `at_table` puts in the example's own."""
    profile = chance.choice(profiles)
    profile = replace(profile, domain=profile.domain[: chance.choice((1, 2, 5))])
    databases = chance.choice((2, 2, 3, 3, 3, 4, 5))
    statements = Statements(profile, PLACEHOLDER, chance)
    steps: list[Step] = []
    size = chance.randint(most_steps // 2, most_steps)
    while len(steps) < size:
        at = chance.randrange(databases)
        pick = chance.random()
        if pick < 0.55:
            steps.append(Step("write", at, statements=statements.transaction()))
        if 0.25 < pick < 0.60:
            steps.append(Step(chance.choice(("commit", "seal")), at))
        if pick > 0.60:
            others = [to for to in range(databases) if to != at]
            batch, whole = chance.choice((100, 100, 1, 2)), chance.random() < 0.6
            for to in others if chance.random() < 0.25 else [chance.choice(others)]:
                steps.append(Step("send", at, to, order=chance.getrandbits(16), batch=batch, whole=whole))
    return Plan(databases, profile, chance.random() < 0.7, tuple(steps))


def plans(most_steps: int, profiles: tuple[Profile, ...] = PROFILES) -> st.SearchStrategy[Plan]:
    """Plans by the number that seeds them: Hypothesis' own choices favour plans that merge nothing."""
    return st.integers(0, 2**64 - 1).map(
        lambda number: make_plan(random.Random(number), most_steps, profiles)
    )


def at_table(step: Step, relation: Relation) -> Step:
    """The step with the example's table in the placeholder's stead."""
    statements = (s.replace(PLACEHOLDER.regclass, relation.regclass) for s in step.statements)
    return replace(step, statements=tuple(statements))
