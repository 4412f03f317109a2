"""A partitioned table and the changes of its rows, for the tests of partitions."""

from __future__ import annotations

from .shelf import Change

EVENT = (
    "CREATE TABLE event (region text, id integer, title text, stars integer DEFAULT 0,"
    " PRIMARY KEY (region, id)) PARTITION BY LIST (region)",
    # other places of the columns, and one that is gone
    "CREATE TABLE north (stars integer, gone text, title text, id integer NOT NULL, region text NOT NULL)",
    "ALTER TABLE north DROP COLUMN gone",
    "ALTER TABLE event ATTACH PARTITION north FOR VALUES IN ('north')",
    "CREATE TABLE south PARTITION OF event FOR VALUES IN ('south') PARTITION BY RANGE (id)",
    "CREATE TABLE south_low PARTITION OF south FOR VALUES FROM (MINVALUE) TO (100)",
    "CREATE TABLE south_high PARTITION OF south FOR VALUES FROM (100) TO (MAXVALUE)",
    "INSERT INTO event SELECT r, i, r || i, i FROM unnest('{north,south}'::text[]) AS r, unnest('{1,2,101}'::int[]) AS i",
)
ALL = ("title", "stars")


def key(region: str, number: int) -> str:
    return f'{{"id": {number}, "region": "{region}"}}'


def inserted(region: str, *numbers: int) -> list[Change]:
    return [Change("event", "INSERT", key(region, number), ALL) for number in numbers]


def updated(region: str, number: int, *columns: str) -> Change:
    return Change("event", "UPDATE", key(region, number), columns)


def deleted(region: str, *numbers: int) -> list[Change]:
    return [Change("event", "DELETE", key(region, number)) for number in numbers]
