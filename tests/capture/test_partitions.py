"""Partitioned tables: writes to the table and to its partitions, and partitions that come and go."""

from __future__ import annotations

import pytest
from fixtures.versions import EMBEDDED, SECOND

from .conftest import MakeShelf
from .partitions import ALL, EVENT, deleted, inserted, updated
from .shelf import Change

STATEMENTS: dict[str, tuple[str, list[Change]]] = {
    "an insert": (
        "INSERT INTO event VALUES ('north', 3), ('south', 3), ('south', 103)",
        [*inserted("north", 3), *inserted("south", 3, 103)],
    ),
    "an insert into a partition": (
        "INSERT INTO north (region, id) VALUES ('north', 3)",
        inserted("north", 3),
    ),
    "an insert into a partition of a partition": (
        "INSERT INTO south_high VALUES ('south', 103)",
        inserted("south", 103),
    ),
    "an insert into a partition that is partitioned": (
        "INSERT INTO south VALUES ('south', 3), ('south', 103)",
        inserted("south", 3, 103),
    ),
    "an update": (
        "UPDATE event SET title = 'x' WHERE id = 1",
        [updated("north", 1, "title"), updated("south", 1, "title")],
    ),
    "an update of a partition": ("UPDATE north SET stars = 9 WHERE id = 1", [updated("north", 1, "stars")]),
    "an update of a partition that is partitioned": (
        "UPDATE south SET stars = 9, title = 'y'",
        [updated("south", n, *ALL) for n in (1, 2, 101)],
    ),
    "an update that changes nothing": ("UPDATE event SET title = title", []),
    "a move to another partition": (
        "UPDATE event SET region = 'south', id = 7 WHERE region = 'north' AND id = 1",
        [*deleted("north", 1), *inserted("south", 7)],
    ),
    "a move between the partitions of a partition": (
        "UPDATE south SET id = id + 99 WHERE id = 1",
        [*deleted("south", 1), *inserted("south", 100)],
    ),
    "a move of all rows": (
        "UPDATE event SET region = CASE region WHEN 'north' THEN 'south' ELSE 'north' END, id = id + 10",
        [
            *deleted("north", 1, 2, 101),
            *deleted("south", 1, 2, 101),
            *inserted("north", 11, 12, 111),
            *inserted("south", 11, 12, 111),
        ],
    ),
    "a delete": ("DELETE FROM event WHERE id > 1", [*deleted("north", 2, 101), *deleted("south", 2, 101)]),
    "a delete from a partition": ("DELETE FROM south_low", deleted("south", 1, 2)),
    "an insert that updates on conflict": (
        "INSERT INTO event VALUES ('north', 1, 'new'), ('south', 8, 'new')"
        " ON CONFLICT (region, id) DO UPDATE SET title = excluded.title",
        [updated("north", 1, "title"), *inserted("south", 8)],
    ),
    "an insert into a partition that updates on conflict": (
        "INSERT INTO south_low VALUES ('south', 1, 'new'), ('south', 8, 'new')"
        " ON CONFLICT (region, id) DO UPDATE SET title = excluded.title",
        [updated("south", 1, "title"), *inserted("south", 8)],
    ),
    "a MERGE": (
        "MERGE INTO event AS e USING (VALUES ('north', 1), ('south', 2), ('south', 300)) AS v(region, id)"
        " ON e.region = v.region AND e.id = v.id WHEN MATCHED AND e.id = 2 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET stars = 9 WHEN NOT MATCHED THEN INSERT VALUES (v.region, v.id)",
        [updated("north", 1, "stars"), *deleted("south", 2), *inserted("south", 300)],
    ),
    "a TRUNCATE": ("TRUNCATE event", [*deleted("north", 1, 2, 101), *deleted("south", 1, 2, 101)]),
    "a TRUNCATE of a partition": ("TRUNCATE north", deleted("north", 1, 2, 101)),
    "a TRUNCATE of a partition that is partitioned": ("TRUNCATE south", deleted("south", 1, 2, 101)),
    "a TRUNCATE of a table and its partitions": (
        "TRUNCATE event, north, south_low",
        [*deleted("north", 1, 2, 101), *deleted("south", 1, 2, 101)],
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_write_to_a_partitioned_table_becomes_exactly_what_it_changed(shelf: MakeShelf, name: str) -> None:
    statement, expected = STATEMENTS[name]
    s = shelf(EVENT, "event")
    if statement.startswith("MERGE"):
        s.require(15, "MERGE")
    s.here.write(statement)
    assert s.changes() == sorted(expected)
    made = s.exchange()
    assert sum(section.rows for e in made for section in e.decoded().sections) == len(expected)


@pytest.mark.parametrize("servers", [f"{SECOND} {SECOND}"], indirect=True)
def test_older_servers_capture_partitions_alike(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    for name, (statement, expected) in STATEMENTS.items():
        if statement.startswith("MERGE") and int(SECOND) < 15:
            continue
        with s.here.connection.transaction(force_rollback=True):
            s.here.execute(statement)
            assert s.changes() == sorted(expected), name
    s.here.write(
        "UPDATE event SET region = 'south', id = 9 WHERE region = 'north' AND id = 1", "TRUNCATE south_high"
    )
    s.exchange()


LAYOUTS = {
    "the same partitions": EVENT[:-1],
    "other partitions": (
        "CREATE TABLE event (region text, id integer, title text, stars integer DEFAULT 0,"
        " PRIMARY KEY (region, id)) PARTITION BY HASH (id)",
        *(
            f"CREATE TABLE e{n} PARTITION OF event FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
            for n in range(3)
        ),
    ),
    "no partitions": (
        "CREATE TABLE event (region text, id integer, title text, stars integer DEFAULT 0, PRIMARY KEY (region, id))",
    ),
}


@pytest.mark.parametrize("servers", [f"{EMBEDDED} {EMBEDDED}", f"{SECOND} {EMBEDDED}"], indirect=True)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_peer_has_partitions_of_its_own(shelf: MakeShelf, layout: str) -> None:
    s = shelf(EVENT, [])
    s.there.write(*LAYOUTS[layout])
    s.track("event")
    s.here.write(
        "UPDATE event SET region = 'south', id = id + 20 WHERE region = 'north'", "DELETE FROM south_high"
    )
    s.exchange()
    s.there.write(
        "UPDATE event SET title = 'there' WHERE id = 1",
        "INSERT INTO event VALUES ('north', 55), ('south', 155)",
    )
    s.there.write("UPDATE event SET id = id + 1000 WHERE id = 2", "DELETE FROM event WHERE id = 21")
    s.exchange()
    s.there.write("UPDATE event SET title = 'b' WHERE id = 55", "INSERT INTO event VALUES ('south', 5)")
    s.here.write("UPDATE event SET stars = 6 WHERE id = 55", "INSERT INTO event VALUES ('south', 5, 'twice')")
    s.exchange()
    s.there.write("TRUNCATE event")
    s.exchange()
    assert s.rows(s.here, "event") == []


def test_a_joining_peer_gets_an_ordinary_table(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    assert s.there.value("SELECT relkind FROM pg_class WHERE oid = 'event'::regclass") == "r"
    assert len(s.rows(s.there, "event")) == 6


def test_rows_loaded_by_copy_into_the_table_and_a_partition_are_captured(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    for table, region in (("event", "south"), ("north", "north")):
        with s.here.connection.cursor().copy(f"COPY {table} (region, id) FROM STDIN") as copy:
            for number in range(200, 1200):
                copy.write_row((region, number))
    (made,) = s.exchange()
    assert s.sections(made) == [("INSERT", 2000)]


def test_writers_of_partitions_need_no_right_on_pgpeer(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.execute("DROP ROLE IF EXISTS clerk")
    s.here.write("CREATE ROLE clerk", "GRANT ALL ON event, north TO clerk")
    s.here.write(
        "SET LOCAL ROLE clerk",
        "INSERT INTO north (region, id) VALUES ('north', 3)",
        "DELETE FROM event WHERE id = 1",
    )
    assert s.changes() == sorted([*inserted("north", 3), *deleted("north", 1), *deleted("south", 1)])
    s.exchange()
    s.here.write("DROP OWNED BY clerk", "DROP ROLE clerk")


PARENT = (
    "CREATE TABLE item (shop integer, id integer, name text, PRIMARY KEY (shop, id)) PARTITION BY LIST (shop)",
    "CREATE TABLE item_1 PARTITION OF item FOR VALUES IN (1)",
    "CREATE TABLE item_2 PARTITION OF item FOR VALUES IN (2)",
    "CREATE TABLE sale (shop integer, id integer, item integer, PRIMARY KEY (shop, id),"
    " FOREIGN KEY (shop, item) REFERENCES item ON DELETE CASCADE ON UPDATE CASCADE) PARTITION BY HASH (id)",
    "CREATE TABLE sale_0 PARTITION OF sale FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE sale_1 PARTITION OF sale FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "INSERT INTO item SELECT s, i, 'n' FROM generate_series(1, 2) AS s, generate_series(1, 4) AS i",
    "INSERT INTO sale SELECT s, s * 100 + i, (i + 1) / 2 FROM generate_series(1, 2) AS s, generate_series(1, 8) AS i",
)


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize("servers", [f"{EMBEDDED} {EMBEDDED}", f"{SECOND} {SECOND}"], indirect=True)
def test_foreign_key_actions_between_partitioned_tables_are_captured_once(shelf: MakeShelf) -> None:
    s = shelf(PARENT, [])
    s.there.write(*PARENT[:-2])
    s.track("item", "sale")
    s.here.write("DELETE FROM item WHERE shop = 1 AND id = 1", "DELETE FROM item_2 WHERE id = 2")
    assert [(c.table, c.operation) for c in s.changes()] == [("item", "DELETE")] * 2 + [
        ("sale", "DELETE")
    ] * 4
    s.exchange()
    s.here.write("UPDATE item SET id = 10 WHERE shop = 1 AND id = 3")
    assert [c.operation for c in s.changes() if c.table == "sale"] == ["UPDATE", "UPDATE"]
    s.exchange()
    s.there.write("UPDATE item SET shop = 2, id = 20 WHERE shop = 1 AND id = 4")
    s.exchange()
    s.there.write(
        "INSERT INTO item VALUES (2, 30)",
        "INSERT INTO sale_0 SELECT 2, n, 30 FROM generate_series(300, 400) AS n"
        " WHERE satisfies_hash_partition('sale'::regclass, 2, 0, n)",
    )
    s.exchange()
    s.here.write("TRUNCATE item CASCADE")
    s.exchange()
    assert s.rows(s.there, "sale") == []


@pytest.mark.usefixtures("following")
def test_a_row_without_a_partition_here_waits_until_there_is_one(shelf: MakeShelf) -> None:
    s = shelf(EVENT, [])
    s.there.write(*EVENT[:-1])
    s.track("event")
    s.here.write(
        "CREATE TABLE east PARTITION OF event FOR VALUES IN ('east')", "INSERT INTO event VALUES ('east', 1)"
    )
    s.here.commit()
    ((_, outcome, detail),) = s.there.deliver(s.here.outgoing(s.there.merged()))
    assert outcome == "held"
    assert detail is not None
    assert "no partition of relation" in detail
    assert [problem[0] for problem in s.there.problems()] == ["constraint_violation"]
    s.there.write("CREATE TABLE rest PARTITION OF event DEFAULT")
    s.there.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    assert [outcome for _, outcome, _ in s.there.merge()] == ["merged"]
    s.exchange()


FREE = (
    "CREATE TABLE place (id integer PRIMARY KEY)",
    "CREATE TABLE guide (id integer PRIMARY KEY, region text, event integer)",
)
BOUND = (
    *FREE,
    *EVENT[:-1],
    "ALTER TABLE north ADD CONSTRAINT place_of_north FOREIGN KEY (stars) REFERENCES place",
    "ALTER TABLE guide ADD CONSTRAINT event_of_guide FOREIGN KEY (region, event) REFERENCES north (region, id)",
)


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE event SET stars = 999 WHERE region = 'north' AND id = 1", "place_of_north"),
        ("DELETE FROM place WHERE id = 1", "place_of_north"),
        ("DELETE FROM event WHERE id = 2", "event_of_guide"),
        ("UPDATE guide SET event = 77", "event_of_guide"),
        ("UPDATE event SET stars = 999 WHERE region = 'south'", None),
    ],
)
def test_foreign_keys_of_one_partition_hold_after_a_merge(
    shelf: MakeShelf, statement: str, constraint: str | None
) -> None:
    rows = ("INSERT INTO place SELECT generate_series(0, 200)", "INSERT INTO guide VALUES (1, 'north', 2)")
    s = shelf([*FREE, *LAYOUTS["no partitions"], *rows, EVENT[-1]], [])
    s.there.write(*BOUND)
    s.track("place", "event", "guide")
    s.here.write(statement)
    s.here.commit()
    ((_, outcome, detail),) = s.there.deliver(s.here.outgoing(s.there.merged()))
    assert (outcome, constraint is None or constraint in (detail or "")) == (
        "held" if constraint else "merged",
        True,
    )


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        ("UPDATE event SET stars = 2 WHERE region = 'north' AND id = 1", "held"),
        ("INSERT INTO event VALUES ('south', 50, 'rival', 101)", "held"),
        ("UPDATE event SET stars = 50 WHERE region = 'north' AND id = 1", "merged"),
        ("UPDATE event SET stars = 3 - stars WHERE id < 3", "merged"),
    ],
)
def test_deferrable_constraints_of_a_partitioned_table_hold_after_a_merge(
    shelf: MakeShelf, statement: str, outcome: str
) -> None:
    """Rows of two partitions have one ctid: they must not be taken for each other."""
    s = shelf([*LAYOUTS["no partitions"], EVENT[-1]], [])
    s.there.write(
        "CREATE TABLE event (region text, id integer, title text, stars integer DEFAULT 0,"
        " PRIMARY KEY (region, id), CONSTRAINT one_star UNIQUE (region, stars) DEFERRABLE INITIALLY DEFERRED)"
        " PARTITION BY LIST (region)",
        *(f"CREATE TABLE {name} PARTITION OF event FOR VALUES IN ('{name}')" for name in ("north", "south")),
    )
    s.track("event")
    s.here.write(statement)
    s.here.commit()
    ((_, found, detail),) = s.there.deliver(s.here.outgoing(s.there.merged()))
    assert found == outcome, detail
    assert outcome == "merged" or "one_star" in (detail or "")
