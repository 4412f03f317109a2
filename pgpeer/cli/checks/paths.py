"""How each peer is reached, and why that way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgpeer.cli.checks.finding import Finding, well
from pgpeer.cli.database import WORKER_RUNS, Database
from pgpeer.cli.output import Row

if TYPE_CHECKING:
    from pgpeer.transport.nat_probe import Mapping

_UPGRADE_SECONDS: Final = 30.0
"""So long a link may go through the hub before doctor wonders why it has not got a better path."""

_LINKS: Final = """
    SELECT m.peer_id, m.label, c.path, c.local_candidate, c.remote_candidate,
           EXTRACT(epoch FROM c.rtt) * 1000 AS milliseconds,
           EXTRACT(epoch FROM pg_catalog.clock_timestamp() - c.since) AS seconds,
           EXISTS (SELECT FROM peer.online_peers() AS o WHERE o.peer_id = m.peer_id) AS is_online,
           (SELECT CASE WHEN e.kind = 'connect-failed'
                        THEN coalesce(e.phase || ': ', '') || coalesce(e.detail, e.code) END
              FROM peer.event AS e
             WHERE e.peer_id = m.peer_id AND e.kind IN ('connect-failed', 'connected')
             ORDER BY e.id DESC LIMIT 1) AS last_failure
      FROM (SELECT DISTINCT m.peer_id, m.label FROM peer.member AS m
             WHERE m.state = 'active' AND m.peer_id IS DISTINCT FROM peer.identity()
             UNION SELECT peer_internal.peer_id(j.inviter_key), a.label
              FROM peer_internal.join_request AS j
              LEFT JOIN peer_internal.author AS a ON a.public_key = j.inviter_key
             WHERE j.state = 'requested') AS m
      LEFT JOIN LATERAL (SELECT x.* FROM peer.connection AS x
                          WHERE x.peer_id = m.peer_id AND x.kind = 'link' AND x.state = 'open'
                          ORDER BY x.since DESC LIMIT 1) AS c ON true
     ORDER BY m.label, m.peer_id
"""


@dataclass(frozen=True, slots=True)
class Ways:
    """What the checks of the network have found, which explains paths.

    Attributes:
        mapping: the kind of NAT; None when no STUN server is set.
        has_turn: whether a TURN server gave an address.
        turn_failure: why another one did not; empty when none failed.
        has_hub: whether a hub lets this database in.
        has_relay: whether such a hub offers circuits.
    """

    mapping: Mapping | None
    has_turn: bool
    turn_failure: str
    has_hub: bool
    has_relay: bool


NOTHING_KNOWN: Final = Ways(None, has_turn=False, turn_failure="", has_hub=False, has_relay=False)
"""The network was not checked."""


def path_findings(database: Database, ways: Ways) -> Iterator[Finding]:
    """Gives one finding for each other member."""
    runs = bool(database.value(WORKER_RUNS))
    for row in database.rows(_LINKS):
        yield _finding(row, ways, worker_runs=runs)


def _finding(row: Row, ways: Ways, *, worker_runs: bool) -> Finding:
    peer = f"{row['label'] or 'a peer'} ({row['peer_id'][:11]}…)"
    if not worker_runs:
        return Finding(
            "path",
            "warn",
            "not_linked",
            f"{peer} is not linked: no worker runs here.",
            "Start it: pgpeer worker",
        )
    if row["path"] is None:
        return _unlinked(peer, row, ways)
    seconds = None if row["milliseconds"] is None else float(row["milliseconds"]) / 1000
    if row["path"] != "relay":
        return well("path", f"{peer} is linked by {_directly(row)}.", seconds)
    reason, remedy = why_relayed(ways)
    detail = f"{peer} is linked through the hub (relay): {reason}."
    if float(row["seconds"]) < _UPGRADE_SECONDS:
        return well("path", f"{detail} The link is new; a better path may follow.", seconds)
    return Finding("path", "warn", "relayed", detail, remedy, None if seconds is None else seconds * 1000)


def _directly(row: Row) -> str:
    kinds = {(row[name] or "").partition(" ")[0] for name in ("local_candidate", "remote_candidate")}
    if row["path"] == "tls":
        return "tls: one side reaches the other at its address, which is the fastest way"
    if row["path"] != "webrtc":
        return str(row["path"])
    if "relay" in kinds:
        return "webrtc over a TURN server: no direct way lets UDP through both NATs"
    if kinds & {"srflx", "prflx"}:
        return "webrtc, directly: the NATs in between let it through"
    return "webrtc, directly: both see each other's own addresses"


def why_relayed(ways: Ways) -> tuple[str, str]:
    """Why a link goes through the hub and no better way, and what would help."""
    stun_row = "INSERT INTO peer.stun_server (url) VALUES ('stun:HOST:PORT');"
    if ways.mapping == "blocked":
        remedy = (
            "Let UDP out, or let one side listen where the other can reach it: peer.config.listen_address."
        )
        return "UDP is blocked (STUN did not answer)", remedy
    if ways.mapping is None and not ways.has_turn:
        if ways.turn_failure:
            return f"no STUN server is set and TURN fails ({ways.turn_failure})", stun_row
        return "no STUN server is set, so that a peer beyond a NAT cannot be reached directly", stun_row
    if ways.has_turn:
        reason = "STUN and TURN answer here, so UDP is held up on the way to that peer or on its side"
        return reason, "Run pgpeer doctor on the other side."
    if ways.mapping == "symmetric":
        if ways.turn_failure:
            reason = f"this side's NAT is symmetric and TURN fails ({ways.turn_failure})"
            return reason, "Mend the TURN server."
        reason = "this side's NAT is symmetric and there is no TURN server"
        return reason, "Enter a TURN server in peer.stun_server, or let the hub give one (--turn-url)."
    reason = "STUN answers here, so the other side's NAT is symmetric or lets no UDP through"
    return reason, "Run pgpeer doctor on the other side; a TURN server would help if its NAT is symmetric."


def _unlinked(peer: str, row: Row, ways: Ways) -> Finding:
    if row["is_online"]:
        last = f" The last attempt failed in {row['last_failure']}" if row["last_failure"] else ""
        reason, remedy = _why_nothing(ways)
        detail = f"{peer} is online but not linked: {reason}.{last}"
        return Finding("path", "warn", "not_linked", detail, remedy)
    if not ways.has_hub:
        return Finding(
            "path",
            "warn",
            "not_linked",
            f"{peer} is not linked, and no hub answers at which to find it.",
            "Start the hub; addresses that are known are tried meanwhile.",
        )
    return Finding(
        "path",
        "warn",
        "peer_offline",
        f"{peer} is not linked: it is at none of the hubs now.",
        "Its worker must run, and use one of the same hubs.",
    )


def _why_nothing(ways: Ways) -> tuple[str, str]:
    if not ways.has_relay:
        reason, remedy = why_relayed(ways)
        return f"{reason}, and no hub relays", remedy
    return "it is being tried", "Wait half a minute, then look again; peer.event tells how it goes."


def known_ways(
    findings: Sequence[Finding], mapping: Mapping | None, *, has_hub: bool, has_relay: bool
) -> Ways:
    """Sums up what the checks of the network have found."""
    turn = [one for one in findings if one.check == "turn" and one.kind != "no_turn"]
    bad = next((one.kind.replace("_", " ") for one in turn if one.state == "fail"), "")
    return Ways(mapping, any(one.state == "ok" for one in turn), bad, has_hub, has_relay)
