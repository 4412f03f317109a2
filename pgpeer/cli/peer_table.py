"""The other peers of a database: what is known of each, and how people read it in a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from pgpeer.cli.database import WORKER_RUNS, Database
from pgpeer.cli.output import Row

_PEERS: Final = f"""
    WITH standing AS MATERIALIZED (
        SELECT b.name AS bundle, pg_catalog.encode(v.author, 'hex') AS author, v.epoch, v.seq
          FROM peer_internal.bundle AS b CROSS JOIN LATERAL peer_internal.vector(b.bundle_id) AS v),
    other AS MATERIALIZED (
        SELECT m.bundle, m.peer_id, m.label, m.role, m.state, m.last_seen, gap.behind, gap.ahead
          FROM peer.member AS m
          JOIN peer_internal.author AS k ON k.peer_id = m.peer_id
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(greatest(coalesce(s.seq, 0) - coalesce(a.seq, 0), 0))
                              FILTER (WHERE author <> pg_catalog.encode(k.public_key, 'hex')), 0) AS behind,
                      coalesce(sum(greatest(coalesce(a.seq, 0) - coalesce(s.seq, 0), 0)), 0) AS ahead
                 FROM (SELECT x.author, x.epoch, x.seq FROM standing AS x WHERE x.bundle = m.bundle) AS s
                 FULL JOIN pg_catalog.jsonb_to_recordset(m.acknowledged)
                           AS a(author text, epoch bigint, seq bigint) USING (author, epoch)) AS gap
            ON m.acknowledged IS NOT NULL
         WHERE m.peer_id IS DISTINCT FROM peer.identity()
           AND (%(bundle)s::text IS NULL OR m.bundle = %(bundle)s)),
    link AS MATERIALIZED (
        SELECT DISTINCT ON (c.peer_id) c.*, pg_catalog.to_jsonb(c) AS document
          FROM peer.connection AS c WHERE c.kind = 'link' AND ({WORKER_RUNS})
         ORDER BY c.peer_id, c.since DESC),
    known AS (
        SELECT o.peer_id, max(o.label) AS label, max(o.last_seen) AS last_seen,
               pg_catalog.array_agg(o.bundle ORDER BY o.bundle) FILTER (WHERE o.state = 'active') AS bundles,
               pg_catalog.jsonb_object_agg(
                   o.bundle, CASE o.state WHEN 'active' THEN o.role ELSE o.state END) AS roles,
               sum(o.behind) FILTER (WHERE o.state = 'active') AS behind,
               sum(o.ahead) FILTER (WHERE o.state = 'active') AS ahead
          FROM other AS o GROUP BY o.peer_id
         UNION ALL
        SELECT f.peer_id, max(f.label), NULL, NULL, '{{}}', NULL, NULL
          FROM (SELECT l.peer_id, l.label FROM link AS l
                 UNION ALL SELECT x.peer_id, x.label FROM peer.friend AS x WHERE x.state = 'accepted') AS f
         WHERE %(bundle)s::text IS NULL AND NOT EXISTS (SELECT FROM other AS o WHERE o.peer_id = f.peer_id)
         GROUP BY f.peer_id)
    SELECT k.peer_id, k.label,
           CASE WHEN k.bundles IS NULL AND k.roles <> '{{}}' THEN 'removed'
                WHEN l.state = 'open' THEN 'linked' WHEN l.state IS NOT NULL THEN l.state
                WHEN EXISTS (SELECT FROM peer.online_peers() AS o WHERE o.peer_id = k.peer_id) THEN 'online'
                WHEN ({WORKER_RUNS}) THEN 'offline' ELSE 'unknown' END AS state,
           coalesce(k.bundles, '{{}}') AS bundles, k.roles,
           l.connection_id, l.direction, l.path, l.engine, l.rtt,
           (l.document ->> 'bytes_sent_per_second')::numeric AS bytes_sent_per_second,
           (l.document ->> 'bytes_received_per_second')::numeric AS bytes_received_per_second,
           l.bytes_sent, l.bytes_received, l.since, k.behind, k.ahead,
           CASE WHEN l.state = 'open' THEN pg_catalog.clock_timestamp() ELSE k.last_seen END AS last_seen
      FROM known AS k LEFT JOIN link AS l ON l.peer_id = k.peer_id
     ORDER BY k.label NULLS LAST, k.peer_id
"""

COLUMNS: Final = ("label", "peer", "state", "bundles", "path", "rtt", "goodput", "sync", "last seen")
_STATE_STYLES: Final = {"linked": "green", "online": "yellow", "removed": "red"}
_SHORT_ID: Final = 11
_UNITS: Final = ("B", "kB", "MB", "GB")
_STEP: Final = 1000.0


def peer_rows(database: Database, bundle: str | None) -> list[Row]:
    """One row for each other member, linked peer and friend; of one bundle: its members only.

    `behind` counts the commits of others that are merged here and that the peer has not acknowledged, `ahead`
    those that it has acknowledged and that are not merged here; both NULL for a peer without a common bundle,
    or that has not told yet what it has.
    """
    return database.rows(_PEERS, {"bundle": bundle})


def peer_table(rows: Sequence[Row], now: datetime, *, whole_ids: bool) -> Table:
    """Draws the rows; peer ids are whole where somebody may want to copy them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column == "rtt" else "left", no_wrap=column != "bundles")
    for row in rows:
        peer_id = str(row["peer_id"])
        table.add_row(
            Text(row["label"] or ""),
            peer_id if whole_ids else peer_id[:_SHORT_ID] + "…",
            Text(row["state"], style=_STATE_STYLES.get(row["state"], "")),
            Text(", ".join(row["bundles"])),
            row["path"] or "",
            _round_trip(row["rtt"]),
            _goodput(row),
            _sync(row),
            _seen(row, now),
        )
    return table


def _round_trip(rtt: str | None) -> str:
    """An interval of PostgreSQL's JSON, `HH:MM:SS.ffffff`, in milliseconds."""
    if rtt is None:
        return ""
    hours, minutes, seconds = rtt.split(":")
    milliseconds = (float(hours) * 3600 + float(minutes) * 60 + float(seconds)) * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _goodput(row: Row) -> str:
    sent, received = row["bytes_sent_per_second"], row["bytes_received_per_second"]
    if sent is None or received is None:
        return ""
    return f"↑ {_rate(sent)} ↓ {_rate(received)}"


def _rate(bytes_per_second: float) -> str:
    amount = float(bytes_per_second)
    unit = 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount /= _STEP
        unit += 1
    return f"{amount:.0f} B/s" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}/s"


def _sync(row: Row) -> str:
    if row["behind"] is None:
        return "not told" if row["bundles"] else ""
    parts = [f"{word} by {row[word]}" for word in ("behind", "ahead") if row[word]]
    return ", ".join(parts) or "in sync"


def _seen(row: Row, now: datetime) -> str:
    if row["state"] == "linked":
        return "now"
    if row["last_seen"] is None:
        return "never"
    seconds = max(0.0, (now - datetime.fromisoformat(row["last_seen"]).astimezone(UTC)).total_seconds())
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {word} ago"
    return f"{seconds:.0f} s ago"
