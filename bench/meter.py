"""Counting the bytes that something costs on the wire."""

from __future__ import annotations

import hashlib
import time
from typing import Final, Protocol

from bench.bed import Place
from bench.pair import Road

_SLOT: Final = "bench_wire"
_PADDING_HASHES: Final = 512
_LOOK_SECONDS: Final = 0.1

_DECODED: Final = f"""
    SELECT coalesce(sum(length(data)), 0)::bigint
      FROM pg_logical_slot_get_binary_changes(
               '{_SLOT}', NULL, NULL, 'proto_version', '1', 'publication_names', 'bench')
"""


class Meter(Protocol):
    """Counts from `start` to `stop`."""

    def start(self) -> None:
        """What comes now counts."""

    def stop(self) -> int:
        """The bytes since `start`."""


class FrameMeter:
    """The payload of all frames of a worker's links, both ways, acknowledgements included.

    A worker writes its counters to the database only when they have grown by a few kilobytes. So each reading
    first sends a row that does not compress, whose bytes are measured beforehand and taken off again.
    """

    def __init__(self, road: Road) -> None:
        self._road = road
        self._number = 0
        self._before = 0
        self._read()
        before = self._read()
        self._padding = self._read() - before

    def start(self) -> None:
        """What comes now counts."""
        self._before = self._read()

    def stop(self) -> int:
        """The bytes since `start`."""
        return self._read() - self._before - self._padding

    def _read(self) -> int:
        self._number += 1
        seed = f"padding {self._number}"
        text = "".join(hashlib.sha256(f"{seed} {n}".encode()).hexdigest() for n in range(_PADDING_HASHES))
        self._road.source.run("UPDATE point SET a = %s WHERE id = 1", text)
        self._road.visible("SELECT a = %s FROM point WHERE id = 1", text)
        before, now = -1, self._look()
        while now != before:
            before, now = now, self._look()
        return now

    def _look(self) -> int:
        self._road.source.run("NOTIFY pgpeer_config")  # now and then it looks by itself: this makes it now
        time.sleep(_LOOK_SECONDS)
        query = "SELECT sum(bytes_sent + bytes_received)::bigint FROM peer.connection WHERE kind = 'link'"
        return int(self._road.source.value(query))


class DecodedMeter:
    """The messages of logical replication's output plugin, without the protocol around them."""

    def __init__(self, source: Place) -> None:
        self._source = source
        source.run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", _SLOT)

    def start(self) -> None:
        """What comes now counts."""
        self._source.run(_DECODED)

    def stop(self) -> int:
        """The bytes since `start`."""
        return int(self._source.value(_DECODED))

    def close(self) -> None:
        """Frees what the server keeps for it."""
        self._source.run("SELECT pg_drop_replication_slot(%s)", _SLOT)
