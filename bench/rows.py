"""The table that is measured with, and its rows: made from their number alone, the same in every run."""

from __future__ import annotations

from typing import Final

import psycopg

COLUMNS: Final = (
    "id bigint PRIMARY KEY, a text NOT NULL, b integer NOT NULL, c numeric(10, 2), d timestamptz, e jsonb,"
    " f boolean"
)

_WORDS: Final = (
    "amber basin cedar delta ember fjord glade haven inlet jetty kiosk lodge maple north ocean plaza "
    "quarry ridge slope tower upland valley wharf yard zenith acorn birch canal depot eagle ferry gravel "
    "harbour island jasper kettle lantern meadow nickel orchard pebble quartz river summit timber umber "
    "village willow xenon yellow zinc anchor bridge cotton dairy engine forest garden hotel iron junction"
)

DEFINITIONS: Final = f"""
    CREATE TABLE bench_words AS SELECT string_to_array('{_WORDS}', ' ') AS w;
    CREATE FUNCTION bench_text(number bigint) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT string_agg(w[1 + get_byte(decode(md5(number::text), 'hex'), i) % cardinality(w)], ' ')
          FROM bench_words, generate_series(0, 7) AS i
    $$;
"""
"""What `rows` needs in a database."""


def create(connection: psycopg.Connection, *names: str) -> None:
    """Makes empty tables of the measured shape."""
    for name in names:
        connection.execute(f"CREATE TABLE public.{name} ({COLUMNS})".encode())


def rows(first: int, count: int, *, text: str = "bench_text(n)") -> str:
    """The query for rows `first` to `first + count - 1`, about 200 bytes each with header and index.

    Args:
        first: the id of the first row.
        count: how many.
        text: the expression for column a; n is the row's number.
    """
    return f"""
        SELECT n AS id, {text} AS a, (n % 1000)::integer AS b,
               ((n * 7919) % 1000003)::numeric(10, 2) / 100 AS c,
               timestamptz '2020-01-01 00:00:00+00' + make_interval(secs => (n * 104729) % 150000007) AS d,
               jsonb_build_object('unit', (ARRAY['kg', 'm', 'pcs'])[1 + n % 3], 'revision', n % 17) AS e,
               n % 5 = 0 AS f
          FROM generate_series({first}::bigint, {first + count - 1}::bigint) AS n
    """
