"""Two peers that share a bundle, and beside them two databases joined by built-in logical replication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench import rows
from bench.bed import Bed, Place
from bench.clock import answers, seen
from bench.sizes import Sizes

BUNDLE: Final = "shared"
POINT_ROWS: Final = 10_000
LOGICAL: Final = "logical replication"


@dataclass(frozen=True, slots=True)
class Road:
    """One way from a database on the left to one on the right, over the tables `point` and `bulk`.

    Attributes:
        name: who carries the rows.
        source: where rows are written; it also has the rows of `bulk` in a table `source`, which stays there.
        target: where they shall be seen.
    """

    name: str
    source: Place
    target: Place

    def visible(self, query: str, *parameters: object) -> float:
        """The moment when a query on the target gives true."""
        what = f"{query} {parameters} by {self.name}"
        return seen(answers(self.target.connection, query, *parameters), what)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both roads; on the first, two workers serve."""

    peers: Road
    logical: Road

    def in_turn(self, repetition: int) -> tuple[Road, Road]:
        """Both roads, in an order that changes from one repetition to the next."""
        return (self.peers, self.logical) if repetition % 2 else (self.logical, self.peers)


def pair(bed: Bed, sizes: Sizes) -> Pair:
    """The pair of this bed, made when it is first asked for."""
    if not isinstance(bed.shared, Pair):
        bed.shared = Pair(_peers(bed, sizes), _logical(bed, sizes))
    return bed.shared


def _peers(bed: Bed, sizes: Sizes) -> Road:
    source, target = bed.peer(bed.left, "shared"), bed.peer(bed.right, "shared")
    _fill(source, sizes)
    source.run("SELECT peer.create_bundle(%s)", BUNDLE)
    for table in ("point", "bulk"):
        source.run("SELECT peer.track(%s, %s)", BUNDLE, f"public.{table}")
    source.start_worker()
    target.start_worker()
    target.join(source, BUNDLE)
    return Road("pgpeer", source, target)


def _logical(bed: Bed, sizes: Sizes) -> Road:
    source, target = bed.bare(bed.left, "logical"), bed.bare(bed.right, "logical")
    _fill(source, sizes)
    rows.create(target.connection, "point", "bulk")
    source.run("CREATE PUBLICATION bench FOR TABLE point, bulk")
    subscribe(source, target, "bench")
    return Road(LOGICAL, source, target)


def subscribe(source: Place, target: Place, name: str) -> float:
    """Subscribes to a publication and waits until the first copy is over; the moment when it was."""
    target.run(f"CREATE SUBSCRIPTION {name} CONNECTION '{source.conninfo}' PUBLICATION {name}")
    query = "SELECT bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel"
    return seen(answers(target.connection, query), f"the copy of {name}")


def _fill(source: Place, sizes: Sizes) -> None:
    rows.create(source.connection, "point", "bulk", "source")
    source.run(f"INSERT INTO point {rows.rows(1, POINT_ROWS)}")
    source.run(f"INSERT INTO source {rows.rows(1, sizes.rows)}")
    source.run("VACUUM ANALYZE")
