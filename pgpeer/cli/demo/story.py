"""What happens in the demo, act by act; each act returns what it found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from pgpeer.cli.demo.atlas import BUNDLE, TABLES, Atlas
from pgpeer.cli.demo.stage import Place
from pgpeer.errors import PgpeerError

_JOIN_SECONDS: Final = 60.0
_AGREE_SECONDS: Final = 60.0
_PAUSE: Final = 0.02
_LATENCY_SAMPLES: Final = 10

_UPGRADE_SECONDS: Final = 10.0

_PATH: Final = """
    SELECT c.path, c.engine, c.local_candidate, c.remote_candidate
      FROM peer.connection AS c WHERE c.state = 'open' ORDER BY c.since DESC LIMIT 1
"""

_TRAFFIC: Final = """
    SELECT coalesce(sum(c.bytes_sent), 0)::bigint, coalesce(sum(c.bytes_received), 0)::bigint
      FROM peer.connection AS c
"""


@dataclass(frozen=True, slots=True)
class Path:
    """How two workers are connected: what peer.connection says about it."""

    path: str
    engine: str
    local_candidate: str | None
    remote_candidate: str | None


@dataclass(frozen=True, slots=True)
class Filled:
    """How the tables came to the second peer."""

    load_seconds: float
    track_seconds: float
    join_seconds: float
    rows: int
    path: Path


@dataclass(frozen=True, slots=True)
class Together:
    """How both edited at once while connected."""

    statements: int
    agree_seconds: float
    latency_milliseconds: float
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Apart:
    """How both edited without a connection, and what became of it."""

    cut_seconds: float
    noticed_seconds: float | None
    agree_seconds: float
    merged_row: dict[str, Any]
    deleted: tuple[Any, ...]
    bytes_sent: int
    bytes_received: int


def fill(paris: Place, tokyo: Place, atlas: Atlas) -> Filled:
    """The first peer loads and tracks the tables; the second joins by an invite."""
    load_seconds = _seconds(lambda: atlas.load(paris.connection))
    start = time.monotonic()
    paris.value("SELECT peer.create_bundle(%s)", BUNDLE)
    for table in TABLES:
        paris.value("SELECT peer.track(%s, %s::text::regclass)", BUNDLE, f"public.{table}")
    track_seconds = time.monotonic() - start
    link = paris.value("SELECT peer.invite(%s)", BUNDLE)
    start = time.monotonic()
    tokyo.value("SELECT peer.join(%s)", link)
    _wait_until(lambda: _is_joined(tokyo), _JOIN_SECONDS, "The second peer did not join", tokyo)
    join_seconds = time.monotonic() - start
    rows = sum(count(tokyo, table) for table in TABLES)
    return Filled(load_seconds, track_seconds, join_seconds, rows, _settled_path(tokyo))


def edit_together(paris: Place, tokyo: Place, *, rounds: int) -> Together:
    """Both change rows at the same time, while connected; then one changes row after row."""
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(_grow, paris, "EU", rounds), pool.submit(_grow, tokyo, "AS", rounds)]
        statements = sum(future.result() for future in done)
    agree(paris, tokyo)
    seconds = time.monotonic() - start
    latency = _latency(paris, tokyo)
    agree(paris, tokyo)
    return Together(statements, seconds, latency, *traffic(tokyo))


def edit_apart(paris: Place, tokyo: Place, *, cut_seconds: float) -> Apart:
    """The second worker dies; both go on editing; it comes back, and everything is merged.

    One cell is written differently on both sides, two columns of one row by one side each, and one row is
    deleted.
    """
    assert tokyo.worker is not None
    conflicting = _city(paris, "Vienna")
    merged = _city(paris, "Istanbul")
    deleted = paris.rows("SELECT id, name, country FROM public.city ORDER BY population, id LIMIT 1")[0]
    last_event = paris.value("SELECT max(id) FROM peer.event")
    start = time.monotonic()
    tokyo.worker.kill()

    paris.rows("UPDATE public.city SET name = 'Wien' WHERE id = %s", conflicting)
    paris.rows("UPDATE public.city SET population = 16000000 WHERE id = %s", merged)
    _grow(paris, "AF", 1)
    paris.rows("INSERT INTO public.continent VALUES ('ZZ', 'Zealandia', 5500000)")
    tokyo.rows("UPDATE public.city SET name = 'Vindobona' WHERE id = %s", conflicting)
    tokyo.rows("UPDATE public.city SET name = 'İstanbul' WHERE id = %s", merged)
    tokyo.rows("DELETE FROM public.city WHERE id = %s", deleted[0])
    _grow(tokyo, "SA", 1)

    noticed = None
    while (passed := time.monotonic() - start) < cut_seconds:
        if noticed is None and _has_noticed(paris, last_event):
            noticed = passed
        time.sleep(0.1)
    paris.rows("UPDATE public.country SET population = population + 1 WHERE continent = 'OC'")
    cut = time.monotonic() - start
    start = time.monotonic()
    tokyo.start_worker()
    agree(paris, tokyo)
    row = tokyo.value("SELECT to_jsonb(c) FROM public.city AS c WHERE id = %s", merged)
    return Apart(cut, noticed, time.monotonic() - start, row, deleted, *traffic(tokyo))


def agree(paris: Place, tokyo: Place) -> None:
    """Waits until both have the same commits and nothing uncommitted.

    Raises:
        PgpeerError: they do not in time.
    """
    _wait_until(
        lambda: _standing(paris) == _standing(tokyo) and not _has_changes(paris) and not _has_changes(tokyo),
        _AGREE_SECONDS,
        "The peers did not come to agree",
        paris,
        tokyo,
    )


def count(place: Place, table: str) -> int:
    """How many rows a table has."""
    return int(place.value(f"SELECT count(*) FROM public.{table}"))


def state_hash(place: Place) -> str:
    """The hash of all tracked rows."""
    return str(place.value("SELECT peer.state_hash(%s)", BUNDLE))


def traffic(place: Place) -> tuple[int, int]:
    """Bytes sent and received over the present links, as the worker counts them."""
    place.rows("NOTIFY pgpeer_config")  # it writes its counters now and then: this makes it now
    time.sleep(0.3)
    sent, received = place.rows(_TRAFFIC)[0]
    return int(sent), int(received)


def _grow(place: Place, continent: str, rounds: int) -> int:
    """Changes the cities of a continent, a country in a transaction; returns how many transactions."""
    isos = place.rows("SELECT iso FROM public.country WHERE continent = %s ORDER BY iso", continent)
    for _ in range(rounds):
        for (iso,) in isos:
            place.rows("UPDATE public.city SET population = population + 1 WHERE country = %s", iso)
    return rounds * len(isos)


def _latency(paris: Place, tokyo: Place) -> float:
    """Median milliseconds from the commit of one row on one peer until the other sees it."""
    identifier = _city(paris, "Prague")
    samples = []
    for number in range(_LATENCY_SAMPLES):
        zone = f"sample {number}"
        paris.rows("UPDATE public.city SET timezone = %s WHERE id = %s", zone, identifier)
        start = time.monotonic()
        while tokyo.value("SELECT timezone FROM public.city WHERE id = %s", identifier) != zone:
            if time.monotonic() - start > _AGREE_SECONDS:
                raise _late("A change did not arrive", tokyo)
        samples.append(time.monotonic() - start)
    paris.rows("UPDATE public.city SET timezone = 'Europe/Prague' WHERE id = %s", identifier)
    return statistics.median(samples) * 1000


def _city(place: Place, name: str) -> int:
    query = "SELECT id FROM public.city WHERE name = %s ORDER BY population DESC LIMIT 1"
    return int(place.value(query, name))


def _is_joined(place: Place) -> bool:
    kinds = {
        kind: detail
        for kind, detail in place.rows("SELECT kind, detail FROM peer.event WHERE bundle = %s", BUNDLE)
    }
    if "join-failed" in kinds:
        raise PgpeerError(f"The second peer was not taken in: {kinds['join-failed']}")
    return "joined" in kinds


def _has_noticed(place: Place, last_event: int) -> bool:
    query = "SELECT EXISTS (SELECT FROM peer.event WHERE id > %s AND kind = 'disconnected')"
    return bool(place.value(query, last_event))


def _settled_path(place: Place) -> Path:
    """The path of the link; a link that began over the hub gets some seconds to find a direct one."""
    give_up = time.monotonic() + _UPGRADE_SECONDS
    while True:
        found = place.rows(_PATH)
        if found and (found[0][0] != "relay" or time.monotonic() > give_up):
            return Path(*found[0])
        if time.monotonic() > give_up:
            raise _late("The link broke and did not come back", place)
        time.sleep(_PAUSE)


def _standing(place: Place) -> list[tuple[Any, ...]]:
    return place.rows("SELECT author, epoch, seq FROM peer.version_vector(%s)", BUNDLE)


def _has_changes(place: Place) -> bool:
    return bool(place.value("SELECT EXISTS (SELECT FROM peer.status(%s))", BUNDLE))


def _wait_until(condition: Callable[[], bool], seconds: float, failure: str, *places: Place) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise _late(f"{failure} within {seconds:g} s", *places)
        time.sleep(_PAUSE)


def _late(sentence: str, *places: Place) -> PgpeerError:
    problems = [
        f"{place.name}: {detail} {remedy}"
        for place in places
        for detail, remedy in place.rows("SELECT detail, remedy FROM peer.problem")
    ]
    logs = ", ".join(str(place.log) for place in places)
    return PgpeerError(f"{sentence}.", remedy=" ".join(problems) or f"The logs of the workers are {logs}.")


def _seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start
