"""ALTER TABLE on tracked tables while workers run and people write."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]


def test_tables_are_changed_while_people_write_and_no_write_fails(atlas: Make, make_peer: Make) -> None:
    """Columns and the table change their names again and again under writers who use `SELECT *` and triggers' plans."""
    ann, bob = atlas("ann"), make_peer("bob")
    bob.start()
    bob.join(ann)
    over = threading.Event()
    told: dict[int, str] = {}
    errors: list[str] = []

    def write() -> None:
        number = 0
        with psycopg.connect(ann.database.dsn, autocommit=True) as connection:
            while not over.wait(0.005):
                number += 1
                try:
                    # a view follows renames, so that the statement is right at every moment
                    connection.execute(
                        "UPDATE public.view SET name = %s WHERE id = %s", [f"n{number}", number % 500 + 1]
                    )
                    told[number % 500 + 1] = f"n{number}"
                except psycopg.Error as error:
                    errors.append(f"{error.sqlstate} {error}")

    ann.run("CREATE VIEW public.view AS SELECT id, name, population FROM public.city")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for one, other in (("name", "title"), ("title", "label"), ("label", "name")):
            ann.run(f"ALTER TABLE public.city RENAME COLUMN {one} TO {other}")
            over.wait(1.0)
        ann.run("ALTER TABLE public.city RENAME TO town")
        over.wait(1.0)
        ann.run("ALTER TABLE public.town ADD COLUMN local integer DEFAULT 1")
        over.wait(1.0)
        ann.run("ALTER TABLE public.town DROP COLUMN local")
        over.wait(1.0)
    finally:
        over.set()
        writer.join()
    assert errors == []
    assert len(told) > 100
    wait_until_equal(ann, bob)
    there = dict(bob.run("SELECT id, name FROM public.city"))
    assert {key: there[key] for key in told} == told
    assert ann.value("SELECT count(*) FROM peer.problem") == 0


def test_a_column_that_was_dropped_stops_its_table_until_it_is_back(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas("ann"), make_peer("bob")
    bob.start()
    bob.join(ann)
    ann.run("ALTER TABLE public.city DROP COLUMN population")
    ann.run("UPDATE public.city SET name = 'without' WHERE id = 1")
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE kind = 'capture_gap')")
    bob.run("UPDATE public.city SET name = 'theirs' WHERE id = 2")
    ann.wait_until("SELECT EXISTS (SELECT FROM peer.problem WHERE detail LIKE '%%is held%%')")
    ann.run("ALTER TABLE public.city ADD COLUMN population bigint")
    ann.run("UPDATE public.city AS c SET population = c.id * 1000")
    ann.run("SELECT peer.recapture('public.city')")
    wait_until_equal(ann, bob)
    ann.wait_until("SELECT NOT EXISTS (SELECT FROM peer.problem)")
    for peer in (ann, bob):
        assert peer.run("SELECT name, population FROM public.city WHERE id < 3 ORDER BY id") == [
            ("without", 1000),
            ("theirs", 2000),
        ]
