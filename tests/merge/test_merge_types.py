"""The common column types travel unchanged, and so do the characters that COPY text escapes."""

from __future__ import annotations

from collections.abc import Callable

from .replica import Relation
from .world import World

KINDS = {
    "boolean": "false",
    "smallint": "-32768",
    "real": "'NaN'",
    "double precision": "0.1::float8 + 0.2",
    "numeric": "1.500",
    "numeric(10,3)": "1.5",
    "money": "12.5",
    "char(5)": "'ab'",
    '"char"': "'c'",
    "name": "'n'",
    "varchar(9)": r"E'a\\b\tc\n'",
    "bytea": r"'\x00ff5c09'",
    "date": "'0044-03-15 BC'",
    "timestamptz": "'2026-01-01 12:00+05'",
    "timestamp": "'infinity'",
    "timetz": "'10:00+02'",
    "interval": "'1 mon -2 days 03:00'",
    "uuid": "'B0000000-0000-0000-0000-00000000000B'",
    "json": """'{"b" :1, "b": "\\\\n"}'""",
    "jsonb": """'{"b": 1, "a": [1, "tab\\\\t", null]}'""",
    "text[]": r"""ARRAY['a', E'b\\c\n', NULL, 'q"', '', 'NULL']""",
    "integer[]": "ARRAY[[1, 2], [3, NULL]]",
    "int4range": "'[1,5)'",
    "inet": "'10.0.0.1'",
    "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'",
    "bit(3)": "B'101'",
    "varbit": "B'1'",
    "point": "'(1,2.5)'",
    "tsvector": "'a:1 b'",
}
COLUMNS = tuple(f"c{number}" for number in range(len(KINDS)))
MANY = Relation("public", "many kinds", ("id",), COLUMNS)
TABLE = MANY.regclass
DDL = [
    f"CREATE TABLE {TABLE} (id integer PRIMARY KEY, {', '.join(map(' '.join, zip(COLUMNS, KINDS, strict=True)))})"
]


def same(w: World) -> None:
    """Everybody commits and gets everything; the tables are equal, read past all of pgpeer."""
    for replica in w.replicas:
        replica.commit()
        w.record.gather(replica)
    for replica in w.replicas:
        w.show(replica, *w.record.envelopes.values())
    first, second = w.replicas
    assert first.rows(MANY) == second.rows(MANY)
    assert first.state_hash() == second.state_hash()


def test_values_of_every_common_type_arrive_as_they_were_written(world: Callable[..., World]) -> None:
    values = ", ".join(KINDS.values())
    w = world(relations=[MANY], ddl=DDL, checked=False)
    alice, bob = w.replicas
    alice.write(f"INSERT INTO {TABLE} VALUES (1, {values}), (2, {', '.join(['NULL'] * len(KINDS))})")
    original = alice.rows(MANY)
    same(w)
    assert bob.rows(MANY) == original
    swap = ", ".join(f"{column} = {value}" for column, value in zip(COLUMNS, KINDS.values(), strict=True))
    bob.write(f"UPDATE {TABLE} SET {swap} WHERE id = 2", f"DELETE FROM {TABLE} WHERE id = 1")
    same(w)
    assert alice.rows(MANY) == {"2": original["1"]}


def test_a_conflict_of_every_common_type_is_listed_the_same_everywhere(world: Callable[..., World]) -> None:
    values = ", ".join(KINDS.values())
    w = world(relations=[MANY], ddl=DDL, checked=False)
    alice, bob = w.replicas
    alice.write(f"INSERT INTO {TABLE} (id) VALUES (1)")
    bob.write(f"INSERT INTO {TABLE} VALUES (1, {values})")
    same(w)
    assert {conflict.column for conflict in alice.conflicts(MANY).values()} == set(COLUMNS)
    assert alice.conflicts(MANY) == bob.conflicts(MANY)
