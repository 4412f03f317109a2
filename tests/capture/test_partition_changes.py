"""Partitions that come and go: the next seal, or merge, brings capture in line with them."""

from __future__ import annotations

import psycopg
import pytest
from fixtures.versions import EMBEDDED, SECOND

from .conftest import MakeShelf
from .partitions import EVENT, deleted, inserted, updated
from .shelf import Change, Shelf

pytestmark = pytest.mark.usefixtures("following")


def follow(s: Shelf) -> list[Change]:
    """Commit as a worker does, and what the commit changed, by its sections."""
    before = s.here.merged()
    if s.here.seal() is None:
        return []
    (envelope,) = s.here.outgoing(before)
    rows = s.here.execute(
        "SELECT DISTINCT relation::text, operation, key::text FROM peer.show('shelf', (SELECT commit_id FROM peer.log('shelf') LIMIT 1))"
    )
    assert sum(section.rows for section in envelope.decoded().sections) == len(rows)
    return sorted(Change(*row) for row in rows)


def plain(changes: list[Change]) -> list[Change]:
    return sorted(Change(change.table, change.operation, change.key) for change in changes)


EAST = "CREATE TABLE east PARTITION OF event FOR VALUES IN ('east')"


def test_a_new_partition_is_captured_from_its_first_row(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write(EAST, "INSERT INTO event VALUES ('east', 1), ('east', 2)")
    s.here.write("INSERT INTO east VALUES ('east', 3)", "DELETE FROM east WHERE id = 2")
    s.here.write("INSERT INTO east VALUES ('east', 4)", "DELETE FROM event WHERE id = 4")
    assert follow(s) == plain(inserted("east", 1, 3))
    s.exchange()
    s.here.write("UPDATE east SET title = 'x' WHERE id = 1", "TRUNCATE north")
    assert s.changes() == sorted([updated("east", 1, "title"), *deleted("north", 1, 2, 101)])
    s.exchange()


def test_an_attached_table_brings_its_rows(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write(
        "CREATE TABLE east (LIKE event INCLUDING ALL)",
        "INSERT INTO east SELECT 'east', n, 'old' FROM generate_series(1, 3) AS n",
        "ALTER TABLE event ATTACH PARTITION east FOR VALUES IN ('east')",
    )
    assert follow(s) == plain(inserted("east", 1, 2, 3))
    s.exchange()
    s.here.write("UPDATE east SET stars = 5 WHERE id = 3")
    assert s.changes() == [updated("east", 3, "stars")]
    s.exchange()


def test_an_attached_tree_of_partitions_brings_its_rows(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write(
        "CREATE TABLE east (LIKE event INCLUDING ALL) PARTITION BY HASH (id)",
        *(
            f"CREATE TABLE east_{n} PARTITION OF east FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
            for n in range(2)
        ),
        "INSERT INTO east SELECT 'east', n FROM generate_series(1, 10) AS n",
        "ALTER TABLE event ATTACH PARTITION east FOR VALUES IN ('east')",
    )
    assert follow(s) == plain(inserted("east", *range(1, 11)))
    s.here.write("DELETE FROM east_0", "DELETE FROM east", "INSERT INTO east VALUES ('east', 99)")
    s.exchange()
    assert len(s.rows(s.there, "event")) == 7


@pytest.mark.parametrize("how", ["ALTER TABLE event DETACH PARTITION south", "DROP TABLE south"])
def test_rows_that_go_with_a_partition_are_deleted_everywhere(shelf: MakeShelf, how: str) -> None:
    s = shelf(EVENT, "event")
    s.here.write("UPDATE event SET title = 'u' WHERE id = 1", "INSERT INTO event VALUES ('south', 3)", how)
    assert follow(s) == plain([updated("north", 1), *deleted("south", 1, 2, 101)])
    s.exchange()
    assert len(s.rows(s.there, "event")) == 3


@pytest.mark.parametrize("servers", [f"{EMBEDDED} {EMBEDDED}", f"{SECOND} {SECOND}"], indirect=True)
def test_a_partition_detached_concurrently_goes_likewise(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.execute("ALTER TABLE event DETACH PARTITION north CONCURRENTLY")
    assert follow(s) == plain(deleted("north", 1, 2, 101))
    s.exchange()


def test_a_detached_partition_is_no_longer_captured(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write("ALTER TABLE event DETACH PARTITION north")
    s.here.write("INSERT INTO north (region, id) VALUES ('north', 9)", "DELETE FROM north WHERE id = 1")
    assert s.changes() == []
    assert follow(s) == plain(deleted("north", 1, 2, 101))
    s.here.write("UPDATE north SET title = 'mine'", "TRUNCATE north")
    assert follow(s) == []
    s.exchange()


def test_a_partition_that_left_and_came_back_tells_what_happened_meanwhile(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write("ALTER TABLE event DETACH PARTITION north")
    s.here.write(
        "DELETE FROM north WHERE id = 1",
        "UPDATE north SET title = 'z' WHERE id = 2",
        "INSERT INTO north (region, id) VALUES ('north', 9)",
    )
    assert follow(s) == plain(deleted("north", 1, 2, 101))
    s.here.write("ALTER TABLE event ATTACH PARTITION north FOR VALUES IN ('north')")
    assert follow(s) == plain(inserted("north", 2, 9, 101))
    s.exchange()


def test_a_partition_that_is_exchanged_for_another_becomes_the_difference(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write(
        "CREATE TABLE fresh (LIKE event INCLUDING ALL)",
        "INSERT INTO fresh VALUES ('north', 1, 'north1', 1), ('north', 2, 'other', 2), ('north', 4, NULL, 0)",
        "DROP TABLE north",
        "ALTER TABLE event ATTACH PARTITION fresh FOR VALUES IN ('north')",
    )
    assert follow(s) == plain([updated("north", 2), *deleted("north", 101), *inserted("north", 4)])
    s.exchange()


def test_a_commit_that_arrives_before_the_seal_meets_the_partitions_as_they_are(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.there.write(
        "UPDATE event SET title = 'there' WHERE region = 'north'",
        "INSERT INTO event VALUES ('north', 7), ('south', 7)",
    )
    s.there.commit()
    arriving = s.there.outgoing(s.here.merged())
    s.here.write(
        "ALTER TABLE event DETACH PARTITION north",
        "CREATE TABLE rest PARTITION OF event DEFAULT",
        "INSERT INTO rest VALUES ('west', 1)",
    )
    assert [outcome for _, outcome, _ in s.here.deliver(arriving)] == ["merged"]
    s.exchange()
    assert sorted(row.split("\t")[0] for row in s.rows(s.there, "event")) == ["north"] + ["south"] * 4 + [
        "west"
    ]


def test_uncommitted_work_of_a_manual_bundle_outlives_a_change_of_partitions(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event", mode="manual")
    s.here.write(
        "UPDATE event SET title = 'mine' WHERE region = 'south' AND id = 1",
        "DELETE FROM event WHERE region = 'south' AND id = 2",
    )
    s.there.write("UPDATE event SET title = 'theirs', stars = 77 WHERE region = 'south' AND id IN (1, 2)")
    s.there.commit()
    s.here.write(EAST, "INSERT INTO east VALUES ('east', 1)")
    s.here.deliver(s.there.outgoing(s.here.merged()))
    s.here.write("CREATE TABLE west PARTITION OF event FOR VALUES IN ('west')", "DROP TABLE north")
    s.here.commit()
    conflicts = s.here.execute(
        "SELECT column_name, winning_value, losing_value FROM peer.conflict WHERE scope = 'bundle' ORDER BY 1"
    )
    assert ("title", "mine", "theirs") in conflicts
    s.exchange()


def test_a_partition_that_is_being_written_makes_the_commit_wait_not_the_writer(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write(EAST)
    with psycopg.connect(s.here.dsn) as writer:
        writer.execute("INSERT INTO east VALUES ('east', 1)")
        with pytest.raises(
            psycopg.errors.LockNotAvailable, match=r"partitions of public\.event have changed"
        ):
            s.here.commit()
        writer.execute("INSERT INTO east VALUES ('east', 2)")
        writer.commit()
    assert follow(s) == plain(inserted("east", 1, 2))
    s.exchange()


def comparisons(s: Shelf) -> int:
    """How often one seal compares rows with the history."""
    count = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_xact_user_functions WHERE funcname = 'compare_with_head'"
    with s.here.connection.transaction():
        s.here.execute("SET LOCAL track_functions = 'all'")
        before: int = s.here.value(count)
        s.here.execute("SELECT peer_internal.seal_bundle(%s)", s.here.bundle_id)
        calls: int = s.here.value(count) - before
        return calls


def test_rows_are_compared_with_the_history_only_when_partitions_changed_and_may_hold_some(
    shelf: MakeShelf,
) -> None:
    s = shelf(EVENT, "event")
    s.here.write(EAST)
    assert comparisons(s) == 0
    s.here.write("UPDATE event SET title = title || '!' WHERE id = 1")
    assert comparisons(s) == 0
    s.here.write(
        "CREATE TABLE west PARTITION OF event FOR VALUES IN ('west')", "INSERT INTO west VALUES ('west', 1)"
    )
    assert comparisons(s) == 1
    assert comparisons(s) == 0


def test_untrack_leaves_no_trigger_on_any_partition(shelf: MakeShelf) -> None:
    s = shelf(EVENT, "event")
    s.here.write("ALTER TABLE event DETACH PARTITION north", "CREATE TABLE rest PARTITION OF event DEFAULT")
    s.here.commit()
    s.here.execute("SELECT peer.untrack('event')")
    assert s.here.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_pgpeer%'") == 0
    assert s.here.value("SELECT count(*) FROM peer_internal.relation_part") == 0
    s.here.write("INSERT INTO event VALUES ('west', 1)", "DROP TABLE event", "DROP TABLE north")
